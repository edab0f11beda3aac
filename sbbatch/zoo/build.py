"""From settings to objects: the environment, the model, the callbacks."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from sbbatch.envs.ale import make_ale_vec_env
from sbbatch.envs.atari import atari_game, get_protocol
from sbbatch.envs.make import canonical_id, make_gym_env
from sbbatch.errors import InvalidValue, UserError
from sbbatch.files import atomic_write, find_file
from sbbatch.zoo.config import COMMAND_LINE, Settings, constructor_values, run_value, with_origin
from sbbatch.zoo.progress import warn

# An evaluation must end; the longest limit of Gymnasium's own environments without ALE is 2,000.
UNLIMITED_STEPS = 10_000
_MOMENTS = ("mean", "var", "count")  # of running statistics


def make_env(
    env_id: str,
    *,
    n_envs: int = 1,
    protocol: str | None = None,
    seed: int | None = None,
    training: bool = True,
    normalize: dict[str, Any] | None = None,
    frame_stack: int | None = None,
    max_steps: int | None = None,
) -> VecEnv:
    """
    Build the environments of a run.

    :param env_id: environment
    :param n_envs: how many, side by side
    :param protocol: Atari protocol (``None``: ``dopamine``)
    :param seed: of the first environment; the others get the next numbers
    :param training: ``False``: whole games, raw rewards
    :param normalize: ``VecNormalize``'s arguments, ``{}`` for its defaults; ``None``: none
    :param frame_stack: observations per stack; an Atari game has its stack of 4 by itself
    :param max_steps: agent steps after which a game is cut off (``None``: the environment's own limit; if it has none,
        evaluation games end after :data:`UNLIMITED_STEPS`)
    :raises UserError: no such environment, or settings it cannot have
    """
    env_id = canonical_id(env_id)
    game = atari_game(env_id)
    if game is not None:
        return _make_ale(game, n_envs, protocol, seed, training, normalize, frame_stack, max_steps)
    if protocol is not None:
        raise InvalidValue(f"atari_protocol: got '{protocol}', but {env_id} is no Atari game; remove it")
    env: VecEnv = make_vec_env(partial(_make_single, env_id, training, max_steps), n_envs=n_envs, seed=seed)
    if frame_stack not in (None, 1):
        env = VecFrameStack(env, frame_stack)
    if normalize is None:
        return env
    # Outermost: SB3 asks it for the raw observations that go into the replay buffer, and those must be stacked.
    return VecNormalize(env, training=training, **(normalize if training else {**normalize, "norm_reward": False}))


def run_env(
    env_id: str, cls: type, settings: Settings, seed: int, training: bool, n_envs: int, max_steps: int | None = None
) -> VecEnv:
    """
    The environments that a run's settings ask for.

    :param env_id: environment
    :param cls: the algorithm, which knows its Atari protocol
    :param settings: the resolved settings
    :param seed: of the first environment
    :param training: ``False``: the evaluation environments
    :param n_envs: how many
    :param max_steps: agent steps after which a game is cut off (``None``: the environment's own limit)
    """
    normalize = run_value(settings, "normalize")
    if normalize is not None and "gamma" in settings:
        # As in the zoo: rewards are scaled by returns under the agent's own discount.
        normalize = {"gamma": settings["gamma"].value, **normalize}
    return make_env(
        env_id,
        n_envs=n_envs,
        protocol=run_protocol(env_id, cls, settings),
        seed=seed,
        training=training,
        normalize=normalize,
        frame_stack=run_value(settings, "frame_stack"),
        max_steps=max_steps,
    )


def run_protocol(env_id: str, cls: Any, settings: Settings) -> str | None:
    """
    The Atari protocol of a run: what the settings say, else the algorithm's own.

    :param env_id: environment; ``None`` is returned for anything but an Atari game
    :param cls: the algorithm
    :param settings: the resolved settings
    """
    own = cls.atari_protocol if atari_game(env_id) is not None else None
    return run_value(settings, "atari_protocol") or own


def make_model(cls: Any, env: VecEnv, settings: Settings, seed: int, device: str, verbose: int) -> BaseAlgorithm:
    """
    Build a new model.

    :param cls: the algorithm
    :param env: its environments
    :param settings: the resolved settings
    :param seed: of weights and exploration
    :param device: torch device
    :param verbose: SB3's level
    :raises UserError: the constructor's own complaint, with the value's origin in front
    """
    policy = run_value(settings, "policy") or default_policy(env.observation_space)
    try:
        return cls(policy, env, seed=seed, device=device, verbose=verbose, **constructor_values(settings))
    except UserError as error:
        raise type(error)(with_origin(str(error), settings)) from error


def load_model(
    cls: Any, path: Path, env: VecEnv, settings: Settings, device: str, seed: int | None = None
) -> BaseAlgorithm:
    """
    Load a model to train on; only what the command line names replaces what the model was trained with.

    :param cls: the algorithm
    :param path: the model's zip file
    :param env: its environments
    :param settings: the resolved settings
    :param device: torch device
    :param seed: a new seed (``None``: the model's own)
    """
    named = {key: value for key, value in constructor_values(settings).items() if settings[key].origin == COMMAND_LINE}
    try:
        model = cls.load(path, env=env, device=device, **named, **({} if seed is None else {"seed": seed}))
    except UserError as error:
        raise type(error)(with_origin(str(error), settings)) from error
    load_normalization(statistics_of(path), env)
    return model


def check_trained_in(trained_in: str | None, env_id: str, name: str) -> None:
    """
    Refuse another environment than a model was trained in: if the spaces agree, it would play there without complaint.

    :param trained_in: id of the environment it was trained in (``None``: unknown, and anything goes)
    :param env_id: id of the environment it is meant for
    :param name: of the model, for the message
    :raises InvalidValue: they differ
    """
    if trained_in is not None and (atari_game(trained_in) or trained_in) != (atari_game(env_id) or env_id):
        raise InvalidValue(f"{name} was trained in {trained_in}, not in {env_id}; give --env {trained_in}")


def model_file(path: Path) -> Path:
    """
    The file of a model.

    :param path: as typed, with or without ``.zip``
    :raises InvalidValue: there is none
    """
    try:
        return find_file(path, ".zip", "model")
    except FileNotFoundError as error:
        raise InvalidValue(str(error)) from None


def default_policy(observation_space: spaces.Space) -> str:
    """
    The policy that fits what is observed.

    :param observation_space: of one environment
    """
    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"


def require_discrete(env_id: str, action_space: spaces.Space) -> spaces.Discrete:
    """
    The action space, if a value-based agent can use it.

    :param env_id: environment
    :param action_space: of one environment
    :raises InvalidValue: the actions are not numbered
    """
    if not isinstance(action_space, spaces.Discrete):
        raise InvalidValue(f"{env_id} has the action space {action_space}, expected a Discrete one")
    return action_space


def save_model(model: BaseAlgorithm, path: Path) -> None:
    """
    Save a model and its normalization; the statistics first, so that no model is ever without them.

    :param model: what learns, with its environments
    :param path: the model's zip file
    """
    assert model.env is not None
    save_normalization(statistics_of(path), model.env)
    model.save(path)


def statistics_of(model: Path) -> Path:
    """
    Where the normalization of a model is kept: statistics that went on changing belong to a later model.

    :param model: ``<env>.zip``, ``best_model.zip`` or ``rl_model_<n>_steps.zip``
    """
    name = "vecnormalize"
    if model.stem == "best_model":
        name = "best_vecnormalize"
    elif model.stem.startswith("rl_model_"):
        name = model.stem.replace("rl_model_", "rl_model_vecnormalize_", 1)
    return model.with_name(f"{name}.npz")


def save_normalization(path: Path, env: VecEnv) -> None:
    """
    Save ``VecNormalize``'s running statistics as plain arrays; SB3's own file is a pickle, which can run code.

    :param path: an ``.npz`` file
    :param env: environments; nothing is written if they are not normalized
    """
    arrays: dict[str, Any] = {}
    for name, statistics in _statistics(env).items():
        arrays |= {f"{name}.mean": statistics.mean, f"{name}.var": statistics.var, f"{name}.count": statistics.count}
    if arrays:
        with atomic_write(path) as file:
            np.savez(file, **arrays)


def load_normalization(path: Path, env: VecEnv) -> None:
    """
    Put saved statistics back.

    :param path: an ``.npz`` file
    :param env: environments; nothing happens if they are not normalized
    :raises InvalidValue: the file is missing or does not belong to these environments
    """
    statistics = _statistics(env)
    if not statistics:
        return
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            saved = {name: {what: arrays[f"{name}.{what}"] for what in _MOMENTS} for name in statistics}
    except FileNotFoundError:
        raise InvalidValue(f"no such file: {path}, which holds the statistics of this normalized environment") from None
    except (AttributeError, TypeError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        saved = {}
    fits = [
        np.shape(getattr(running, what)) == saved[name][what].shape and np.isfinite(saved[name][what]).all()
        for name, running in statistics.items()
        if name in saved
        for what in _MOMENTS
    ]
    if not (fits and all(fits)):
        raise InvalidValue(f"{path}: damaged, or not the statistics of this normalized environment")
    for name, running in statistics.items():
        running.mean, running.var, running.count = saved[name]["mean"], saved[name]["var"], float(saved[name]["count"])


def _statistics(env: VecEnv) -> dict[str, RunningMeanStd]:
    inner: Any = env
    while inner is not None and not isinstance(inner, VecNormalize):
        inner = getattr(inner, "venv", None)
    if inner is None:
        return {}
    observed = getattr(inner, "obs_rms", None)
    named = observed if isinstance(observed, dict) else {"": observed} if observed is not None else {}
    return {"ret": inner.ret_rms, **{f"obs.{key}": value for key, value in named.items()}}


def _make_single(env_id: str, training: bool, max_steps: int | None) -> gym.Env:
    if max_steps is not None:
        return make_gym_env(env_id, max_episode_steps=max_steps)
    env = make_gym_env(env_id)
    unlimited = env.spec is not None and env.spec.max_episode_steps is None
    return LastLimit(env) if unlimited and not training else env


class LastLimit(TimeLimit):
    """
    Cuts off the games of an environment without a time limit, which a greedy agent may never end, and tells it once.

    :param env: one environment
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env, UNLIMITED_STEPS)
        self._told = False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        observation, reward, terminated, truncated, info = super().step(action)
        if truncated and not self._told:
            self._told = True
            name = self.spec.id if self.spec is not None else "the environment"
            warn(
                f"a game was cut off after {UNLIMITED_STEPS:,} agent steps, for {name} has no time limit; "
                "set one with --eval-max-steps, or --max-steps of enjoy"
            )
        return observation, reward, terminated, truncated, info


def _make_ale(
    game: str,
    n_envs: int,
    protocol: str | None,
    seed: int | None,
    training: bool,
    normalize: dict[str, Any] | None,
    frame_stack: int | None,
    max_steps: int | None,
) -> VecEnv:
    if normalize is not None:
        raise InvalidValue("normalize: Atari frames are divided by 255 inside the network; remove normalize")
    rules = get_protocol(protocol or "dopamine")
    if max_steps is not None:
        rules = replace(rules, max_frames=min(rules.max_frames, max_steps * rules.frame_skip))
    env = make_ale_vec_env(game, n_envs, protocol=rules, seed=seed, training=training)
    stack = env.observation_space.shape[0] if env.observation_space.shape else None
    if frame_stack not in (None, stack):
        raise InvalidValue(f"frame_stack: got {frame_stack}, but Atari games come as stacks of {stack}; remove it")
    return env
