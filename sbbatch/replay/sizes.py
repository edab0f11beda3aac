"""How large observations are, and how much memory there is for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape


def shape_of(space: spaces.Space) -> tuple[int, ...]:
    """
    :param space: of observations, no dictionary
    :return: shape of one as it is stored
    """
    shape = get_obs_shape(space)
    assert not isinstance(shape, dict), "SB3 refuses nested Dict observations"
    return shape


def free_memory() -> int:
    """Bytes this process may still take: what the machine has free, or what its container leaves."""
    free = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def n_bytes_of(space: spaces.Space) -> int:
    """
    :param space: of observations
    :return: bytes of one
    """
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    return sum(int(np.prod(shape_of(part))) * np.dtype(part.dtype).itemsize for part in parts)
