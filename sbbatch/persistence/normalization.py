"""The running statistics of normalized environments, kept beside each model as plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write

_MOMENTS = ("mean", "var", "count")  # of running statistics


def statistics_of(model: Path) -> Path:
    """Where the normalization of ``<env>.zip``, ``best_model.zip`` or ``rl_model_<n>_steps.zip`` is kept."""
    name = "best_vecnormalize" if model.stem == "best_model" else "vecnormalize"
    if model.stem.startswith("rl_model_"):
        name = model.stem.replace("rl_model_", "rl_model_vecnormalize_", 1)
    return model.with_name(f"{name}.npz")


def save_normalization(path: Path, env: VecEnv) -> None:
    """Save the running statistics of environments, if they are normalized; SB3's own file is a pickle."""
    named = _statistics(env).items()
    arrays: dict[str, Any] = {f"{name}.{what}": getattr(moments, what) for name, moments in named for what in _MOMENTS}
    if arrays:
        with atomic_write(path) as file:
            np.savez(file, **arrays)


def load_normalization(path: Path, env: VecEnv) -> None:
    """Put saved statistics back, if the environments are normalized."""
    statistics = _statistics(env)
    if not statistics:
        return
    named = [(name, what) for name in statistics for what in _MOMENTS]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            saved = {(name, what): arrays[f"{name}.{what}"] for name, what in named}
        own = [np.shape(getattr(statistics[name], what)) for name, what in named]
        fits = own == [array.shape for array in saved.values()] and all(np.isfinite(x).all() for x in saved.values())
    except FileNotFoundError:
        raise InvalidValue(f"no such file: {path}, which holds the statistics of this normalized environment") from None
    except Exception:  # NumPy has half a dozen words for bytes it did not write
        fits = False
    if not fits:
        raise InvalidValue(f"{path}: damaged, or not the statistics of this normalized environment")
    for (name, what), array in saved.items():
        setattr(statistics[name], what, float(array) if what == "count" else array)


def _statistics(env: VecEnv) -> dict[str, RunningMeanStd]:
    normalized = unwrap_vec_normalize(env)
    if normalized is None:
        return {}
    observed = getattr(normalized, "obs_rms", None) or {}
    named = observed if isinstance(observed, dict) else {"": observed}
    return {"ret": normalized.ret_rms, **{f"obs.{key}": value for key, value in named.items()}}
