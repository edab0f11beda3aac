"""How large observations are, and how much memory there is for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_obs_shape


def free_memory() -> int:
    """Bytes this process may still take: what the machine has free, or what its container leaves."""
    free = psutil.virtual_memory().available
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free


def n_bytes_of(space: spaces.Space) -> int:
    """Bytes of one observation."""
    if isinstance(space, spaces.Dict):
        return sum(map(n_bytes_of, space.spaces.values()))
    shape: Any = get_obs_shape(space)
    return int(np.prod(shape)) * np.dtype(space.dtype).itemsize
