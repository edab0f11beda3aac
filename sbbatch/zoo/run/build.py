"""From settings to objects: environments and models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from sbbatch.envs.ale import make_ale_vec_env
from sbbatch.envs.atari import atari_game, get_protocol
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue, UserError, check_int
from sbbatch.files import find_file
from sbbatch.persistence.normalization import load_normalization, save_normalization, statistics_of
from sbbatch.settings.imports import ClassSpec
from sbbatch.settings.resolution import (
    ATARI_WRAPPER,
    COMMAND_LINE,
    Settings,
    constructor_values,
    run_protocol,
    run_value,
    with_origin,
)
from sbbatch.zoo.run.environment import EnvRecipe

VEC_ENVS: dict[str, type[DummyVecEnv] | type[SubprocVecEnv]] = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}
# Making more would seem to hang, and processes without number take the machine with them.
ENV_LIMITS = {"dummy": 16_384, "subproc": 512}


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
    env_kwargs: dict[str, Any] | None = None,
    env_wrapper: Sequence[ClassSpec] = (),
    vec_env_wrapper: Sequence[ClassSpec] = (),
    vec_env: str = "dummy",
    packages: Sequence[str] = (),
) -> VecEnv:
    """
    Build the environments of a run.

    :param env_id: environment
    :param n_envs: how many, side by side
    :param protocol: Atari protocol (``None``: ``dopamine``)
    :param seed: of the first environment; the others get the next numbers
    :param training: ``False``: whole episodes, raw rewards
    :param normalize: ``VecNormalize``'s arguments, ``{}`` for its defaults; ``None``: none
    :param frame_stack: observations per stack; an Atari game has its stack of 4 by itself
    :param max_steps: agent steps after which an episode is cut off (``None``: the environment's own limit; if it has
        none, evaluation episodes end after :data:`~sbbatch.zoo.run.environment.UNLIMITED_STEPS`)
    :param env_kwargs: keyword arguments of each environment
    :param env_wrapper: around each environment, the innermost first
    :param vec_env_wrapper: around all of them, the innermost first
    :param vec_env: ``"dummy"``: one after the other, or ``"subproc"``: each in a process of its own; Atari games have
        threads of their own
    :param packages: modules that register environments, to be imported where environments are made
    :raises UserError: no such environment, or settings it cannot have
    """
    env_id = canonical_id(env_id)
    game = atari_game(env_id)
    check_int("n_envs", n_envs, 1, ENV_LIMITS[vec_env])
    env: VecEnv
    if game is not None:
        _check_ale(env_wrapper, env_kwargs, normalize)
        rules = get_protocol(protocol or "dopamine")
        if max_steps is not None:
            rules = replace(rules, max_frames=min(rules.max_frames, max_steps * rules.frame_skip))
        env = make_ale_vec_env(game, n_envs, protocol=rules, seed=seed, training=training)
        stack = env.observation_space.shape[0] if env.observation_space.shape else None
        if frame_stack not in (None, stack):
            raise InvalidValue(f"frame_stack: got {frame_stack}, but Atari games come as stacks of {stack}; remove it")
        for wrapper in vec_env_wrapper:
            env = wrapper.make(env)
        return env
    if protocol is not None:
        raise InvalidValue(f"atari_protocol: got '{protocol}', but {env_id} is no Atari game; remove it")
    recipe = EnvRecipe(env_id, training, max_steps, env_kwargs or {}, tuple(env_wrapper), tuple(packages))
    if vec_env == "subproc":
        recipe.wrap(recipe.make()).close()  # what is wrong with it would end the other process without a word
        recipe = replace(recipe, apart=True)
    env = make_vec_env(recipe.make, n_envs=n_envs, seed=seed, wrapper_class=recipe.wrap, vec_env_cls=VEC_ENVS[vec_env])
    for wrapper in vec_env_wrapper:
        env = wrapper.make(env)
    if frame_stack not in (None, 1):
        env = VecFrameStack(env, frame_stack)
    if normalize is None:
        return env
    # Outermost: SB3 asks it for the raw observations that go into the replay buffer, and those must be stacked.
    return VecNormalize(env, training=training, **(normalize if training else {**normalize, "norm_reward": False}))


def run_env(
    env_id: str,
    cls: type,
    settings: Settings,
    seed: int,
    training: bool,
    n_envs: int,
    max_steps: int | None = None,
    **more: Any,
) -> VecEnv:
    """
    The environments that a run's settings ask for.

    :param env_id: environment
    :param cls: the algorithm, which knows its Atari protocol
    :param settings: the resolved settings
    :param seed: of the first environment
    :param training: ``False``: the evaluation environments
    :param n_envs: how many
    :param max_steps: agent steps after which an episode is cut off (``None``: the environment's own limit)
    :param more: ``vec_env`` and ``packages``, see :func:`make_env`
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
        env_kwargs=env_arguments(settings, training),
        env_wrapper=run_value(settings, "env_wrapper") or (),
        vec_env_wrapper=run_value(settings, "vec_env_wrapper") or (),
        **more,
    )


def env_arguments(settings: Settings, training: bool) -> dict[str, Any] | None:
    """Keyword arguments of the environments; those for evaluation have the same unless they are given their own."""
    own = None if training else run_value(settings, "eval_env_kwargs")
    return run_value(settings, "env_kwargs") if own is None else own


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
        # The commonest mistake is the folder of a run.
        models = sorted(path.glob("*.zip"), key=lambda model: model.stat().st_mtime)
        folder = ", which is a folder" if path.is_dir() else ""
        raise InvalidValue(f"{error}{folder}{f'; did you mean {models[-1]}?' if models else ''}") from None


def default_policy(observation_space: spaces.Space) -> str:
    """The policy that fits what is observed."""
    if isinstance(observation_space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(observation_space) else "MlpPolicy"


def require_discrete(env_id: str, action_space: spaces.Space) -> spaces.Discrete:
    """The action space, or an ``InvalidValue`` if its actions are not numbered."""
    if not isinstance(action_space, spaces.Discrete):
        raise InvalidValue(f"{env_id} has the action space {action_space}, expected a Discrete one")
    return action_space


def save_model(model: BaseAlgorithm, path: Path) -> None:
    """Save a model and its normalization; the statistics first, so that no model is ever without them."""
    assert model.env is not None
    save_normalization(statistics_of(path), model.env)
    model.save(path)


def _check_ale(
    env_wrapper: Sequence[ClassSpec], env_kwargs: dict[str, Any] | None, normalize: dict[str, Any] | None
) -> None:
    """What ALE's C++ environments cannot have."""
    for wrapper in env_wrapper:
        if wrapper.path != ATARI_WRAPPER or wrapper.kwargs:
            raise InvalidValue(
                f"{wrapper.where}: got {wrapper.path}, but no gymnasium wrapper goes around ALE's C++ environments, in "
                "which Atari games are played; choose their preprocessing with atari_protocol"
            )
    if env_kwargs:
        raise InvalidValue(f"env_kwargs: got {env_kwargs}, but ALE's C++ environments take none; see atari_protocol")
    if normalize is not None:
        raise InvalidValue("normalize: Atari frames are divided by 255 inside the network; remove normalize")
