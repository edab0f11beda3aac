"""Comparisons of agents over seeds, from written evaluations."""

import numpy as np
import pytest

from sbbatch.errors import InvalidValue
from sbbatch.zoo.plot.comparison import draw_comparisons, read_runs, report, table
from sbbatch.zoo.plot.curves import main


def write_run(folder, agent, number, returns, steps=(10, 20)):
    run = folder / agent / f"Game-v1_{number}"
    run.mkdir(parents=True)
    np.savez(run / "evaluations.npz", timesteps=np.array(steps[: len(returns)]), results=np.array(returns, float))
    return run


@pytest.fixture
def runs(tmp_path):
    return [
        write_run(tmp_path, "dqn", 1, [[0, 2], [4, 6]]),
        write_run(tmp_path, "dqn", 2, [[3, 3], [7, 7]]),
        write_run(tmp_path, "iqn", 1, [[9, 9]]),
    ]


def test_runs_of_an_agent_come_together(runs):
    dqn, iqn = read_runs(runs)
    assert (dqn.agent, iqn.agent, dqn.environment) == ("dqn", "iqn", "Game-v1")
    assert dqn.returns.tolist() == [[1, 5], [3, 7]]  # means of the games
    assert dqn.final().tolist() == [3, 5]  # of the evaluations, here fewer than three
    mean, low, high = dqn.curve
    assert mean.tolist() == [2, 6]
    assert (low.tolist(), high.tolist()) == ([1, 5], [3, 7])


def test_only_what_all_runs_have_is_compared(tmp_path, runs):
    short = write_run(tmp_path, "dqn", 3, [[5, 5]])
    assert read_runs([*runs, short])[0].timesteps.tolist() == [10]
    other = write_run(tmp_path, "dqn", 4, [[5, 5]], steps=(11,))
    with pytest.raises(InvalidValue, match="dqn on Game-v1: the runs were evaluated at different steps"):
        read_runs([*runs, other])


def test_picture_and_table_are_written(runs, tmp_path, capsys):
    assert main(["compare", *map(str, runs), "-o", str(tmp_path / "c.png")]) == 0
    assert (tmp_path / "c.png").stat().st_size > 10_000
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "environment,agent,timesteps,runs,iqm,low,high"
    assert lines[1] == "Game-v1,dqn,10,2,2.0,1.0,3.0"
    assert len(lines) == 4
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in told[:2]] == ["iqn", "dqn"]  # the best first


def test_a_report_names_every_run(runs):
    assert report(read_runs(runs))[1].endswith("runs: 3.0, 5.0")
    assert table(read_runs(runs)).count("\n") == 4


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_what_cannot_be_compared_is_named(tmp_path, runs, what, capsys):
    folder = tmp_path / what
    if what == "empty":
        folder.mkdir()
    assert main(["compare", str(runs[0]), str(folder)]) == 2
    told = capsys.readouterr().err
    assert str(folder) in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("kind", ["compare", "train"])
def test_a_run_does_not_count_twice(runs, kind, capsys):
    again = runs[0].parent / ".." / "dqn" / runs[0].name
    assert main([kind, str(runs[0]), str(again)]) == 2
    assert f"{again} is given twice, and would count as two seeds" in capsys.readouterr().err


def test_no_half_written_picture(runs, tmp_path):
    with pytest.raises(InvalidValue):
        draw_comparisons(read_runs(runs), tmp_path / "c.txt", None, "return")
    assert not list(tmp_path.glob("c.*"))
