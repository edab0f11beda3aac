"""All studies, by id."""

from __future__ import annotations

from sbbatch.errors import InvalidValue, did_you_mean
from sbbatch.studies.abs import btr, divergence, environments, minatar, networks, ppo, variants
from sbbatch.studies.small_batch import (
    atari_100k,
    components,
    dynamics,
    exploration,
    full_suite,
    gradient_noise,
    learning_rates,
    long_training,
    n_step,
    standard_agents,
    step_size,
    three_games,
    torsos,
    two_laws,
)
from sbbatch.studies.study import Study

_ALL = (
    # questions of our own
    step_size.PILOT,
    step_size.FINAL,
    three_games.STUDY,
    n_step.S1,
    two_laws.STUDY,
    full_suite.GRID,
    # the figures of the small-batch paper, in their order
    full_suite.SIXTY_GAMES,
    torsos.STUDY,
    standard_agents.STUDY,
    atari_100k.STUDY,
    long_training.STUDY,
    exploration.STUDY,
    standard_agents.WALL_TIME,
    learning_rates.STUDY,
    gradient_noise.DIVISOR,
    components.ADDED,
    components.REMOVED,
    *n_step.BY_AGENT,
    dynamics.STUDY,
    gradient_noise.NOISE,
    # Adaptive Batch Scaling: our own, and the paper's
    minatar.STUDY,
    divergence.STUDY,
    environments.STUDY,
    networks.STUDY,
    networks.SIZES,
    variants.INTERPOLATIONS,
    variants.NOISE_SCALE,
    ppo.STUDY,
    btr.STUDY,
)
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
