"""What Stable-Baselines3 leaves beside its models. The models themselves are read by ``DQN.load`` and its siblings."""

from __future__ import annotations

import os
from pathlib import Path

from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sbbatch.errors import InvalidValue
from sbbatch.files import find_file
from sbbatch.persistence.safe_pickle import Note, UnreadablePickle, read_notes, state_of
from sbbatch.persistence.sb3_names import SB3, VEC_NORMALIZE

_PLAIN = ("training", "norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")


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
    notes = _notes_of(file)
    try:
        state = state_of(notes)
        wanted = (*_PLAIN, "norm_obs_keys", "ret_rms", *(["obs_rms"] if state.get("norm_obs") else []))
        built = {name: SB3.build(state.get(name)) for name in wanted}
        env = VecNormalize(venv, **{name: built[name] for name in (*_PLAIN, "norm_obs_keys")})
        fits = not env.norm_obs or _shapes(env.obs_rms) == _shapes(built["obs_rms"])
    except (UnreadablePickle, AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidValue(
            f"{file}: its statistics cannot be read, or are not of these environments ({reason})"
        ) from error
    if not fits:
        raise InvalidValue(f"{file}: statistics of other observations than these environments show")
    env.ret_rms = built["ret_rms"]
    if env.norm_obs:
        env.obs_rms = built["obs_rms"]
    return env


def _notes_of(file: Path) -> Note:
    try:
        notes = read_notes(file.read_bytes())
    except UnreadablePickle:
        notes = None
    if not isinstance(notes, Note) or notes.name != VEC_NORMALIZE:
        raise InvalidValue(f"{file}: not a file that VecNormalize.save wrote, or damaged")
    return notes


def _shapes(statistics: object) -> object:
    """Of one mean, or of each by its key."""
    if isinstance(statistics, dict):
        return {key: part.mean.shape for key, part in statistics.items()}
    return statistics.mean.shape  # type: ignore[attr-defined]
