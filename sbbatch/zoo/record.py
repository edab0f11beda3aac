"""One game played by a trained agent, as a GIF."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AtariPreprocessing
from stable_baselines3.common.monitor import Monitor

from sbbatch.algorithms.persistence import trained_environment
from sbbatch.envs.atari import PROTOCOLS, AtariProtocol, atari_game, get_protocol
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file
from sbbatch.zoo.build import (
    check_trained_in,
    env_arguments,
    load_normalization,
    model_file,
    run_env,
    run_protocol,
    statistics_of,
)
from sbbatch.zoo.cli import MAX_SEED, Parser, guarded, torch_device, whole_number
from sbbatch.zoo.config import require_algorithm, resolve, run_value
from sbbatch.zoo.folders import run_of
from sbbatch.zoo.gym_env import EnvRecipe
from sbbatch.zoo.imports import WRAPPERS, Imported, allow_imports, import_environments
from sbbatch.zoo.options import add_import_options

MAX_GIF_BYTES = 3_000_000
# Frames kept while playing; beyond that every second one is dropped, so memory stays bounded in long games.
_MAX_FRAMES = 1200
_ACTIONS_PER_SECOND = 15  # Atari: 60 frames per second, 4 per agent step


class RecordedGame:
    """
    A game that shows the agent what it was trained on and us the colours.

    :param env_id: environment
    :param seed: of the environment
    :param protocol: Atari protocol; ignored for other environments
    :param kwargs: keyword arguments of the environment
    :param wrappers: around it, the innermost first
    :raises InvalidValue: the environment cannot be drawn here
    """

    def __init__(
        self,
        env_id: str,
        seed: int | None,
        protocol: str | AtariProtocol,
        kwargs: dict[str, Any] | None = None,
        wrappers: Sequence[Imported] = (),
    ) -> None:
        game = atari_game(env_id)
        self._stack: deque[np.ndarray] | None = None
        self._monitor: Monitor | None = None  # of what happens inside the wrappers
        self._seed = seed
        if game is not None:
            chosen = get_protocol(protocol)
            self.env = _atari_env(game, chosen)
            self._stack = deque(maxlen=chosen.frame_stack)
        else:
            recipe = EnvRecipe(env_id, kwargs={**(kwargs or {}), "render_mode": "rgb_array"}, wrappers=tuple(wrappers))
            self._monitor = Monitor(recipe.make())
            self.env = recipe.wrap(self._monitor)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Of one observation, stacked."""
        shape = tuple(self.env.observation_space.shape or ())
        return shape if self._stack is None else (self._stack.maxlen or 1, *shape)

    def reset(self) -> np.ndarray:
        """Start the game; returns one observation."""
        observation, _ = self.env.reset(seed=self._seed)
        self._n_rewards = 0
        if self._stack is None:
            return observation
        # As in AleVecEnv: black screens before the first one.
        self._stack.extend([np.zeros_like(observation)] * (self._stack.maxlen or 1))
        return self._pushed(observation)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool]:
        """One agent step: observation, raw reward, whether the game is over."""
        numbered = isinstance(self.env.action_space, gym.spaces.Discrete)
        observation, reward, terminated, truncated, _ = self.env.step(
            int(np.asarray(action).item()) if numbered else action
        )
        over = bool(terminated or truncated)
        shown = observation if self._stack is None else self._pushed(observation)
        return shown, float(reward) if self._monitor is None else self._raw_reward(), over

    def _raw_reward(self) -> float:
        """Of this step; a wrapper may have played several inside."""
        assert self._monitor is not None
        rewards = self._monitor.rewards[self._n_rewards :]
        self._n_rewards += len(rewards)
        return float(sum(rewards))

    def frame(self) -> np.ndarray:
        """The picture, ``(height, width, 3)`` uint8."""
        try:
            picture = self.env.render()
            if picture is None:
                raise InvalidValue("this environment cannot be drawn: it gives no picture")
            return np.asarray(picture, dtype=np.uint8)
        except gym.error.DependencyNotInstalled as error:
            raise InvalidValue(f"this environment cannot be drawn: {' '.join(str(error).split())}") from None

    def _pushed(self, screen: np.ndarray) -> np.ndarray:
        assert self._stack is not None
        self._stack.append(screen)
        return np.stack(self._stack)


