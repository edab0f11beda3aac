"""The newest transitions of a replay buffer, ours or one of SB3."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize

from sbbatch.replay.buffer import FrameReplayBuffer


def newest_transitions(buffer: ReplayBuffer, n_rows: int) -> np.ndarray:
    """Indices ``row * n_envs + environment`` of the newest ``n_rows`` steps of all environments."""
    if isinstance(buffer, FrameReplayBuffer):
        return buffer.newest(n_rows)
    rows = (buffer.pos - 1 - np.arange(n_rows)) % buffer.buffer_size
    return (rows[:, None] * buffer.n_envs + np.arange(buffer.n_envs)).reshape(-1)


def observations_at(buffer: ReplayBuffer, indices: np.ndarray, env: VecNormalize | None) -> PyTorchObs:
    """Observations from which these transitions start ``(len(indices), *shape)``, normalised by ``env``."""
    if isinstance(buffer, FrameReplayBuffer):
        return buffer.observations_at(indices, env)
    stored, where = buffer.observations, np.divmod(indices, buffer.n_envs)
    chosen = {key: part[where] for key, part in stored.items()} if isinstance(stored, dict) else stored[where]
    return obs_as_tensor(buffer._normalize_obs(chosen, env), buffer.device)
