"""ALE's C++ vector environment behind SB3's ``VecEnv``.

The C++ side plays, skips, resizes and stacks. It is not asked to clip rewards (the raw return would be lost) nor to
end episodes at lost lives (in ale-py 0.12 ``episodic_life`` restarts the whole game and ``life_loss_info`` fills
``final_obs`` with garbage): both are done here, from the raw reward and the lives counter.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from sbbatch.arguments import Within, checked
from sbbatch.envs.atari import SCREEN_SIZE, AtariProtocol, get_protocol, make_ale_vector, require_atari_game
from sbbatch.errors import InvalidType, InvalidValue

MAX_ENVS = 128
MAX_THREADS = 256
# The C++ side takes seeds as 32-bit ints and reads -1 as "go on with the generator you have".
_SEED_RANGE = 2**31
_KEEP_GENERATOR = -1
_REMEDIES = {
    "new": "call reset() first",
    "stepping": "the last step is still under way; call step_wait() first",
    "closed": "this AleVecEnv is closed; make a new one",
}


class AleVecEnv(VecEnv):
    """
    One Atari game in ``n_envs`` copies, stepped by C++ threads.

    Observations are ``(n_envs, frame_stack, 84, 84)`` uint8, newest screen last, and belong to the caller; rewards are
    ``(n_envs,)`` float32. A game that ends restarts within the same step, as in SB3, and ``infos[i]`` holds

    - ``lives``: lives left in the game that the returned observation shows,
    - ``TimeLimit.truncated``: whether the time limit ended the game,
    - ``terminal_observation``: the last stack of the learning episode, if it is done,
    - ``episode``: ``{"r": raw return, "l": agent steps, "t": seconds since construction}`` of the whole game, only if
      the game is over. A lost life never yields one. Do not wrap this in SB3's ``VecMonitor``, which would overwrite
      it by clipped returns of learning episodes.

    If a lost life ends the learning episode, the game goes on from the same screen and the older planes of the stack
    stay black until they have been seen in the new episode, as in Dopamine and SB3's ``VecFrameStack``.

    :param game: any spelling that ``atari_game`` understands; the frame skip is the protocol's for all of them
    :param n_envs: number of copies, 1 to 128
    :param protocol: name or protocol, see ``PROTOCOLS``
    :param seed: seed of the first ``reset()``, copy ``i`` gets ``seed + i`` (``None``: random)
    :param num_threads: C++ threads (0: one per copy, at most one per core)
    :raises InvalidValue: unknown game or protocol, or a number out of range
    :raises InvalidType: a value of the wrong type
    """

    render_mode = None

    @checked
    def __init__(
        self,
        game: str,
        n_envs: Annotated[int, Within(1, MAX_ENVS)] = 1,
        protocol: str | AtariProtocol = "dopamine",
        seed: Annotated[int, Within(0, 2**32 - 1)] | None = None,
        num_threads: Annotated[int, Within(0, MAX_THREADS)] = 0,
    ) -> None:
        self.game = require_atari_game(game)
        self.protocol = get_protocol(protocol)
        self.frame_stack = self.protocol.frame_stack
        self._vector = make_ale_vector(self.game, n_envs, self.protocol, num_threads)
        # The wrapper's own step() allocates and asserts at each call what never changes.
        self._ale = self._vector.ale
        self._n_actions = int(self._vector.single_action_space.n)
        shape = (self.frame_stack, SCREEN_SIZE, SCREEN_SIZE)
        super().__init__(n_envs, spaces.Box(0, 255, shape, np.uint8), spaces.Discrete(self._n_actions))
        if seed is not None:
            self.seed(seed)
        self._paddle = np.ones(n_envs, dtype=np.float32)
        self._state = "new"
        self._was_seeded = False
        self._start_time = time.time()
        self._observations: np.ndarray | None = None
        self._begin_games()

    def _begin_games(self) -> None:
        self._lives = np.zeros(self.num_envs, dtype=np.int32)
        self._returns = np.zeros(self.num_envs, dtype=np.int64)
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)
        # Copies whose stack reaches back beyond a lost life: index -> screens seen since. Nearly always empty.
        self._young: dict[int, int] = {}

    def reset(self) -> np.ndarray:
        """
        Start a new game in every copy, with the seeds given by the constructor or by ``seed()``, if any.

        :return: the first stacks, ``(n_envs, frame_stack, 84, 84)`` uint8
        """
        if self._state == "closed":
            raise InvalidValue(f"reset: {_REMEDIES['closed']}")
        if self._state == "stepping":
            self._ale.recv()
        observations, ale_info = self._vector.reset(seed=self._next_seeds())
        self._begin_games()
        self._lives = ale_info["lives"]
        self.reset_infos = [{"lives": lives} for lives in self._lives.tolist()]
        self._reset_seeds()
        self._reset_options()
        self._state = "ready"
        self._observations = observations
        return observations

    def restart(self, index: int) -> np.ndarray:
        """Give up the game of one copy, and start a new one there: its first stack ``(frame_stack, 84, 84)`` uint8."""
        mask = np.arange(self.num_envs) == index
        observations, ale_info = self._vector.reset(options={"reset_mask": mask})
        self._returns[index] = self._lengths[index] = 0
        self._lives = ale_info["lives"]
        self._young.pop(index, None)
        self.reset_infos[index] = {"lives": int(self._lives[index])}
        return observations[index]

    def _next_seeds(self) -> np.ndarray:
        """Given seeds are used once; otherwise the first reset draws them and later ones leave the generators alone."""
        # Left to itself, ale-py seeds the sticky actions by the clock: copies made in the same second would be equal.
        # Not NumPy's global generator: an unseeded environment must not disturb a seeded program.
        drawn = np.random.default_rng().integers(0, _SEED_RANGE, self.num_envs)
        unseeded = np.full(self.num_envs, _KEEP_GENERATOR) if self._was_seeded else drawn
        self._was_seeded = True
        pairs = zip(self._seeds, unseeded.tolist(), strict=True)
        return np.array([default if seed is None else seed % _SEED_RANGE for seed, default in pairs])

    def step_async(self, actions: np.ndarray) -> None:
        """
        Let the games play on; the caller is free to compute until ``step_wait()``.

        :param actions: ``(n_envs,)`` integers, one per copy
        :raises InvalidType: not integers
        :raises InvalidValue: wrong shape, no such action, or called at the wrong time
        """
        if self._state != "ready":
            raise InvalidValue(f"step_async: {_REMEDIES[self._state]}")
        self._ale.send(self._check_actions(actions), self._paddle)
        self._state = "stepping"

    def _check_actions(self, actions: np.ndarray) -> np.ndarray:
        # The C++ side hangs for ever on a wrong action.
        array = np.asarray(actions)
        if array.dtype.kind not in "iu":
            raise InvalidType(f"actions: got dtype {array.dtype}, expected integers")
        if array.shape != (self.num_envs,):
            raise InvalidValue(f"actions: got shape {array.shape}, expected ({self.num_envs},), one per environment")
        if array.min() < 0 or array.max() >= self._n_actions:
            wrong = array[(array < 0) | (array >= self._n_actions)][0]
            limits = f"an int between 0 and {self._n_actions - 1}"
            raise InvalidValue(f"actions: got {wrong}, expected {limits}, the actions of {self.game}")
        return np.ascontiguousarray(array, dtype=np.int32)

    def step_wait(self) -> VecEnvStepReturn:
        """
        Finish the step begun by ``step_async()``.

        :return: observations, rewards, dones ``(n_envs,)`` bool, and infos as described above
        :raises InvalidValue: no step is under way
        """
        if self._state != "stepping":
            raise InvalidValue("step_wait: no step is under way; call step_async(actions) first")
        observations, raw_rewards, terminated, truncated, ale_info = self._ale.recv()
        self._state = "ready"
        lives, dones = ale_info["lives"], terminated | truncated
        self._returns += raw_rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{"lives": n, "TimeLimit.truncated": False} for n in lives.tolist()]
        lost = lives < self._lives if self.protocol.life_loss_terminal else None
        if dones.any():
            if lost is not None:
                # The counter already belongs to the next game.
                lost &= ~dones
            for index in np.flatnonzero(dones).tolist():
                infos[index]["TimeLimit.truncated"] = bool(truncated[index] and not terminated[index])
                self._end_game(index, ale_info["final_obs"][index].copy(), infos[index])
        if self._young:
            self._age(observations)
        if lost is not None and lost.any():
            dones |= lost
            for index in np.flatnonzero(lost).tolist():
                self._end_life(index, observations[index], infos[index])
        self._lives = lives
        self._observations = observations
        # ALE's rewards are whole numbers, for which the sign is the clipped value, and cheaper.
        rewards = np.sign(raw_rewards) if self.protocol.clip_rewards else raw_rewards
        return observations, rewards.astype(np.float32), dones, infos

    def _end_game(self, index: int, final: np.ndarray, info: dict[str, Any]) -> None:
        if index in self._young:
            final[: max(self.frame_stack - self._young.pop(index) - 1, 0)] = 0
        info["terminal_observation"] = final
        seconds = round(time.time() - self._start_time, 6)
        info["episode"] = {"r": float(self._returns[index]), "l": int(self._lengths[index]), "t": seconds}
        self._returns[index] = self._lengths[index] = 0
        self.reset_infos[index] = {"lives": info["lives"]}

    def _end_life(self, index: int, stack: np.ndarray, info: dict[str, Any]) -> None:
        info["terminal_observation"] = stack.copy()
        stack[:-1] = 0
        self._young[index] = 1
        self.reset_infos[index] = {"lives": info["lives"]}

    def _age(self, observations: np.ndarray) -> None:
        """Count one more screen for the young stacks, and blacken those from before the lost life."""
        for index, seen in list(self._young.items()):
            if seen + 1 >= self.frame_stack:
                del self._young[index]
            else:
                self._young[index] = seen + 1
                observations[index, : self.frame_stack - seen - 1] = 0

    def close(self) -> None:
        """Stop the C++ threads; a second call does nothing."""
        if self._state == "stepping":
            self._ale.recv()
        self._state = "closed"
        self._vector = self._ale = None

    def get_action_meanings(self) -> list[str]:
        """What the actions do, e.g. ``["NOOP", "FIRE", "RIGHT", "LEFT"]``."""
        return [action.name for action in self._ale.get_action_set()]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The newest screen of each copy in grey ``(84, 84, 3)`` uint8, or ``None`` before the first ``reset()``."""
        if self._observations is None:
            return [None] * self.num_envs
        return [np.repeat(stack[-1][:, :, None], 3, axis=2) for stack in self._observations]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of this adapter, once per copy, since the copies have no Python objects of their own."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of this adapter, which all copies share; naming only some raises ``InvalidValue``."""
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise InvalidValue(f"set_attr: '{attr_name}' is shared by all {self.num_envs} environments; omit indices")
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call ``get_action_meanings``, the only method of the copies."""
        # Anything else of this class acts on all copies, so calling it once per copy would be wrong.
        if method_name != "get_action_meanings":
            raise AttributeError(f"the games of AleVecEnv have no method '{method_name}', only 'get_action_meanings'")
        return [self.get_action_meanings(*method_args, **kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """
        Whether the copies do what a wrapper does.

        :param wrapper_class: SB3's ``Monitor`` is reported as present, because ``infos[i]["episode"]`` is what it would
            write: this makes SB3's ``evaluate_policy`` count whole games with raw rewards, and not warn
        :param indices: which copies (default: all)
        """
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]


def make_ale_vec_env(
    game: str,
    n_envs: int = 1,
    *,
    protocol: str | AtariProtocol = "dopamine",
    seed: int | None = None,
    training: bool = True,
    num_threads: int = 0,
) -> AleVecEnv:
    """
    Make an Atari environment, for training or for evaluation; takes about 0.1 s per copy, most of it loading ROMs.

    :param game: ``"Breakout"``, ``"ALE/Breakout-v5"``, ``"BreakoutNoFrameskip-v4"``, ...; the frame skip is 4 for all
    :param n_envs: number of copies, 1 to 128
    :param protocol: name or protocol, see ``PROTOCOLS``
    :param seed: seed of the first ``reset()``, copy ``i`` gets ``seed + i`` (``None``: random)
    :param training: ``False`` for whole games with raw rewards, everything else equal
    :param num_threads: C++ threads (0: one per copy, at most one per core)
    :raises InvalidValue: unknown game or protocol, or a number out of range
    :raises InvalidType: a value of the wrong type
    """
    chosen = get_protocol(protocol)
    return AleVecEnv(game, n_envs, chosen if training else chosen.evaluation(), seed, num_threads)
