"""Replay memory in files of plain arrays."""

from __future__ import annotations

from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sbbatch.files import PathOrFile, load_arrays, save_arrays
from sbbatch.replay.buffer import FrameReplayBuffer


class SafeReplayFiles(OffPolicyAlgorithm):
    """Replay buffers saved atomically, ours without any pickled object, and checked before they are taken over."""

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
        buffer_class = self.replay_buffer_class or FrameReplayBuffer
        if not issubclass(buffer_class, FrameReplayBuffer):
            super().load_replay_buffer(path, truncate_last_traj)  # type: ignore[arg-type]
            return
        state = load_arrays(path, "replay buffer")
        buffer = self._make_replay_buffer()
        assert isinstance(buffer, FrameReplayBuffer)
        buffer.set_state(state)
        buffer.device = self.device
        self.replay_buffer = buffer

    def _make_replay_buffer(self) -> ReplayBuffer:
        raise NotImplementedError  # the algorithm knows how
