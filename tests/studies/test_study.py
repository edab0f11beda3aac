"""Studies as data: the runs that follow from them, and the rules that decide them."""

import shlex
from dataclasses import replace

import numpy as np
import pytest
from studies import SMALL

from sbbatch.studies.catalogue import STUDIES, find_study
from sbbatch.studies.rules import NOT_DECIDED, BestInside, Compare
from sbbatch.studies.study import canonical
from sbbatch.zoo.commands.cli import main

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


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_every_study_has_runs_of_its_own_and_rules_about_its_arms(study):
    for scale in study.scales:
        runs = study.runs(scale)
        distinct = {run.id.rpartition("_")[0] for run in runs}
        assert len(distinct) == len({run.id for run in runs}) == len(runs)
    for rule in study.rules:
        arms = (rule.first, rule.second) if isinstance(rule, Compare) else rule.arms
        assert set(arms) <= set(study.arms)


@pytest.mark.parametrize("study", STUDIES.values(), ids=list(STUDIES))
def test_train_takes_the_commands_of_every_arm(study, capsys):
    pytest.importorskip("minatar", reason="MinAtar's games are an extra")
    for run in study.runs("smoke")[: len(study.arms)]:
        if run.needs is None:  # whose file is not there yet
            assert main([*run.words, "--show-config"]) == 0, capsys.readouterr().err


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
