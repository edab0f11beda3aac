"""Running a study: only what is missing, and again what died; and the report of what is there."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from studies import SMALL, YOKED, commands_of, leave_files

from sbbatch.errors import InvalidValue
from sbbatch.studies import catalogue, command
from sbbatch.studies.engines import LocalPool
from sbbatch.studies.report import summary, write_report
from sbbatch.studies.results import learning_curve, read_result, scores_of, write_runs
from sbbatch.studies.runner import adopt, plan, run_missing
from sbbatch.zoo.commands import cli

DIES = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).mkdir(parents=True); os.kill(os.getpid(), 9)"


@pytest.fixture(autouse=True)
def versions(monkeypatch):
    """Without git, which would be one more process."""
    monkeypatch.setattr(command, "installed_versions", lambda: {"sbbatch": "1.2.3"})


def test_a_study_runs_through_a_kill_once_and_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(catalogue.STUDIES, SMALL.id, SMALL)
    monkeypatch.chdir(tmp_path)
    started, really = [], subprocess.run

    def run(program, **kwargs):
        started.append(program)
        dies = [sys.executable, "-c", DIES, program[program.index("-f") + 1]]
        return really(dies if len(started) == 2 else program, **kwargs)

    monkeypatch.setattr(command.subprocess, "run", run)
    assert cli.main(["study", "run", "small", "-f", "runs", "--jobs", "2"]) == 0
    assert "4 runs, 4 to do, about 0.0 core hours (by the speed stated" in capsys.readouterr().out
    commands = commands_of(SMALL, Path("runs"))
    assert sorted(one.done()["attempts"] for one in commands) == [1, 1, 1, 2]
    assert len(started) == 5
    assert cli.main(["study", "run", "small", "-f", "runs"]) == 0
    assert len(started) == 5  # nothing was missing
    assert cli.main(["study", "export", "small", "-f", "runs"]) == 0
    out = Path("docs/results/tests_small")
    rows = list(csv.DictReader((out / "runs.csv").open()))
    assert [(row["arm"], row["seed"], row["steps"]) for row in rows] == [
        (a, s, "300") for s in "01" for a in ("8", "32")
    ]
    assert all(float(row["final_return"]) >= 8 for row in rows)  # no episode of CartPole is shorter
    pictures = [f"{name}.{kind}" for name in ("curves", "scores") for kind in ("png", "pdf")]
    assert all((out / name).stat().st_size > 5_000 for name in pictures)
    assert "(scores.png)" in (out / "report.md").read_text()
    assert "not decided at this budget" in (out / "report.md").read_text()
    page = (out / "report.html").read_text()
    assert "4 runs: sbbatch 1.2.3" in page
    assert page.count("data:image/png") == 3


@pytest.fixture
def outcomes(monkeypatch):
    """Exit codes of the processes that are begun, last first; one that is "stopped" ends well, but early."""
    codes = []

    def run(program, stdout, **kwargs):
        code = codes.pop()
        stdout.write(f"something\nlast line {code}\n")
        if code in (0, "stopped"):
            leave_files(program, steps=300 if code == 0 else 299)
        return SimpleNamespace(returncode=0 if code == "stopped" else code)

    monkeypatch.setattr(command.subprocess, "run", run)
    return codes


@pytest.mark.parametrize(
    ("ends", "state"),
    [([0], "done"), ([1, -9, 0], "done"), ([1, -9, 137, 1, 1], "failed"), ([2], "failed"), ([-9, 3], "failed")],
)
def test_what_dies_is_begun_three_times_and_what_cannot_work_once(tmp_path, outcomes, ends, state):
    one = commands_of(SMALL, tmp_path)[0]
    outcomes += ends[::-1]
    assert one.execute() == one.state == state
    assert not outcomes
    if state == "failed":
        assert (one.folder / "failed.txt").read_text() == f"exit code {ends[-1]}: last line {ends[-1]}\n"
        outcomes += [0]  # the next call tries again
        assert one.execute() == one.state == "done"
        assert not (one.folder / "failed.txt").exists()


def test_a_run_that_was_stopped_is_not_done(tmp_path, outcomes):
    one = commands_of(SMALL, tmp_path)[0]
    outcomes.append("stopped")
    assert one.execute() == "stopped"
    assert one.state == "missing"


def test_a_run_waits_for_the_one_it_needs(tmp_path, outcomes):
    commands = commands_of(YOKED, tmp_path)
    outcomes += [0, 0, 2, 0, 0]  # the third of the four that need nothing fails: arm 8 of seed 1, for the yoked seed 0
    ended = [(one.run.arm, one.run.seed, state) for one, state in run_missing(commands, LocalPool())]
    assert set(ended[:4]) == {("8", 0, "done"), ("32", 0, "done"), ("8", 1, "failed"), ("32", 1, "done")}
    assert ended[4:] == [("yoked", 1, "done")]
    needed = next(one for one in commands if (one.run.arm, one.run.seed) == ("8", 1))
    assert commands[0].run.needs == needed.run
    assert f"batch_size_callback:yoked('{needed.folder}')" in commands[0].words


def test_runs_made_by_hand_are_adopted_if_they_came_to_their_end(tmp_path):
    first, second, *_ = commands_of(SMALL, tmp_path / "runs")
    leave_files([*first.run.words, "-f", tmp_path / "a"])
    leave_files([*second.run.words, "-f", tmp_path / "b"], steps=299)
    leave_files([*second.run.words, "--n-envs", "2", "-f", tmp_path / "c"])
    assert adopt(commands_of(SMALL, tmp_path / "runs"), tmp_path) == [first]
    assert first.result().run == first.run
    assert first.result().seconds == 2.9
    cost = plan(SMALL, "smoke", commands_of(SMALL, tmp_path / "runs"))
    assert cost.startswith("4 runs, 3 to do, about 0.0 core hours (measured")


def test_runs_of_a_table_are_adopted_by_their_ids(tmp_path):
    first, second, *_ = commands_of(SMALL, tmp_path / "runs")
    first.finish(leave_files([*first.run.words, "-f", tmp_path / "a"]), 3.0)
    other = replace(first.run, words=(*first.run.words, "--n-envs", "2"))
    write_runs([first.result(), replace(first.result(), run=other)], tmp_path / "runs.csv")
    elsewhere = commands_of(SMALL, tmp_path / "elsewhere")
    assert [one.run for one in adopt(elsewhere, tmp_path / "runs.csv")] == [first.run]
    assert str(elsewhere[0].result()) == str(first.result())  # mean_size is NaN
    assert (elsewhere[0].done()["attempts"], second.state) == (0, "missing")


def test_half_a_study_is_half_a_report(tmp_path, outcomes):
    commands = commands_of(SMALL, tmp_path)
    with pytest.raises(InvalidValue, match="no run has ended"):
        write_report(SMALL, "smoke", commands, tmp_path / "report")
    outcomes.append(0)
    commands[0].execute()
    text = write_report(SMALL, "smoke", commands, tmp_path / "report")
    assert "1 of 4 runs have ended" in text
    assert "| 8 | 20 | -0.00418 | 1 |" in text  # (20 - 22) / (500 - 22)
    assert "| 32 |  |  | 0 |" in text


def test_scores_are_what_they_are_called(tmp_path):
    run = SMALL.runs("smoke")[0]
    folder = leave_files(["-f", tmp_path], [(150, 1.0), (270, 3.0), (271, 5.0), (300, 7.0)])
    (folder / "batch_size.csv").write_text("timesteps,divergence,size\n0,,8\n225,0.1,128\n")
    result = read_result(run, folder, 1.0)
    assert result.final_return == 6.0  # of those after step 270
    assert result.last_evaluation == 20.0
    assert result.mean_size == 0.75 * 8 + 0.25 * 128
    assert result.area == result.curve.mean()
    rows = {(row.score, row.game): row for row in summary(["8", "32"], ["CartPole-v1"], [result])}
    assert rows["final_return", "CartPole-v1"][2:] == ("8", 1, 6.0, 6.0, 6.0)
    assert scores_of([result], "32", "area", ["CartPole-v1"]).shape == (0, 1)


def test_a_curve_averages_the_episodes_of_each_span_and_repeats_where_none_ended():
    curve = learning_curve(np.array([1, 2, 40, 100, 103]), np.array([1.0, 3.0, 5.0, 7.0, 9.0]), 100)
    assert curve.shape == (40,)
    assert curve[0] == curve[1] == curve[14] == 2.0  # steps 1 and 2 of 100 are in the first of 40 spans
    assert curve[15] == curve[38] == 5.0
    assert curve[39] == 8.0  # the rollout that reaches the end may be longer
    assert learning_curve(np.array([90]), np.array([4.0]), 100)[0] == 0.0  # nothing has ended yet
