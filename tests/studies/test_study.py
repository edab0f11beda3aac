"""Studies as data: the runs that follow from them, and the rules that decide them."""

import shlex
from dataclasses import replace

import numpy as np
import pytest
from studies import SMALL

from sbbatch.studies.arms import axis, grid
from sbbatch.studies.catalogue import find_study
from sbbatch.studies.rules import NOT_DECIDED, BestInside, Cheaper, Compare, Interaction, MoreGames, RatioLaw
from sbbatch.studies.study import canonical

BY_HAND = """sbbatch train --algo qrdqn --env MinAtar/Breakout-v1 -n 105000 --seed 1 --eval-freq 21000
--eval-episodes 10 --save-freq -1 -f /tmp/runs --no-progress --log-interval 200
-params learning_rate:1e-3 batch_size:8 train_freq:1
"policy_kwargs:dict(features_extractor_class='MinAtarCNN', n_quantiles=51)" """


def test_a_run_is_one_command():
    run = SMALL.runs("smoke")[1]
    assert shlex.join(run.words) == (
        "train --algo dqn --env CartPole-v1 -n 300 --seed 0 --eval-freq 300 --eval-episodes 1 "
        "-params train_freq:4 gradient_steps:1 batch_size:32 learning_starts:100"
    )
    assert [(one.seed, one.arm) for one in SMALL.runs("smoke")] == [(0, "8"), (0, "32"), (1, "8"), (1, "32")]


def test_the_id_changes_with_what_decides_the_result_and_with_nothing_else():
    run = SMALL.runs("smoke")[0]
    assert run.id.startswith("8_CartPole-v1_s0_")
    assert replace(run, words=(*run.words, "--no-progress", "-f", "elsewhere", "--save-freq", "-1")).id == run.id
    longer = replace(SMALL, scales={"smoke": replace(SMALL.scales["smoke"], steps=400)}).runs("smoke")[0]
    seeds = replace(SMALL, scales={"smoke": replace(SMALL.scales["smoke"], seeds=9)}).runs("smoke")
    assert longer.id != run.id
    assert [one.id for one in seeds[:4]] == [one.id for one in SMALL.runs("smoke")]  # more seeds keep what is done


def test_the_pilot_has_the_runs_that_were_begun_by_hand():
    runs = find_study("step_size_pilot", "laptop").runs("laptop")
    assert canonical(shlex.split(BY_HAND)[1:]) in [canonical(run.words) for run in runs]
    assert len(runs) == 24


def test_games_and_families_of_games_have_values_of_their_own_or_none():
    games = ("CartPole-v1", "MinAtar/Breakout-v1", "MinAtar/Asterix-v1")
    study = replace(
        SMALL,
        arms={"one": {"gamma": {"MinAtar": "0.9", "CartPole-v1": None, "MinAtar/Asterix-v1": "0.8"}}},
        scales={"smoke": replace(SMALL.scales["smoke"], games=games, seeds=1)},
    )
    given = [[word for word in run.words if word.startswith("gamma")] for run in study.runs("smoke")]
    assert given == [[], ["gamma:0.9"], ["gamma:0.8"]]


def test_a_grid_has_every_combination():
    arms = grid({"DQN": {}, "n = 3": {"n_steps": 3}}, axis("batch_size", (8, 32), "B{}"))
    assert arms == {
        "DQN B8": {"batch_size": 8},
        "DQN B32": {"batch_size": 32},
        "n = 3 B8": {"n_steps": 3, "batch_size": 8},
        "n = 3 B32": {"n_steps": 3, "batch_size": 32},
    }


def scores(**arms):
    return lambda arm, score: np.array(arms[arm], dtype=float).reshape(-1, 2)


RULE = Compare("a", "b", better="BETTER", worse="WORSE", equal="EQUAL")


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        ([2, 3] * 5, [1, 1.1] * 5, "BETTER"),
        ([1, 1.1] * 5, [2, 3] * 5, "WORSE"),
        ([1, 1.1] * 5, [1.01, 1.1] * 5, "EQUAL"),  # certain, and too small to speak of
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9, 0], NOT_DECIDED),
        ([2, 3] * 4, [1, 1.1] * 5, f"{NOT_DECIDED}, which takes 5 seeds"),
        ([], [1, 1.1] * 5, f"{NOT_DECIDED} (no seed has ended"),
    ],
)
def test_a_comparison_is_decided_by_the_interval_of_the_difference(first, second, verdict):
    assert RULE.decide(scores(a=first, b=second)).startswith(f"a against b, final_return: {verdict}")


def test_the_best_of_a_row_must_lie_inside():
    rule = BestInside("batch 8", ("low", "middle", "high"))
    assert rule.decide(scores(low=[1, 1], middle=[2, 2], high=[0, 3])).startswith("batch 8: best is middle (")
    assert "best is high, at the edge: widen" in rule.decide(scores(low=[1, 1], middle=[2, 2], high=[2, 3]))
    assert NOT_DECIDED in rule.decide(scores(low=[1, 1], middle=[], high=[2, 3]))


GAINS = Interaction(("a", "b"), ("c", "d"), larger="LARGER", smaller="SMALLER")
FAR, NEAR = [5, 5.1] * 5, [1, 1.1] * 5


@pytest.mark.parametrize(
    ("arms", "verdict"),
    [
        ({"a": FAR, "b": NEAR, "c": FAR, "d": [4, 4.1] * 5}, "LARGER (difference of gains +3.000"),  # 4 against 1
        ({"a": NEAR, "b": FAR, "c": NEAR, "d": NEAR}, "SMALLER (difference of gains -4.000"),
        ({"a": FAR, "b": NEAR, "c": FAR, "d": NEAR}, NOT_DECIDED),
        ({"a": FAR, "b": NEAR, "c": NEAR, "d": [1, 1.1]}, f"{NOT_DECIDED}, which takes 5 seeds"),
    ],
)
def test_a_gain_is_held_against_another_gain(arms, verdict):
    assert f", final_return: {verdict}" in GAINS.decide(scores(**arms))


def test_games_are_counted():
    rule = MoreGames("a", "b")
    games = np.arange(20.0)  # a is ahead on 18 of 20 by little, behind on two by much
    columns = {"a": games + np.where(games < 18, 0.1, -9.0), "b": games}
    told = rule.decide(lambda arm, score: np.tile(columns[arm], (3, 1)))
    assert told.endswith("final_return: most (0.90 [0.90, 0.90] of 20)")


def test_time_is_compared_as_a_ratio():
    told = Cheaper("a", "b").decide(scores(a=[60, 90] * 5, b=[100, 200] * 5))
    assert told == "time of a as a share of that of b: cheaper (0.50 [0.50, 0.50])"


@pytest.mark.parametrize(("sign", "verdict"), [(-1, "falls"), (1, "grows")])
def test_the_slope_of_the_best_batch_decides_the_law(sign, verdict):
    cells = {f"{r} {b}": (r, b, 1e-3) for r in (0.25, 1.0, 4.0) for b in (64, 128, 256)}
    best = {0.25: 128 / 2**sign, 1.0: 128, 4.0: 128 * 2**sign}
    arms = {arm: [-abs(np.log(b / best[r]))] * 2 for arm, (r, b, _) in cells.items()}
    told = RatioLaw(cells).decide(scores(**arms))
    assert told.startswith(f"law of the batch size: {verdict} with the ratio (batch size ~ ratio^{sign * 0.5:.2f} [")
