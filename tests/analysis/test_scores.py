"""The human-normalised score, by hand."""

import numpy as np
import pytest

from sbbatch.analysis.scores import Scale, human_normalized
from sbbatch.errors import InvalidValue


def test_chance_is_0_and_a_human_is_1_and_nothing_is_clipped():
    game = Scale("Pong", -20.7, 14.6)
    assert human_normalized(game, -20.7) == 0
    assert human_normalized(game, 14.6) == 1
    assert human_normalized(game, 21.0) > 1
    assert human_normalized(game, -21.0) < 0


def test_arrays_are_normalized_one_by_one():
    # (10 - 2) / (6 - 2) = 2 and (4 - 2) / 4 = 0.5
    assert human_normalized(Scale("x", 2.0, 6.0), np.array([[10.0], [4.0]])).tolist() == [[2.0], [0.5]]


def test_a_game_without_a_human_score_is_refused_by_name():
    with pytest.raises(InvalidValue, match="AirRaid has no published human score"):
        human_normalized(Scale("AirRaid", 648.0, None), 1000.0)
    with pytest.raises(InvalidValue, match="x: got 3 and 3, expected two different finite scores"):
        human_normalized(Scale("x", 3.0, 3.0), 1.0)
