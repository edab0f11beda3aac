"""Observations kept frame by frame: stacks are taken apart when stored and rebuilt when read."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape

from sbbatch.errors import InvalidValue
from sbbatch.replay.frames import FRAME_MEMORIES, FrameMemory


class ObservationMemory:
    """
    A ring of observations of one (non-Dict) space, for several environments, each frame stored once.

    An observation is a stack of ``frame_stack`` frames along its first axis, oldest first; within an episode the next
    one is the same stack moved by one frame, so that only its newest frame is new. A vector is a stack of one frame.
    What does not follow from its predecessor is kept aside: the older planes of an opening stack that are not zero, and
    the newest frame of an episode's final observation (its slot belongs to the next episode).

    Rows are steps, columns environments; a flat index is ``row * n_envs + column``.

    :param n_rows: rows of the ring
    :param n_envs: environments
    :param space: observation space of one environment
    :param frame_stack: frames in an observation; must divide its first axis
    :param compression: ``"lz4"`` or ``None``
    :raises InvalidValue: the stack does not divide the observation
    """

    def __init__(
        self, n_rows: int, n_envs: int, space: spaces.Space, frame_stack: int, compression: str | None
    ) -> None:
        shape: Any = get_obs_shape(space)
        if frame_stack > 1 and (len(shape) < 2 or shape[0] % frame_stack != 0):
            raise InvalidValue(f"frame_stack: got {frame_stack}, which does not divide observations of shape {shape}")
        self.n_rows, self.n_envs, self.frame_stack = n_rows, n_envs, frame_stack
        self.shape: tuple[int, ...] = shape
        self.dtype = np.dtype(space.dtype)
        depth = shape[0] // frame_stack if frame_stack > 1 else 0  # planes per frame
        self._frame_shape = (depth, *shape[1:]) if frame_stack > 1 else shape
        self._frames: FrameMemory = FRAME_MEMORIES[compression](n_rows * n_envs, self._frame_shape, self.dtype)
        self._openings: dict[int, np.ndarray] = {}  # flat index -> older frames of the stack
        self._finals: dict[int, np.ndarray] = {}  # flat index -> newest frame of the observation that ended there

    def _split(self, observation: np.ndarray) -> np.ndarray:
        """``(*shape)`` -> ``(frame_stack, *frame_shape)``."""
        return observation.reshape(self.frame_stack, *self._frame_shape)

    def open(self, row: int, env: int, observation: np.ndarray) -> None:
        """Store the first observation of an episode, from which the transition in ``row`` starts."""
        frames = self._split(observation)
        flat = row * self.n_envs + env
        if frames[:-1].any():
            self._openings[flat] = frames[:-1].copy()
        self._frames.write(flat, frames[-1])

    def follow(self, row: int, env: int, observation: np.ndarray) -> None:
        """Store the observation of ``row``, which follows the one of the row before."""
        self._frames.write(row * self.n_envs + env, self._split(observation)[-1])

    def close(self, row: int, env: int, observation: np.ndarray) -> None:
        """Store the last observation of an episode, to which the transition in ``row`` leads."""
        self._finals[row * self.n_envs + env] = self._split(observation)[-1].copy()

    def forget(self, row: int) -> None:
        """Drop what was kept aside for a row that is about to be written anew."""
        if self._openings or self._finals:
            for flat in range(row * self.n_envs, (row + 1) * self.n_envs):
                self._openings.pop(flat, None)
                self._finals.pop(flat, None)

    def follows(self, observation: np.ndarray, next_observation: np.ndarray) -> bool:
        """Whether the second observation is the first moved by one frame."""
        return np.array_equal(self._split(observation)[1:], self._split(next_observation)[:-1])

    def read(self, rows: np.ndarray, envs: np.ndarray, ages: np.ndarray) -> np.ndarray:
        """
        Observations from which transitions start.

        :param rows: ``(batch,)``
        :param envs: ``(batch,)``
        :param ages: steps since the episode's first observation, ``(batch,)``; may saturate above ``frame_stack``
        :return: ``(batch, *shape)``
        """
        # Never read behind the episode's first frame: what stands there is another episode's, or was never written.
        back = np.minimum(np.arange(self.frame_stack - 1, -1, -1), ages[:, None])
        frames = self._frames.read(self._flat(rows[:, None] - back, envs[:, None]))
        self._mend_openings(frames, rows, envs, ages, moved=0)
        return frames.reshape(len(rows), *self.shape)

    def read_next(self, rows: np.ndarray, envs: np.ndarray, ages: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """
        Observations that transitions lead to.

        :param rows: rows of the transitions ``(batch,)``
        :param envs: ``(batch,)``
        :param ages: steps since the episode's first observation at those rows ``(batch,)``
        :param ended: whether the episode ended there, bool ``(batch,)``
        :return: ``(batch, *shape)``
        """
        back = np.minimum(np.arange(self.frame_stack - 2, -2, -1), ages[:, None])
        indices = self._flat(rows[:, None] - back, envs[:, None])
        if ended.any():  # the slot after the end belongs to somebody else; read any valid one, then overwrite
            indices[ended, -1] = self._flat(rows[ended], envs[ended])
        frames = self._frames.read(indices)
        self._mend_openings(frames, rows, envs, ages, moved=1)
        for sample in np.flatnonzero(ended):
            frames[sample, -1] = self._finals[int(self._flat(rows[sample], envs[sample]))]
        return frames.reshape(len(rows), *self.shape)

    def _flat(self, rows: np.ndarray, envs: np.ndarray) -> np.ndarray:
        return rows % self.n_rows * self.n_envs + envs

    def _mend_openings(
        self, frames: np.ndarray, rows: np.ndarray, envs: np.ndarray, ages: np.ndarray, moved: int
    ) -> None:
        """Replace the planes that reach behind the start of an episode, in place; ``moved`` is 1 for next stacks."""
        n_older = self.frame_stack - 1
        for sample in np.flatnonzero(ages < n_older - moved) if n_older else ():
            n_behind = n_older - moved - int(ages[sample])  # planes from before the episode's first frame
            start = int(self._flat(rows[sample] - ages[sample], envs[sample]))
            opening = self._openings.get(start)
            frames[sample, :n_behind] = 0 if opening is None else opening[-n_behind:]

    def get_state(self, n_rows: int) -> dict[str, np.ndarray]:
        """Plain arrays of the first ``n_rows`` rows."""
        state = {f"frames.{key}": value for key, value in self._frames.get_state(n_rows * self.n_envs).items()}
        for name, aside in (("openings", self._openings), ("finals", self._finals)):
            state[f"{name}.indices"] = np.array(list(aside), dtype=np.int64)
            state[f"{name}.frames"] = np.array(list(aside.values()), dtype=self.dtype)
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_state` returned."""
        prefix = "frames."
        self._frames.set_state({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        for name, aside in (("openings", self._openings), ("finals", self._finals)):
            aside.clear()
            indices = np.asarray(state[f"{name}.indices"]).tolist()
            aside.update(zip(indices, np.asarray(state[f"{name}.frames"]), strict=True))
