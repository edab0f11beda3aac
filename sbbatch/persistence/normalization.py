"""The running statistics of normalized environments, kept beside each model as plain arrays."""

from __future__ import annotations

import zipfile
import zlib
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
    name = "vecnormalize"
    if model.stem == "best_model":
        name = "best_vecnormalize"
    elif model.stem.startswith("rl_model_"):
        name = model.stem.replace("rl_model_", "rl_model_vecnormalize_", 1)
    return model.with_name(f"{name}.npz")


def save_normalization(path: Path, env: VecEnv) -> None:
    """
    Save ``VecNormalize``'s running statistics as plain arrays; SB3's own file is a pickle, which can run code.

    :param path: an ``.npz`` file
    :param env: environments; nothing is written if they are not normalized
    """
    arrays: dict[str, Any] = {}
    for name, statistics in _statistics(env).items():
        arrays |= {f"{name}.mean": statistics.mean, f"{name}.var": statistics.var, f"{name}.count": statistics.count}
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
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            saved = {name: {what: arrays[f"{name}.{what}"] for what in _MOMENTS} for name in statistics}
    except FileNotFoundError:
        raise InvalidValue(f"no such file: {path}, which holds the statistics of this normalized environment") from None
    except (AttributeError, TypeError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        saved = {}
    fits = [
        np.shape(getattr(running, what)) == saved[name][what].shape and np.isfinite(saved[name][what]).all()
        for name, running in statistics.items()
        if name in saved
        for what in _MOMENTS
    ]
    if not (fits and all(fits)):
        raise InvalidValue(f"{path}: damaged, or not the statistics of this normalized environment")
    for name, running in statistics.items():
        running.mean, running.var, running.count = saved[name]["mean"], saved[name]["var"], float(saved[name]["count"])


def _statistics(env: VecEnv) -> dict[str, RunningMeanStd]:
    inner: Any = env
    while inner is not None and not isinstance(inner, VecNormalize):
        inner = getattr(inner, "venv", None)
    if inner is None:
        return {}
    observed = getattr(inner, "obs_rms", None)
    named = observed if isinstance(observed, dict) else {"": observed} if observed is not None else {}
    return {"ret": inner.ret_rms, **{f"obs.{key}": value for key, value in named.items()}}
