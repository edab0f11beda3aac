"""An environment as an agent sees it and as people do."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation, HumanRendering
from stable_baselines3.common.atari_wrappers import ClipRewardEnv
from stable_baselines3.common.monitor import Monitor

from sbbatch.envs.atari import AtariProtocol, atari_game, get_protocol
from sbbatch.envs.make import canonical_id
from sbbatch.envs.stuck import StuckDetector, describe_stuck
from sbbatch.errors import InvalidValue
from sbbatch.settings.imports import ClassSpec
from sbbatch.zoo.console.progress import warn
from sbbatch.zoo.run.build import EnvRecipe, check_trained_in

_ATARI_FRAMES_PER_SECOND = 60
_STEPS_PER_SECOND = 15  # of environments that do not say


class RenderedEnv:
    """
    One environment that shows an agent what it was trained on, and us the colours.

    :param seed: of the first episode
    :param protocol: Atari protocol (``None``: ``dopamine``); ignored for other environments
    :param window: show the colours in a window as well
    :param env_wrapper: around it, the innermost first
    :param normalize: what the agent's observations go through
    :raises InvalidValue: the environment cannot be drawn here
    """

    def __init__(
        self,
        env_id: str,
        seed: int | None,
        protocol: str | AtariProtocol | None = None,
        window: bool = False,
        env_kwargs: dict[str, Any] | None = None,
        env_wrapper: Sequence[ClassSpec] = (),
        normalize: Callable[[np.ndarray], np.ndarray] = lambda observation: observation,
    ) -> None:
        game = atari_game(env_id)
        self._seed, self._normalize = seed, normalize
        if game is not None:
            rules = get_protocol(protocol or "dopamine")
            # The monitor knows the raw rewards, also where a wrapper plays several steps inside one.
            self.env: gym.Env = Monitor(_atari_env(game, rules))
            self._monitor = self.env
            self.steps_per_second = round(_ATARI_FRAMES_PER_SECOND / rules.frame_skip)
        else:
            kwargs = {**(env_kwargs or {}), "render_mode": "rgb_array"}
            recipe = EnvRecipe(env_id, kwargs=kwargs, wrappers=tuple(env_wrapper))
            self._monitor = Monitor(recipe.make())
            self.env = recipe.wrap(self._monitor)
            self.steps_per_second = int(self.env.metadata.get("render_fps") or _STEPS_PER_SECOND)
        if window:
            require_display()
            self.env.metadata = {**self.env.metadata, "render_fps": self.steps_per_second}
            self.env = HumanRendering(self.env)

    def check_fits(self, model: Any, env_id: str) -> None:
        """Refuse a model of another environment, which would play without complaint, or fail inside the network."""
        check_trained_in(getattr(model, "env_id", None), canonical_id(env_id), "the model")
        seen, played = tuple(self.env.observation_space.shape or ()), self.env.action_space
        expected, actions = getattr(model, "observation_space", None), getattr(model, "action_space", None)
        if expected is not None and tuple(getattr(expected, "whole_shape", expected.shape) or ()) != seen:
            raise InvalidValue(f"the model observes shape {expected.shape}, but {env_id} shows shape {seen}")
        if actions is not None and actions != played:
            raise InvalidValue(f"the model has the actions {actions}, but {env_id} has {played}")

    def reset(self) -> np.ndarray:
        """Start an episode; returns one observation."""
        observation, _ = self.env.reset(seed=self._seed)
        self._seed = None  # the next episode is another one
        self._n_rewards = 0
        return self._normalize(observation)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        """One agent step: observation, raw reward, whether the episode is over."""
        if isinstance(self.env.action_space, gym.spaces.Discrete):
            action = int(np.asarray(action).item())
        observation, _, terminated, truncated, _ = self.env.step(action)
        raw = self._monitor.rewards[self._n_rewards :]
        self._n_rewards += len(raw)
        return self._normalize(observation), float(sum(raw)), bool(terminated or truncated)

    def frame(self) -> np.ndarray:
        """The picture, ``(height, width, 3)`` uint8."""
        try:
            with _no_window_is_sought():
                picture = self.env.render()
        except gym.error.DependencyNotInstalled as error:
            raise InvalidValue(f"this environment cannot be drawn: {' '.join(str(error).split())}") from None
        if picture is None:
            raise InvalidValue("this environment cannot be drawn: it gives no picture")
        return np.asarray(picture, dtype=np.uint8)


def play_episode(
    model: Any,
    env: RenderedEnv,
    max_steps: int,
    deterministic: bool,
    stuck_steps: int,
    seen: Callable[[], Any] = lambda: None,
) -> tuple[float, int]:
    """
    Play one episode, of at most ``max_steps`` agent steps, or until a greedy agent is stuck.

    :param stuck_steps: see :class:`~sbbatch.envs.stuck.StuckDetector`; -1: never
    :param seen: called whenever there is a new picture
    :return: raw return and agent steps
    """
    total, steps, over, stuck = 0.0, 0, False, StuckDetector(stuck_steps if deterministic else -1)
    observation = env.reset()
    seen()
    while not over and steps < max_steps:
        action, _ = model.predict(observation, deterministic=deterministic)
        observation, reward, over = env.step(action)
        total += reward
        steps += 1
        seen()
        if not over and stuck(observation, reward):
            warn(describe_stuck(stuck_steps))
            break
    return total, steps


def require_display() -> None:
    """``InvalidValue`` if there is no display to open a window on, or pygame is missing."""
    if not has_display():
        raise InvalidValue(
            "there is no display to open a window on; play with --no-render, or write a film with sbbatch record"
        )
    if importlib.util.find_spec("pygame") is None:
        raise InvalidValue("a window needs pygame; run pip install 'sbbatch[record]', or play with --no-render")


def has_display() -> bool:
    """Whether windows can be opened here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))


