"""What Stable-Baselines3 leaves beside its models. The models themselves are read by ``DQN.load`` and its siblings."""

from __future__ import annotations

import os

from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sbbatch.errors import InvalidValue, reason_of
from sbbatch.files import find_file
from sbbatch.persistence.unpickle import SavedVecNormalize, unpickle


def load_vec_normalize(path: str | os.PathLike[str], venv: VecEnv) -> VecNormalize:
    """
    SB3's ``VecNormalize.load`` without running what the file has pickled.

    As there, the statistics go on moving and rewards are normalized if they were when the file was written; set
    ``training`` and ``norm_reward`` to False to play.

    :param path: file that ``VecNormalize.save`` wrote, e.g. the zoo's ``vecnormalize.pkl``
    :param venv: environments with the observations that the statistics are of
    :return: the environments, normalized
    :raises FileNotFoundError: no such file
    :raises InvalidValue: it holds something else, or statistics of other observations
    """
    file = find_file(path, ".pkl", "VecNormalize")
    try:
        saved = unpickle(file.read_bytes())
        if not isinstance(saved, SavedVecNormalize):
            raise ValueError("not written by VecNormalize.save")
        observed, returns = saved.pop("obs_rms"), saved.pop("ret_rms")
        env = VecNormalize(venv, **saved)
        if env.norm_obs and _shapes(env.obs_rms) != _shapes(observed):
            raise ValueError("other observations")
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidValue(f"{file}: not the statistics of these environments ({reason_of(error)})") from error
    env.ret_rms = returns
    if env.norm_obs:
        env.obs_rms = observed
    return env


def _shapes(statistics: object) -> object:
    """Of one mean, or of each by its key."""
    if isinstance(statistics, dict):
        return {key: part.mean.shape for key, part in statistics.items()}
    return statistics.mean.shape  # type: ignore[attr-defined]
