"""What the pictures of a study show."""

import math

import numpy as np
import pytest
from optuna.trial import TrialState
from tune_tools import begin, storage_of

from sbbatch.zoo.tune.plot import cells_of, draw_heatmap, draw_history, draw_importances, draw_study, draw_table
from sbbatch.zoo.tune.results import Result, best_of, importances, table
from sbbatch.zoo.tune.space import Choices, Powers, Range
from sbbatch.zoo.tune.study import claim, refill

BATCH = Powers("batch_size", 2, 0, 3)
RATE = Range("learning_rate", 1e-5, 1e-2, log=True)
STEPS = Range("n_steps", 1, 10)
BOOTSTRAP = Choices("bootstrap", ("greedy", "double"))


def result(number=0, score=1.0, outcome="complete", **values):
    return Result(number, number, outcome, score, values, [number], [score], 1.0, "")


@pytest.fixture
def plan(tmp_path):
    return begin(tmp_path)[0]


@pytest.mark.parametrize(
    ("axis", "n", "first", "last", "cells"),
    [
        (BATCH, 4, "1", "8", {1: 0, 2: 1, 4: 2, 8: 3}),
        (STEPS, 10, "1", "10", {1: 0, 5: 4, 10: 9}),
        (BOOTSTRAP, 2, "greedy", "double", {"greedy": 0, "double": 1}),
        (RATE, 8, "1e-05", "0.01", {1e-5: 0, 1.01e-5: 0, 10**-3.6: 3, 10**-3.4: 4, 9.9e-3: 7, 1e-2: 7}),
        (Range("gamma", 0.0, 0.8), 8, "0", "0.8", {0.0: 0, 0.05: 0, 0.15: 1, 0.79: 7, 0.8: 7}),
    ],
)
def test_an_axis_is_cut_into_cells(axis, n, first, last, cells):
    cut = cells_of(axis)
    assert cut.n == n
    assert (cut.ticks[0], cut.ticks[-1]) == (first, last)
    assert len(cut.ticks) == n + cut.between
    assert {value: cut.cell(value) for value in cells} == cells


def test_a_cell_shows_the_mean_of_its_trials(plan):
    trials = [
        result(0, 10.0, batch_size=1, n_steps=1),
        result(1, 30.0, batch_size=1, n_steps=1),
        result(2, 50.0, "pruned", batch_size=8, n_steps=10),
    ]
    axes = draw_heatmap(plan, BATCH, STEPS, trials).axes[0]
    shown = axes.images[0].get_array()
    assert shown.shape == (10, 4)
    assert (shown[0, 0], shown[9, 3]) == (20.0, 50.0)
    assert shown.mask.sum() == 38  # where nobody has been nothing is shown
    assert {line.get_marker() for line in axes.lines} == {"o", "x"}
    assert axes.get_xlabel() == "batch_size"
    assert axes.get_ylabel() == "n_steps"


def test_trials_stand_where_their_values_are(plan):
    axes = draw_heatmap(plan, RATE, Range("gamma", 0.0, 0.8), [result(learning_rate=10**-3.5, gamma=0.4)]).axes[0]
    (x,), (y,) = axes.lines[0].get_data()
    assert (x, y) == (pytest.approx(3.5), pytest.approx(3.5))  # the middle of eight cells


def test_the_best_so_far_knows_whole_trials_only(plan):
    trials = [result(0, 1.0), result(1, 5.0, "pruned"), result(2, 3.0), result(3, 2.0), result(4, 9.0, "diverged")]
    axes = draw_history(plan, trials).axes[0]
    cut, whole, best = axes.lines
    assert list(cut.get_xdata()) == [1, 4]
    assert list(whole.get_ydata()) == [1.0, 3.0, 2.0]
    assert list(best.get_ydata()) == [1.0, 3.0, 3.0, 3.0]
    assert list(best.get_xdata()) == [0, 2, 3, 4]
    assert best_of(trials) is trials[2]


def test_the_most_important_argument_is_on_top():
    axes = draw_importances({"learning_rate": 0.7, "n_steps": 0.3}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["n_steps", "learning_rate"]
    assert [bar.get_width() for bar in axes.patches] == [0.3, 0.7]


def test_pictures_of_the_first_three_axes_against_each_other(plan):
    trials = [result(i, float(i), batch_size=2**i, learning_rate=10.0 ** -(i + 2), n_steps=i + 1) for i in range(3)]
    paths = draw_study(plan, trials, {"n_steps": 1.0})
    pairs = ("batch_size_learning_rate", "batch_size_n_steps", "learning_rate_n_steps")
    assert [path.stem for path in paths] == ["history", "importances", *(f"heatmap_{pair}" for pair in pairs), "table"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert [path.stem for path in draw_study(plan, [result(score=math.nan)], {})] == ["table"]
    assert draw_study(plan, [], {}) == []


def test_the_table_has_the_best_first_and_whole_trials_before_others(plan):
    trials = [
        result(0, 1.0, n_steps=1),
        result(1, 9.0, "pruned", n_steps=2),
        result(2, math.nan, "failed", n_steps=3),
        result(3, -4.0, learning_rate=1.23456e-3),
        result(4, 5.0, n_steps=4),
    ]
    (drawn,) = draw_table(plan, trials).axes[0].tables
    cells = {place: cell.get_text().get_text() for place, cell in drawn.get_celld().items()}
    head = [cells[0, column] for column in range(6)]
    assert head == ["trial", "score", "batch_size", "learning_rate", "n_steps", "outcome"]
    assert [cells[row, 0] for row in range(1, 6)] == ["4", "0", "3", "1", "2"]
    assert [cells[3, column] for column in range(6)] == ["3", "-4.0", "", "0.001235", "", "complete"]
    assert cells[5, 1] == ""


def test_of_very_many_trials_the_table_shows_the_best(plan):
    axes = draw_table(plan, [result(number, float(number)) for number in range(150)]).axes[0]
    rows = {row for row, _ in axes.tables[0].get_celld()}
    assert max(rows) == 100
    assert axes.tables[0][1, 0].get_text().get_text() == "149"
    assert axes.get_title().endswith("(the best 100 of 150 trials)")


def test_importances_find_what_decides(tmp_path):
    plan, study = begin(tmp_path, n_trials=40)
    rng = np.random.default_rng(0)
    assert importances(study, plan) == {}  # no trials, nothing to say
    refill(study, 40)
    for slot in range(40):
        trial = claim(study, storage_of(study), 40)
        values = plan.space.suggest(trial)
        trial.report(-abs(values["n_steps"] - 6) + 0.01 * rng.normal(), 1)
        if slot % 3:  # two of three are stopped early, and count with the score they had
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, study.trials[trial.number].intermediate_values[1])
    found = importances(study, plan)
    assert next(iter(found)) == "n_steps"
    assert sum(found.values()) == pytest.approx(1.0)
    assert set(found) == {"batch_size", "learning_rate", "n_steps"}


def test_the_table_has_a_line_for_each_trial(plan):
    text = table(plan, [result(0, 2.0, batch_size=4, n_steps=2), result(1, math.nan, "failed")])
    lines = text.splitlines()
    assert lines[0] == "trial,slot,outcome,score,batch_size,learning_rate,n_steps,seeds,scores,seconds,reason"
    assert lines[1] == "0,0,complete,2.0,4,,2,0,2.0,1.0,"
    assert lines[2].startswith("1,1,failed,,")