class GameStart(gym.Wrapper):
    """
    No-ops, then FIRE, before anything is seen, as in AleVecEnv; Gymnasium's own wrapper plays at least one no-op.

    :param env: one Atari game
    :param protocol: what its games begin with
    """

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


class NormalizedPlayer:
    """
    A model to which the game's observations are shown as it was trained to see them.

    :param model: what plays
    :param env: normalized environments, with the model's statistics
    """

    def __init__(self, model: Any, env: Any) -> None:
        self._model, self._env = model, env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def predict(self, observation: Any, **options: Any) -> Any:
        """As the model's."""
        return self._model.predict(self._env.normalize_obs(observation), **options)


class ThinningFrames:
    """
    At most ``limit`` frames, evenly spread over a game whose length is not known beforehand.

    :param limit: frames to keep
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.stride = 1
        self.frames: list[np.ndarray] = []
        self._seen = 0

    def add(self, game: RecordedGame) -> None:
        """Keep the game's picture if its turn has come."""
        if self._seen % self.stride == 0:
            if len(self.frames) == self.limit:
                self.frames = self.frames[::2]
                self.stride *= 2
            if self._seen % self.stride == 0:
                self.frames.append(game.frame())
        self._seen += 1


def record(
    model: Any,
    env_id: str,
    out: Path,
    *,
    seed: int | None = 0,
    max_steps: int = 27_000,
    protocol: str = "dopamine",
    env_kwargs: dict[str, Any] | None = None,
    env_wrapper: Sequence[Imported] = (),
) -> tuple[float, int]:
    """
    Play one whole game greedily and write it as a GIF of at most 3 MB.

    :param model: anything with SB3's ``predict``
    :param env_id: environment
    :param out: the GIF
    :param seed: of the environment
    :param max_steps: agent steps after which the recording ends
    :param protocol: Atari protocol
    :param env_kwargs: keyword arguments of the environment
    :param env_wrapper: around it, the innermost first
    :return: raw return and agent steps of the game
    :raises UserError: the environment cannot be drawn, or the file not written
    """
    _require_pillow()
    out = output_file(out, ".gif")
    game = RecordedGame(canonical_id(env_id), seed, protocol, env_kwargs, env_wrapper)
    _check_fits(model, game, env_id)
    frames = ThinningFrames(_MAX_FRAMES)
    total, steps, over = 0.0, 0, False
    observation = game.reset()
    frames.add(game)
    while not over and steps < max_steps:
        action, _ = model.predict(observation, deterministic=True)
        observation, reward, over = game.step(action)
        total += reward
        steps += 1
        frames.add(game)
    game.env.close()
    write_gif(frames.frames, out, frames.stride)
    return total, steps


def write_gif(frames: list[np.ndarray], out: Path, stride: int = 1) -> None:
    """
    Write frames as a GIF below 3 MB; what does not fit is thinned out.

    A thinned GIF plays faster than the game, at most four times, and then skips.

    :param frames: ``(height, width, 3)`` uint8 each
    :param out: the file
    :param stride: agent steps from one frame to the next
    :raises UnwritableFile: the file cannot be written
    """
    for data in _encodings(frames, stride):
        if len(data) <= MAX_GIF_BYTES:
            break
    with atomic_write(out) as file:
        file.write(data)


def _encodings(frames: list[np.ndarray], stride: int) -> Iterator[bytes]:
    """The GIF with all frames, with every second one, every fourth, ... until one frame is left."""
    while True:
        yield _encode(frames, stride)
        if len(frames) == 1:
            return
        frames, stride = frames[::2], stride * 2


