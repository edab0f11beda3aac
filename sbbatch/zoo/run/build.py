"""From settings to environments, and which models fit them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecFrameStack, VecNormalize

from sbbatch.envs.ale import make_ale_vec_env
from sbbatch.envs.atari import atari_game, get_protocol
from sbbatch.envs.checks import check_environment
from sbbatch.envs.judged import JudgedEnv, Misbehavior
from sbbatch.envs.make import canonical_id, make_gym_env
from sbbatch.envs.readable import readable
from sbbatch.envs.stuck import StuckLimit
from sbbatch.errors import InvalidValue, UserError, check_int, reason_of
from sbbatch.files import find_file
from sbbatch.persistence.normalization import save_normalization, statistics_of
from sbbatch.settings.imports import ClassSpec, import_packages
from sbbatch.settings.resolution import ATARI_WRAPPER, Settings, run_protocol, run_value
from sbbatch.zoo.console.progress import warn, warn_once

VEC_ENVS: dict[str, type[DummyVecEnv] | type[SubprocVecEnv]] = {"dummy": DummyVecEnv, "subproc": SubprocVecEnv}
# Making more would seem to hang, and processes without number take the machine with them.
ENV_LIMITS = {"dummy": 16_384, "subproc": 512}
# An evaluation must end; the longest limit of Gymnasium's own environments without ALE is 2,000.
UNLIMITED_STEPS = 10_000


@dataclass(frozen=True)
class EnvRecipe:
    """What single environments are made from; see :func:`make_env`."""

    env_id: str
    training: bool = True
    max_steps: int | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    wrappers: tuple[ClassSpec, ...] = ()  # the innermost first
    packages: tuple[str, ...] = ()  # modules to import first, which register environments
    apart: bool = False  # made in a process of its own

    def make(self) -> gym.Env:
        """The environment without its wrappers, judged, or a ``UserError`` if it cannot be made."""
        if self.apart:
            # Ctrl-C reaches every process of a terminal; the one that learns decides when its environments end.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        import_packages(self.packages)
        limit = {} if self.max_steps is None else {"max_episode_steps": self.max_steps}
        try:
            env = (ApartEnv if self.apart else JudgedEnv)(make_gym_env(self.env_id, **self.kwargs, **limit))
        except (AssertionError, TypeError, ValueError) as error:
            if isinstance(error, UserError) or not self.kwargs:
                raise
            key = "env_kwargs" if self.training else "eval_env_kwargs or env_kwargs"
            why = reason_of(error)
            raise InvalidValue(f"{key}: {self.env_id} cannot be made with {self.kwargs} ({why})") from error
        unlimited = env.spec is not None and env.spec.max_episode_steps is None
        return LastLimit(env) if unlimited and not self.training and self.max_steps is None else env

    def wrap(self, env: gym.Env) -> gym.Env:
        """What :meth:`make` has made, in its wrappers, without texts."""
        for wrapper in self.wrappers:
            env = wrapper.make(env)
        env = readable(env, warn_once if self.training and not self.apart else None)
        check_environment(env)
        return env


class ApartEnv(JudgedEnv):
    """In a process of its own, which cannot tell ours what is wrong: it says so and ends, without a traceback."""

    def reset(self, **kwargs: Any) -> Any:
        """As of the environment."""
        with _last_words():
            return super().reset(**kwargs)

    def step(self, action: Any) -> Any:
        """As of the environment."""
        with _last_words():
            return super().step(action)


@contextmanager
def _last_words() -> Iterator[None]:
    try:
        yield
    except Misbehavior as error:
        raise SystemExit(f"sbbatch: error: {error}") from None


class LastLimit(TimeLimit):
    """Cuts off episodes that have no time limit, which a greedy agent may never end, and says so once."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env, UNLIMITED_STEPS)
        self._told = False

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's."""
        observation, reward, terminated, truncated, info = super().step(action)
        if truncated and self._elapsed_steps == UNLIMITED_STEPS and not self._told:  # not by the environment itself
            self._told = True
            warn(
                f"an episode without a time limit was cut off after {UNLIMITED_STEPS:,} agent steps; set a limit with "
                "--eval-max-steps, or --max-steps of enjoy"
            )
        return observation, reward, terminated, truncated, info


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
    stuck_steps: int = -1,
    tell: Callable[[str], Any] | None = warn,
    env_kwargs: dict[str, Any] | None = None,
    env_wrapper: Sequence[ClassSpec] = (),
    vec_env_wrapper: Sequence[ClassSpec] = (),
    vec_env: str = "dummy",
    packages: Sequence[str] = (),
) -> VecEnv:
    """
    Build the environments of a run.

    :param protocol: Atari protocol (``None``: ``dopamine``)
    :param seed: of the first environment; the others get the next numbers
    :param training: ``False``: whole episodes, raw rewards
    :param normalize: ``VecNormalize``'s arguments, ``{}`` for its defaults; ``None``: none
    :param frame_stack: observations per stack; an Atari game has its stack of 4 by itself
    :param max_steps: agent steps after which an episode is cut off (``None``: the environment's own limit; if it has
        none, evaluation episodes end after :data:`UNLIMITED_STEPS`)
    :param stuck_steps: agent steps after which an evaluation episode is cut off in which nothing happens any more, see
        :class:`~sbbatch.envs.stuck.StuckDetector`; -1: never
    :param tell: called with a sentence the first time that one is
    :param env_wrapper: around each environment, the innermost first
    :param vec_env_wrapper: around all of them, likewise
    :param vec_env: ``"dummy"`` or ``"subproc"``: each in a process of its own; Atari games have their own threads
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
    else:
        if protocol is not None:
            raise InvalidValue(f"atari_protocol: got '{protocol}', but {env_id} is no Atari game; remove it")
        recipe = EnvRecipe(env_id, training, max_steps, env_kwargs or {}, tuple(env_wrapper), tuple(packages))
        if vec_env == "subproc":
            recipe.wrap(recipe.make()).close()  # what is wrong with it would end the other process without a word
            recipe = replace(recipe, apart=True)
        kind = VEC_ENVS[vec_env]
        env = make_vec_env(recipe.make, n_envs=n_envs, seed=seed, wrapper_class=recipe.wrap, vec_env_cls=kind)
    if not training and stuck_steps != -1:
        env = StuckLimit(env, stuck_steps, tell)
    for wrapper in vec_env_wrapper:
        env = wrapper.make(env)
    if game is None and frame_stack not in (None, 1):
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
    """The environments that a run's settings ask for; all other arguments as those of :func:`make_env`."""
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


def check_trained_in(trained_in: str | None, env_id: str, name: str) -> None:
    """Refuse another environment than a model was trained in (``None``: unknown): with equal spaces it would play."""
    if trained_in is not None and (atari_game(trained_in) or trained_in) != (atari_game(env_id) or env_id):
        raise InvalidValue(f"{name} was trained in {trained_in}, not in {env_id}; give --env {trained_in}")


def model_file(path: Path) -> Path:
    """The file of a model, typed with or without ``.zip``; an ``InvalidValue`` if there is none."""
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
                f"{wrapper.where}: got {wrapper.path}, but ALE's C++ environments take no wrappers; choose the "
                "preprocessing of Atari games with atari_protocol"
            )
    if env_kwargs:
        raise InvalidValue(f"env_kwargs: got {env_kwargs}, but ALE's C++ environments take none; see atari_protocol")
    if normalize is not None:
        raise InvalidValue("normalize: Atari frames are divided by 255 inside the network; remove normalize")
