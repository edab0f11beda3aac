"""Numbers of NumPy become Python's where they are given, whichever argument they are given to."""

import io

import numpy as np
import pytest
from contract_tools import make_agent

from sbbatch.arguments import declared

KEPT_AS = {"stats_window_size": "_stats_window_size", "n_epochs": "_own_epochs"}


def numbers_of(algorithm):
    """Every argument that may be a number, with one that is allowed."""
    small = make_agent(algorithm)
    for name, argument in declared(algorithm).items():
        value = getattr(small, KEPT_AS.get(name, name), None)
        if value is None and name not in ("exploration_decay_steps", "exploration_stop"):
            value = {int: 1, float: 0.5}.get(next(iter(set(argument.kinds) & {int, float}), None))
        if type(value) in (int, float) and {int, float} & set(argument.kinds):
            yield name, value


def test_every_number_of_an_agent_is_pythons(algorithm):
    plain = dict(numbers_of(algorithm))
    assert len(plain) > 12
    given = {name: np.float32(value) if type(value) is float else np.int64(value) for name, value in plain.items()}
    agent = make_agent(algorithm, **given)
    kept = {name: vars(agent)[KEPT_AS.get(name, name)] for name in plain}
    kept = {name: value(1.0) if callable(value) else value for name, value in kept.items()}  # SB3's schedules
    assert {name: value for name, value in kept.items() if type(value) not in (int, float)} == {}
    assert kept == pytest.approx(plain)
    agent.set_random_seed(agent.seed)
    file = io.BytesIO()
    agent.save(file)
    file.seek(0)
    changed = algorithm.load(file, learning_rate=np.float32(1e-3), seed=np.int64(3))
    assert type(changed.learning_rate) is float
    assert type(changed.seed) is int


def test_a_size_that_is_set_later_is_pythons(algorithm):
    agent = make_agent(algorithm)
    assert type(agent.resize_batch(np.uint8(8))) is int