def _encode(frames: list[np.ndarray], stride: int) -> bytes:
    from PIL import Image

    # One palette for the whole game, without dithering: pixels that do not change then cost nothing.
    sample = np.concatenate(frames[:: max(len(frames) // 8, 1)])
    palette = Image.fromarray(sample).quantize(colors=128)
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    milliseconds = max(1000 * stride // _ACTIONS_PER_SECOND // min(stride, 4), 20)
    buffer = io.BytesIO()
    images[0].save(
        buffer, format="GIF", save_all=True, append_images=images[1:], duration=milliseconds, loop=0, optimize=False
    )
    return buffer.getvalue()


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
    return AtariPreprocessing(GameStart(env, protocol), noop_max=0, frame_skip=protocol.frame_skip)


def _check_fits(model: Any, game: RecordedGame, env_id: str) -> None:
    """A model of another game would play this one without complaint, or fail deep inside the network."""
    check_trained_in(getattr(model, "env_id", None), canonical_id(env_id), "the model")
    seen, played = game.observation_shape, game.env.action_space
    expected, actions = getattr(model, "observation_space", None), getattr(model, "action_space", None)
    if expected is not None and tuple(expected.shape or ()) != seen:
        raise InvalidValue(f"the model observes shape {expected.shape}, but {env_id} shows shape {seen}")
    if actions is not None and actions != played:
        raise InvalidValue(f"the model has the actions {actions}, but {env_id} has {played}")


def _require_pillow() -> None:
    try:
        import PIL  # noqa: F401
    except ImportError:
        raise InvalidValue("GIFs need pillow; run pip install 'sbbatch[plots]'") from None


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch record --algo qrdqn --env ALE/Breakout-v5 -i model.zip -o game.gif``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    parser = Parser(prog="sbbatch record", description="Play one game with a trained agent and write a GIF.")
    parser.add_argument("--algo", default="qrdqn", help="algorithm")
    parser.add_argument("--env", required=True, help="environment")
    parser.add_argument("-i", "--trained-agent", type=Path, required=True, help="the model's zip file")
    parser.add_argument("-o", "--output", type=Path, default=Path("game.gif"), help="the GIF")
    parser.add_argument("--seed", type=whole_number(0, high=MAX_SEED), default=0, help="seed of the environment")
    parser.add_argument("-n", "--n-timesteps", type=whole_number(1), default=27_000, help="longest game, agent steps")
    protocols = ", ".join(PROTOCOLS)
    parser.add_argument("--protocol", help=f"Atari protocol: {protocols} (default: the run's, else the algorithm's)")
    parser.add_argument("--device", type=torch_device, default="auto", help="torch device")
    add_import_options(parser)
    args = parser.parse_args(argv)
    cls: Any = require_algorithm(args.algo)
    import_environments(args)
    env_id, path, out = canonical_id(args.env), model_file(args.trained_agent), output_file(args.output, ".gif")
    run = run_of(path, env_id)
    if run is None and statistics_of(path).exists():
        raise InvalidValue(f"{path} was trained on normalized observations; leave it in its run folder, which says how")
    settings = {} if run is None else resolve(args.algo, env_id, run_file=run.config)
    settings = allow_imports(settings, args.allow_import, WRAPPERS)
    if run_value(settings, "vec_env_wrapper"):
        raise InvalidValue(
            f"{path} was trained with a vec_env_wrapper, through which nothing is drawn; play it with enjoy"
        )
    model = cls.load(path, device=args.device)
    if run_value(settings, "normalize") is not None:
        env = run_env(env_id, cls, settings, args.seed, False, 1)
        load_normalization(statistics_of(path), env)
        model = NormalizedPlayer(model, env)
    protocol = args.protocol or trained_environment(path)[1] or run_protocol(env_id, cls, settings) or "dopamine"
    made: dict[str, Any] = {"env_kwargs": env_arguments(settings, False)}
    if atari_game(env_id) is None:
        made["env_wrapper"] = run_value(settings, "env_wrapper") or ()
    total, steps = record(model, env_id, out, seed=args.seed, max_steps=args.n_timesteps, protocol=protocol, **made)
    print(f"return {total:.1f} in {steps:,} agent steps: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