@contextmanager
def _no_window_is_sought() -> Iterator[None]:
    """Even to draw into memory pygame looks for a window system, and SDL calls it an error that there is none."""
    if has_display():
        yield
        return
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    try:
        yield
    finally:
        del os.environ["SDL_VIDEODRIVER"]


@contextmanager
def ends_when_asked() -> Iterator[None]:
    """In here SIGTERM is an exit, and half-made files go; SDL would take it for the closing of a window and go on."""

    def end(signum: int, _: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


class GameStart(gym.Wrapper):
    """No-ops, then FIRE, before anything is seen, as in AleVecEnv; Gymnasium's wrapper plays at least one no-op."""

    def __init__(self, env: gym.Env, protocol: AtariProtocol) -> None:
        super().__init__(env)
        self._noop_max = protocol.noop_max
        self._fire = protocol.fire_on_reset and "FIRE" in env.unwrapped.get_action_meanings()  # type: ignore[attr-defined]

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start the game; the observation is older than the screen, which ``AtariPreprocessing`` reads by itself."""
        result = self.env.reset(**kwargs)
        ale = self.unwrapped.ale  # type: ignore[attr-defined]
        n_noops = int(np.random.default_rng(kwargs.get("seed")).integers(self._noop_max + 1))
        for action in [0] * n_noops + [1] * self._fire:
            ale.act(action)
            if ale.game_over():
                ale.reset_game()
        return result


def training_screens(env: gym.Env, protocol: str) -> gym.Env:
    """
    Wrappers that make Gymnasium's environment of a game what agents train on, for libraries that build their own, but
    for the stack: its screens are ``(84, 84, 1)``.

    :param env: a game without frame skip, with the protocol's sticky actions
    :param protocol: name of an Atari protocol
    """
    rules = get_protocol(protocol)
    env = AtariPreprocessing(
        GameStart(env, rules),
        noop_max=0,
        frame_skip=rules.frame_skip,
        terminal_on_life_loss=rules.life_loss_terminal,
        grayscale_newaxis=True,
    )
    return ClipRewardEnv(env) if rules.clip_rewards else env


def _atari_env(game: str, protocol: AtariProtocol) -> gym.Env:
    """The same screens as AleVecEnv shows, from Gymnasium's wrapper: only that way there are colours."""
    import ale_py

    gym.register_envs(ale_py)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner
    env = gym.make(
        f"ALE/{game}-v5",
        frameskip=1,
        repeat_action_probability=protocol.sticky_actions,
        full_action_space=protocol.full_action_space,
        max_num_frames_per_episode=protocol.max_frames,
        render_mode="rgb_array",
    )
    env = AtariPreprocessing(GameStart(env, protocol), noop_max=0, frame_skip=protocol.frame_skip)
    return FrameStackObservation(env, protocol.frame_stack, padding_type="zero")
