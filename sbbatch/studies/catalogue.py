"""All studies, by id."""

from __future__ import annotations

from sbbatch.errors import InvalidValue, did_you_mean
from sbbatch.studies.abs import divergence, minatar
from sbbatch.studies.small_batch import standard_agents, step_size
from sbbatch.studies.study import Study

_ALL = (step_size.PILOT, step_size.FINAL, standard_agents.STUDY, minatar.STUDY, divergence.STUDY)
STUDIES: dict[str, Study] = {study.id: study for study in _ALL}


def find_study(name: str, scale: str) -> Study:
    """
    :param name: its id, or what follows the slash
    :param scale: that it must have
    :raises InvalidValue: there is no such study, or it has no such scale
    """
    names = {**STUDIES, **{name.rpartition("/")[2]: study for name, study in STUDIES.items()}}
    if name not in names:
        raise InvalidValue(f"unknown study '{name}'{did_you_mean(name, names)}")
    if scale not in names[name].scales:
        raise InvalidValue(f"{names[name].id} has no scale '{scale}'{did_you_mean(scale, names[name].scales)}")
    return names[name]
