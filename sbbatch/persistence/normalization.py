"""The running statistics of normalized environments, kept beside each model as plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write

_MOMENTS = ("mean", "var", "count")  # of running statistics


def statistics_of(model: Path) -> Path:
    """
    Where the normalization of a model is kept: statistics that went on changing belong to a later model.

    :param model: ``<env>.zip``, ``best_model.zip`` or ``rl_model_<n>_steps.zip``
    """
    name = "best_vecnormalize" if model.stem == "best_model" else "vecnormalize"
    if model.stem.startswith("rl_model_"):
        name = model.stem.replace("rl_model_", "rl_model_vecnormalize_", 1)
    return model.with_name(f"{name}.npz")


def save_normalization(path: Path, env: VecEnv) -> None:
    """
    Save ``VecNormalize``'s running statistics as plain arrays; SB3's own file is a pickle, which can run code.

    :param path: an ``.npz`` file
    :param env: environments; nothing is written if they are not normalized
    """
    named = _statistics(env).items()
    arrays: dict[str, Any] = {f"{name}.{what}": getattr(moments, what) for name, moments in named for what in _MOMENTS}
    if arrays:
        with atomic_write(path) as file:
            np.savez(file, **arrays)


def load_normalization(path: Path, env: VecEnv) -> None:
    """
    Put saved statistics back.

    :param path: an ``.npz`` file
    :param env: environments; nothing happens if they are not normalized
    :raises InvalidValue: the file is missing or does not belong to these environments
    """
    statistics = _statistics(env)
    if not statistics:
        return
    if not path.is_file():
        raise InvalidValue(f"no such file: {path}, which holds the statistics of this normalized environment")
    named = [(name, what) for name in statistics for what in _MOMENTS]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            saved = {(name, what): arrays[f"{name}.{what}"] for name, what in named}
        own = [np.shape(getattr(statistics[name], what)) for name, what in named]
        fits = own == [array.shape for array in saved.values()] and all(np.isfinite(x).all() for x in saved.values())
    except Exception:  # NumPy has half a dozen words for bytes it did not write
        fits = False
    if not fits:
        raise InvalidValue(f"{path}: damaged, or not the statistics of this normalized environment")
    for (name, what), array in saved.items():
        setattr(statistics[name], what, float(array) if what == "count" else array)


def _statistics(env: VecEnv) -> dict[str, RunningMeanStd]:
    inner: Any = env
    while inner is not None and not isinstance(inner, VecNormalize):
        inner = getattr(inner, "venv", None)
    if inner is None:
        return {}
    observed = getattr(inner, "obs_rms", None)
    named = observed if isinstance(observed, dict) else {"": observed} if observed is not None else {}
    return {"ret": inner.ret_rms, **{f"obs.{key}": value for key, value in named.items()}}
