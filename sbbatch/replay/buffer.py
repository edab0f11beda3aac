"""The replay buffer: each frame stored once, n-step returns computed when a batch is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecNormalize

from sbbatch.arguments import Count, Fraction, Natural, Within, checked
from sbbatch.errors import InvalidValue, check_int, check_keywords
from sbbatch.replay.batch import Following, Observations, ReplayBatch
from sbbatch.replay.n_step import n_step_returns
from sbbatch.replay.observations import ObservationMemory
from sbbatch.replay.samplers import Sampler, UniformSampler
from sbbatch.replay.sizes import free_memory, n_bytes_of

# Size of a compressed frame used to refuse a buffer up front; measured games need less (see docs/replay.md).
COMPRESSED_SHARE = 1 / 7
ARRAYS = ("actions", "rewards", "dones", "timeouts", "ages")  # what is kept beside the observations
NumpyObservations = np.ndarray | dict[str, np.ndarray]


class FrameReplayBuffer(ReplayBuffer):
    """
    Replay memory for images, vectors and dictionaries of both.

    SB3 keeps every observation of a frame stack, and usually the next one as well: 28 to 56 kB for an Atari transition.
    Here each frame is stored once (7 kB, or a tenth of that compressed), stacks are rebuilt when a batch is drawn and
    never cross an episode border, and the n-step return of any ``n`` is computed from one-step data at that moment. The
    batch size is an argument of every :meth:`sample`, so it may change at any time.

    It accepts SB3's positional arguments and ``add``, and returns a :class:`~sbbatch.replay.batch.ReplayBatch`. Rows
    are steps of the vector environment; as in SB3, ``buffer_size`` counts transitions over all environments and is
    rounded down to whole rows.

    :param buffer_size: transitions to keep, over all environments
    :param observation_space: observation space of one environment
    :param action_space: discrete action space
    :param device: where batches go
    :param n_envs: number of environments
    :param optimize_memory_usage: accepted for SB3's sake; memory is always optimised here
    :param handle_timeout_termination: bootstrap from the final observation of a truncated episode
        (``info["TimeLimit.truncated"]``); if False a truncation counts as a termination
    :param n_steps: rewards summed in an n-step return, fewer where an episode ends or at the newest transition
    :param gamma: discount factor
    :param frame_stack: frames in an (image) observation, oldest first; 1 stores observations whole, which is always
        right. Dict observations are stored whole
    :param frame_compression: ``"lz4"`` (lossless) or ``None``; only images are ever compressed
    :param sampler_class: :class:`~sbbatch.replay.samplers.UniformSampler` or ``PrioritizedSampler``
    :param sampler_kwargs: its arguments
    :param seed: seed of the buffer's own generator
    :param check_memory: refuse a buffer that cannot fit in the free memory
    :param n_following: steps after each transition whose observations and actions are handed out as well
        (:class:`~sbbatch.replay.batch.Following`); 0 for none
    :raises InvalidValue: a buffer that is too large for the memory or too small for ``n_steps``
    """

    @checked
    def __init__(
        self,
        buffer_size: Count,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: Count = 1,
        optimize_memory_usage: bool = True,
        handle_timeout_termination: bool = True,
        *,
        n_steps: Count = 1,
        gamma: Fraction = 0.99,
        frame_stack: Annotated[int, Within(1, 255)] = 1,  # ages saturate there
        frame_compression: Literal["lz4"] | None = "lz4",
        sampler_class: Callable[..., Sampler] = UniformSampler,
        sampler_kwargs: dict[str, Any] | None = None,
        seed: Natural | tuple[int, ...] | None = None,
        check_memory: bool = True,
        n_following: Natural = 0,
    ) -> None:
        n_rows = check_int("buffer_size", buffer_size, n_envs, hint=", one transition of each environment") // n_envs
        # Only the base class: ReplayBuffer would allocate SB3's arrays.
        BaseBuffer.__init__(self, n_rows, observation_space, action_space, device, n_envs=n_envs)
        if n_steps > self.buffer_size:
            raise InvalidValue(f"n_steps: got {n_steps}, expected at most buffer_size / n_envs = {self.buffer_size}")
        self.n_steps, self.gamma, self.n_following = n_steps, gamma, n_following
        self.optimize_memory_usage = True
        self.handle_timeout_termination = handle_timeout_termination
        self.frame_stack, self.frame_compression = frame_stack, frame_compression
        self.rng = np.random.default_rng(seed)
        if check_memory and self.n_bytes() > free_memory():
            raise self._too_large()
        try:
            self._allocate(sampler_class, sampler_kwargs or {})
        except MemoryError:
            raise self._too_large() from None
        self._n_added = 0  # rows, ever
        self._n_stored = 0  # rows
        self._expected: dict[str, np.ndarray] | None = None  # next observations of the newest row
        self._ended = np.ones(n_envs, dtype=bool)  # whether the next row starts new episodes

    def _allocate(self, sampler_class: Callable[..., Sampler], sampler_kwargs: dict[str, Any]) -> None:
        # One row for the newest observation, and as many as an old stack reaches back.
        self._n_slots = self.buffer_size + self.frame_stack
        shape = (self._n_slots, self.n_envs)
        self._memories = {
            key: ObservationMemory(*shape, space, self._stack(), self._compression(space))
            for key, space in self._spaces().items()
        }
        self._actions = np.zeros(shape, dtype=np.int64)
        self._rewards = np.zeros(shape, dtype=np.float32)
        self._dones = np.zeros(shape, dtype=bool)  # terminated or truncated
        self._timeouts = np.zeros(shape, dtype=bool)  # truncated
        self._ages = np.zeros(shape, dtype=np.uint8)  # steps since the episode began, saturating
        check_keywords("sampler_kwargs", sampler_kwargs, sampler_class, {"n_indices"})
        self.sampler = sampler_class(self._n_slots * self.n_envs, **sampler_kwargs)

    def _spaces(self) -> dict[str, spaces.Space]:
        space = self.observation_space
        return dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}

    def _compression(self, space: spaces.Space) -> str | None:
        return self.frame_compression if is_image_space(space, check_channels=False) else None

    def _stack(self) -> int:
        return 1 if isinstance(self.observation_space, spaces.Dict) else self.frame_stack

    def n_bytes(self) -> int:
        """Bytes the full buffer takes; an estimate where frames are compressed (games need less, noise needs more)."""
        transition = 8 + 4 + 1 + 1 + 1
        for space in self._spaces().values():
            frame = n_bytes_of(space) // self._stack()
            transition += int(frame * COMPRESSED_SHARE) if self._compression(space) else frame
        return transition * self.buffer_size * self.n_envs

    def _too_large(self) -> InvalidValue:
        needed, free = self.n_bytes(), free_memory()
        n_transitions = self.buffer_size * self.n_envs
        return InvalidValue(
            f"buffer_size: got {n_transitions}, which needs {needed / 1e9:.1f} GB of memory while "
            f"{free / 1e9:.1f} GB are free; expected at most {int(n_transitions * free / needed)}"
            + ("" if self.frame_compression else ", or frame_compression='lz4'")
        )

    def add(
        self,
        obs: NumpyObservations,
        next_obs: NumpyObservations,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Store one step of all environments.

        :param obs: observations ``(n_envs, *shape)``, or a dictionary of them
        :param next_obs: observations after the step; for an ended episode its final observation, as SB3 passes it
        :param action: ``(n_envs,)`` or ``(n_envs, 1)``
        :param reward: ``(n_envs,)``
        :param done: terminated or truncated ``(n_envs,)``
        :param infos: ``infos[i]["TimeLimit.truncated"]`` tells truncation from termination
        """
        row = self.pos
        observations, next_observations = self._as_arrays(obs), self._as_arrays(next_obs)
        self._make_room(row)
        starts = self._find_starts(row, observations)
        done = np.array(done, dtype=bool).reshape(self.n_envs)
        broken = self._find_breaks(observations, next_observations)
        truncated = np.array([np.any(info.get("TimeLimit.truncated", False)) for info in infos])
        truncated = broken | (done & truncated & self.handle_timeout_termination)
        done |= broken
        for key, memory in self._memories.items():
            for env in range(self.n_envs):
                if starts[env]:
                    memory.open(row, env, observations[key][env])
                if done[env]:
                    memory.close(row, env, next_observations[key][env])
                else:
                    memory.follow((row + 1) % self._n_slots, env, next_observations[key][env])

        older = np.minimum(self._ages[row - 1].astype(np.int64) + 1, 255)
        self._ages[row] = np.where(starts, 0, older)
        self._actions[row] = np.asarray(action).reshape(self.n_envs)
        self._rewards[row] = reward
        self._dones[row] = done
        self._timeouts[row] = truncated

        self.sampler.add(np.arange(row * self.n_envs, (row + 1) * self.n_envs))
        self._expected, self._ended = next_observations, done
        self._n_stored = min(self._n_stored + 1, self.buffer_size)
        self._n_added += 1
        self.pos = self._n_added % self._n_slots
        self.full = self._n_stored == self.buffer_size

    def _as_arrays(self, observations: NumpyObservations) -> dict[str, np.ndarray]:
        arrays = observations if isinstance(observations, dict) else {"": observations}
        shape = {key: (self.n_envs, *memory.shape) for key, memory in self._memories.items()}
        return {key: np.array(arrays[key]).reshape(shape[key]) for key in self._memories}

    def _make_room(self, row: int) -> None:
        """Drop the oldest row from the sampler if the memory is full, and what is kept aside for the row to write."""
        if self._n_stored == self.buffer_size:
            oldest = (row - self.buffer_size) % self._n_slots
            self.sampler.remove(np.arange(oldest * self.n_envs, (oldest + 1) * self.n_envs))
        for memory in self._memories.values():
            memory.forget(row)

    def _find_starts(self, row: int, observations: dict[str, np.ndarray]) -> np.ndarray:
        """
        Which environments start an episode here, bool ``(n_envs,)``.

        Besides the ends of episodes there are breaks that nobody announces: ``learn`` called again resets the
        environments. An observation that is not the one expected closes the episode before it as truncated.
        """
        starts = self._ended.copy()
        if self._expected is None:
            return starts
        for env in np.flatnonzero(~starts):
            if all(np.array_equal(observations[key][env], self._expected[key][env]) for key in self._memories):
                continue
            starts[env] = True
            previous = (row - 1) % self._n_slots
            self._dones[previous, env] = self._timeouts[previous, env] = True
            for key, memory in self._memories.items():
                memory.close(previous, int(env), self._expected[key][env])
        return starts

    def _find_breaks(self, observations: dict[str, np.ndarray], following: dict[str, np.ndarray]) -> np.ndarray:
        """
        Which next observations do not continue their stack, bool ``(n_envs,)``.

        Somebody else has played in the environment since (``evaluate_policy`` between two calls of ``learn``): the
        transition is closed as truncated. If none has ever continued, ``frame_stack`` is wrong.
        """
        memories = self._memories.items()
        breaks = [
            not all(memory.follows(observations[key][env], following[key][env]) for key, memory in memories)
            for env in range(self.n_envs)
        ]
        if all(breaks) and self._n_added == 0:
            raise InvalidValue(
                f"frame_stack: got {self.frame_stack}, but the next observation is not the previous one moved by one "
                "frame; pass replay_buffer_kwargs=dict(frame_stack=1) to store observations whole"
            )
        return np.array(breaks)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBatch:  # type: ignore[override]
        """
        Draw transitions with replacement.

        :param batch_size: how many; may differ from call to call
        :param env: normalises observations and (one-step) rewards, as in SB3
        :raises InvalidValue: the buffer is empty, or the batch size is below 1
        """
        check_int("batch_size", batch_size, 1)
        if self._n_stored == 0:
            raise InvalidValue("replay buffer: nothing is stored yet, collect at least one step before sampling")
        indices, weights = self.sampler.sample(batch_size, self.rng)
        return self._gather(indices, weights, env)

    def _gather(self, indices: np.ndarray, weights: np.ndarray, env: VecNormalize | None) -> ReplayBatch:
        rows, envs = np.divmod(indices, self.n_envs)
        steps = np.arange(self.n_steps)
        window = (rows[:, None] + steps) % self._n_slots, envs[:, None]
        n_ahead = (self.pos - rows) % self._n_slots  # rows from here to the newest, itself included
        newest = steps == (n_ahead - 1)[:, None]  # the window is cut there, as by a truncation
        rewards = self._normalize_reward(self._rewards[window], env)
        dones, timeouts = self._dones[window], self._timeouts[window]
        returns = n_step_returns(rewards, dones & ~timeouts, timeouts | (newest & ~dones), self.gamma)

        last = (rows + returns.n_rewards - 1) % self._n_slots
        ended, ages = self._dones[last, envs], self._ages[last, envs].astype(np.int64)
        following = {key: memory.read_next(last, envs, ages, ended) for key, memory in self._memories.items()}
        return ReplayBatch(
            observations=self._to_tensors(self._read(rows, envs), env),
            actions=self.to_torch(self._actions[rows, envs], copy=False),
            rewards=self.to_torch(returns.rewards, copy=False),
            next_observations=self._to_tensors(following, env),
            discounts=self.to_torch(returns.discounts, copy=False),
            weights=self.to_torch(weights, copy=False),
            indices=indices,
            following=self._following(rows, envs, env) if self.n_following else None,
        )

    def _following(self, rows: np.ndarray, envs: np.ndarray, env: VecNormalize | None) -> Following:
        steps, envs = np.arange(self.n_following), envs[:, None]
        window = (rows[:, None] + steps) % self._n_slots, envs
        stored = steps < ((self.pos - rows) % self._n_slots)[:, None]
        goes_on = np.logical_and.accumulate(stored & ~self._dones[window], axis=1)
        # Where it does not go on, the last observation that there is stands in.
        last = np.minimum(steps, np.maximum(goes_on.sum(axis=1, keepdims=True) - 1, 0))
        at, envs = ((rows[:, None] + last) % self._n_slots).reshape(-1), np.repeat(envs, self.n_following)
        ages, ended = self._ages[at, envs].astype(np.int64), self._dones[at, envs]
        found = self._to_tensors(
            {key: memory.read_next(at, envs, ages, ended) for key, memory in self._memories.items()}, env
        )
        shape = (len(rows), self.n_following)
        split = {key: one.unflatten(0, shape) for key, one in found.items()} if isinstance(found, dict) else None
        return Following(
            observations=found.unflatten(0, shape) if split is None else split,  # type: ignore[union-attr]
            actions=self.to_torch(self._actions[window], copy=False),
            mask=self.to_torch(goes_on.astype(np.float32), copy=False),
        )

    def _read(self, rows: np.ndarray, envs: np.ndarray) -> dict[str, np.ndarray]:
        ages = self._ages[rows, envs].astype(np.int64)
        return {key: memory.read(rows, envs, ages) for key, memory in self._memories.items()}

    def _to_tensors(self, arrays: dict[str, np.ndarray], env: VecNormalize | None) -> Observations:
        is_dict = isinstance(self.observation_space, spaces.Dict)
        normalized = self._normalize_obs(arrays if is_dict else arrays[""], env)
        if isinstance(normalized, dict):
            return {key: self.to_torch(value, copy=False) for key, value in normalized.items()}
        return self.to_torch(normalized, copy=False)

    def update_priorities(self, indices: np.ndarray, td_losses: np.ndarray) -> None:
        """
        Tell the sampler how large the losses of a batch were.

        :param indices: ``ReplayBatch.indices``
        :param td_losses: loss per sample ``(batch,)``
        """
        self.sampler.update_priorities(indices, td_losses)

    def newest(self, n_rows: int) -> np.ndarray:
        """
        Indices (as in ``ReplayBatch.indices``) of the newest transitions.

        :param n_rows: steps of all environments, at most :meth:`size`
        :return: int64 ``(n_rows * n_envs,)``
        """
        rows = (self.pos - n_rows + np.arange(n_rows)) % self._n_slots
        return (rows[:, None] * self.n_envs + np.arange(self.n_envs)).reshape(-1)

    def observations_at(self, indices: np.ndarray, env: VecNormalize | None = None) -> Observations:
        """
        Observations from which stored transitions start.

        :param indices: as in ``ReplayBatch.indices``
        :param env: normalises observations, as in SB3
        :return: ``(len(indices), *shape)``
        """
        return self._to_tensors(self._read(*np.divmod(indices, self.n_envs)), env)

    def _rows_in_order(self) -> np.ndarray:
        """Stored rows, oldest first."""
        return (self.pos - self._n_stored + np.arange(self._n_stored)) % self._n_slots

    @property
    def observations(self) -> NumpyObservations:  # type: ignore[override]
        """All stored observations, oldest first, rebuilt: a copy ``(rows, n_envs, *shape)``."""
        read = self._read(*np.divmod(self.newest(self._n_stored), self.n_envs))
        arrays = {key: array.reshape(self._n_stored, self.n_envs, *array.shape[1:]) for key, array in read.items()}
        return arrays if isinstance(self.observation_space, spaces.Dict) else arrays[""]

    @property
    def actions(self) -> np.ndarray:  # type: ignore[override]
        """All stored actions, oldest first, a copy ``(rows, n_envs)``."""
        return self._actions[self._rows_in_order()]

    @property
    def rewards(self) -> np.ndarray:  # type: ignore[override]
        """All stored one-step rewards, oldest first, a copy ``(rows, n_envs)``."""
        return self._rewards[self._rows_in_order()]

    @property
    def dones(self) -> np.ndarray:  # type: ignore[override]
        """Whether the episode ended (terminated or truncated), oldest first, a copy ``(rows, n_envs)``."""
        return self._dones[self._rows_in_order()]

    @property
    def timeouts(self) -> np.ndarray:  # type: ignore[override]
        """Whether it was truncated, oldest first, a copy ``(rows, n_envs)``."""
        return self._timeouts[self._rows_in_order()]

    def size(self) -> int:
        """Stored rows; transitions are ``size() * n_envs``."""
        return self._n_stored

    def reset(self) -> None:
        """Forget everything; the generator and the position in the ring go on, which samplers count on."""
        self.sampler.remove(self.newest(self._n_stored))
        self._n_stored, self.full, self._expected = 0, False, None
        self._ended = np.ones(self.n_envs, dtype=bool)

    def get_state(self) -> dict[str, Any]:
        """Everything needed to go on exactly as before: plain arrays, numbers, and dictionaries of them."""
        n_rows = min(self._n_added + 1, self._n_slots)
        state: dict[str, Any] = {name: getattr(self, f"_{name}")[:n_rows].copy() for name in ARRAYS}
        state |= {"n_added": self._n_added, "n_stored": self._n_stored, "ended": self._ended.copy()}
        state["layout"] = self._layout()
        state["rng"] = self.rng.bit_generator.state
        state["sampler"] = self.sampler.get_state()
        state["memories"] = {key: memory.get_state(n_rows) for key, memory in self._memories.items()}
        state["expected"] = dict(self._expected or {})
        return state

    def _layout(self) -> dict[str, Any]:
        """What two buffers must have in common for one to take over the other's state; plain values."""
        memories = {key: f"{memory.shape} of {memory.dtype}" for key, memory in self._memories.items()}
        compressions = [self._compression(space) for space in self._spaces().values()]
        return {
            "buffer_size": self.buffer_size * self.n_envs,
            "n_envs": self.n_envs,
            "frame_stack": self.frame_stack,
            "frame_compression": next((name for name in compressions if name), None),
            "observations": ", ".join(f"{key} {text}".strip() for key, text in sorted(memories.items())),
            "actions": int(self.action_space.n) if isinstance(self.action_space, spaces.Discrete) else None,
            "sampler": type(self.sampler).__name__,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what :meth:`get_state` of a buffer of the same size, environments and frame stack returned
        :raises InvalidValue: it is of a buffer with other settings; this one is as it was
        """
        layout, saved = self._layout(), state.get("layout", {})
        different = [key for key, value in layout.items() if saved.get(key) != value]
        if different:
            theirs, ours = (", ".join(f"{key} {one.get(key)}" for key in different) for one in (saved, layout))
            raise InvalidValue(f"replay buffer: the saved one has {theirs}, this one {ours}; use the same settings")
        for name in ARRAYS:
            getattr(self, f"_{name}")[: len(state[name])] = state[name]
        self._n_added, self._n_stored = int(state["n_added"]), int(state["n_stored"])
        self.pos = self._n_added % self._n_slots
        self._ended = np.array(state["ended"], dtype=bool)
        self.full = self._n_stored == self.buffer_size
        self.rng.bit_generator.state = state["rng"]
        self.sampler.set_state(state["sampler"])
        for key, memory in self._memories.items():
            memory.set_state(state["memories"][key])
        self._expected = {key: np.array(value) for key, value in state["expected"].items()} or None
