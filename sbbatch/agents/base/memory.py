"""The replay buffer of an agent: made, drawn from, looked at and saved."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs

from sbbatch.agents.base.q_learning import QLearningAgent
from sbbatch.components.augmentation import Augmentation
from sbbatch.errors import built
from sbbatch.files import PathOrFile, load_arrays, save_arrays
from sbbatch.networks.auxiliary import Auxiliary
from sbbatch.replay.batch import ReplayBatch
from sbbatch.replay.buffer import FrameReplayBuffer
from sbbatch.replay.newest import newest_transitions, observations_at
from sbbatch.replay.samplers import PrioritizedSampler, UniformSampler

RECENT = 8192  # transitions that agents are measured on


class RemembersTransitions(QLearningAgent, OffPolicyAlgorithm):
    """
    An agent with action values and a replay buffer, ours or one of SB3's. How it learns from it is
    :class:`~sbbatch.agents.base.replay.ReplayAgent`'s part.
    """

    augmentation: Augmentation
    auxiliary: Auxiliary
    prioritized: bool
    priority_epsilon: float

    def _make_replay_buffer(self) -> ReplayBuffer:
        buffer_class, given = self.replay_buffer_class or FrameReplayBuffer, self.replay_buffer_kwargs or {}
        kwargs: dict[str, Any] = {"n_envs": self.n_envs, "device": self.device}
        if issubclass(buffer_class, FrameReplayBuffer):
            # A model loaded to play, on a smaller machine, needs no room for training.
            kwargs |= {"seed": self._seed_of(1), "check_memory": self.env is not None}
            kwargs |= {name: getattr(self, name) for name in ("n_steps", "gamma", "frame_stack")}
            if self.auxiliary.n_following:
                kwargs["n_following"] = self.auxiliary.n_following
            if self.prioritized and "sampler_class" not in given:
                exponents = {name: getattr(self, name) for name in ("priority_exponent", "importance_exponent")}
                kwargs["sampler_class"] = PrioritizedSampler
                kwargs["sampler_kwargs"] = {**exponents, "epsilon": self.priority_epsilon}
        else:
            # Hindsight replay asks the environment for rewards, n-step replay sums rewards itself.
            known = set(inspect.signature(buffer_class.__init__).parameters) & {"env", "gamma"}
            kwargs |= {name: getattr(self, name) for name in ("optimize_memory_usage", *known)}
        spaces = self.observation_space, self.action_space
        return built("replay_buffer_kwargs", buffer_class, self.buffer_size, *spaces, **kwargs | given)

    def _sample_replay(self, batch_size: int) -> ReplayBatch:
        """A batch to learn from, its images augmented."""
        assert self.replay_buffer is not None
        if isinstance(self.replay_buffer, FrameReplayBuffer):
            self.replay_buffer.sampler.progress_remaining = self._current_progress_remaining
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
        else:
            samples = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            batch = ReplayBatch.from_sb3(samples, self.gamma)
        return self.augmentation(batch, self.noise_rng)

    @property
    def _has_priorities(self) -> bool:
        """Whether the sampler wants to know the losses: ours, or one of the user's own."""
        buffer = self.replay_buffer
        return isinstance(buffer, FrameReplayBuffer) and not isinstance(buffer.sampler, UniformSampler)

    def probe_observations(self, n_states: int, rng: np.random.Generator) -> PyTorchObs:
        """Without replacement from the newest 8,192 transitions."""
        buffer = self.replay_buffer
        assert buffer is not None
        newest = newest_transitions(buffer, min(buffer.size(), -(-RECENT // self.n_envs)))
        chosen = rng.choice(newest, size=min(n_states, len(newest)), replace=False)
        return observations_at(buffer, chosen, self._vec_normalize_env)

    def save_replay_buffer(self, path: PathOrFile) -> None:
        """
        Save the replay buffer; ours as an archive of plain arrays, SB3's as SB3 does.

        :param path: file (``.npz`` is added if it has no suffix) or open file
        """
        if isinstance(self.replay_buffer, FrameReplayBuffer):
            save_arrays(path, self.replay_buffer.get_state())
        else:
            super().save_replay_buffer(path)  # type: ignore[arg-type]

    def load_replay_buffer(self, path: PathOrFile, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer. If the file is damaged or does not fit, the present buffer stays.

        :param path: file or open file
        :param truncate_last_traj: for SB3's hindsight replay only
        :raises FileNotFoundError: no such file
        :raises InvalidValue: damaged, or of another size or other observations
        """
        if not issubclass(self.replay_buffer_class or FrameReplayBuffer, FrameReplayBuffer):
            super().load_replay_buffer(path, truncate_last_traj)  # type: ignore[arg-type]
            return
        state, buffer = load_arrays(path, "replay buffer"), self._make_replay_buffer()
        assert isinstance(buffer, FrameReplayBuffer)
        buffer.set_state(state)
        buffer.device = self.device
        self.replay_buffer = buffer
