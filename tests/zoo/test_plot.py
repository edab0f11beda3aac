"""Pictures are drawn from the files of runs alone: one run, several seeds, several agents."""

import numpy as np
import pytest
import yaml

from sbbatch.errors import InvalidValue, UserError
from sbbatch.zoo.commands.plot import main
from sbbatch.zoo.plot.comparison import read_runs, read_training, report_runs
from sbbatch.zoo.plot.curves import plot_run
from sbbatch.zoo.plot.runs import read_run, running_mean


def write_run(logs, agent, number, episodes=(), evaluations=None, **settings):
    """Episodes of ten steps each."""
    run = logs / agent / f"Game-v1_{number}"
    (run / "Game-v1").mkdir(parents=True)
    (run / "Game-v1" / "config.yml").write_text(yaml.safe_dump(settings))
    rows = [f"{score},10,{i}.0,{10 * i}" for i, score in enumerate(episodes, 1)]
    (run / "0.monitor.csv").write_text("\n".join(["#{}", "r,l,t,steps", *rows, ""]))
    if evaluations is not None:
        steps = 10 * np.arange(1, len(evaluations) + 1)
        np.savez(run / "evaluations.npz", timesteps=steps, results=np.array(evaluations, float))
    return run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, "dqn", 1, [1, 2, 3, 4, 5], [[1, 3], [2, 6]], batch_size=8)


@pytest.fixture
def seeds(tmp_path):
    return [
        write_run(tmp_path, "dqn", 1, [0, 2, 4, 6], [[0, 2], [4, 6]], batch_size=8),
        write_run(tmp_path, "dqn", 2, [4, 6, 8], [[3, 3], [7, 7]], batch_size=32),
    ]


def test_a_curve_is_read_against_agent_steps(run):
    with (run / "0.monitor.csv").open("a") as file:
        file.write("6.0,1")  # half-written: the run is going on
    steps, returns = read_run(run).episodes
    assert steps.tolist() == [10, 20, 30, 40, 50]
    assert returns.tolist() == [1, 2, 3, 4, 5]
    steps, returns = read_run(run).evaluations
    assert steps.tolist() == [10, 20]
    assert returns.tolist() == [[1, 3], [2, 6]]


def test_monitor_files_of_sb3_are_read_too(run):
    (run / "0.monitor.csv").write_text('#{"t_start": 1}\nr,l,t\n1.0,10,0.1\n2.0,20,0.3\n')
    (run / "1.monitor.csv").write_text('#{"t_start": 1}\nr,l,t\n9.0,5,0.2\n')
    steps, returns = read_run(run).episodes
    assert returns.tolist() == [1, 9, 2]
    assert steps.tolist() == [10, 15, 35]


def test_the_running_mean_counts_the_last_values_only():
    assert running_mean(np.array([1.0, 2.0, 3.0, 4.0]), 2).tolist() == [1.0, 1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("name", "start"), [(None, b"\x89PNG"), ("a.pdf", b"%PDF"), ("a.SVG", b"<?xml"), ("a", b"\x89PNG")]
)
def test_a_picture_is_what_its_name_says(run, tmp_path, name, start):
    out = plot_run(run, None if name is None else tmp_path / name, title=r"$\nosuch$")  # a title is no formula
    assert out.read_bytes().startswith(start)
    assert name is not None or out == run / "learning_curve.png"


def test_what_cannot_be_drawn_is_one_sentence(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "0.monitor.csv").touch()
    late = write_run(tmp_path, "iqn", 1, [1])
    for words, told in (
        ([run, "-o", tmp_path / "x.foo"], "expected .png or .pdf or .svg"),
        ([tmp_path], "not the folder of a run"),  # the folder of all runs, say
        ([tmp_path / "none"], "no such run folder"),
        ([tmp_path / "empty"], "nothing to draw"),
        (["train", tmp_path / "empty"], "no training episode has ended"),
        (["train", late], "no two episodes at common agent steps"),
        (["compare", late], "no evaluation has ended"),
        (["compare", run, run.parent / ".." / "dqn" / run.name], "would count as two seeds"),
        (["train", run, "--by", "gamma"], "none of the runs sets gamma"),
    ):
        assert main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))


@pytest.mark.parametrize("damage", ["torn", "no steps", "an array"])
def test_damaged_evaluations_are_told(run, damage):
    path = run / "evaluations.npz"
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "no steps":
        np.savez(path, timesteps=[1, 2], results=[[1.0, 2.0]])
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"evaluations.npz: damaged"):
        plot_run(run)


def test_a_missing_matplotlib_names_the_extra(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"pip install 'sbbatch\[plots\]'"):
        plot_run(run)


def test_evaluations_are_compared_where_all_runs_have_them(tmp_path, seeds):
    dqn, iqn = read_runs([*seeds, write_run(tmp_path, "iqn", 1, [], [[9, 9]])])
    assert (dqn.agent, iqn.agent, dqn.environment) == ("dqn", "iqn", "Game-v1")
    assert dqn.returns.tolist() == [[1, 5], [3, 7]]  # means of the episodes
    assert dqn.final().tolist() == [3, 5]  # of the evaluations, here fewer than three
    assert report_runs([dqn, iqn])[1].endswith("runs: 3.0, 5.0")
    mean, low, high = dqn.curve
    assert (mean.tolist(), low.tolist(), high.tolist()) == ([2, 6], [1, 5], [3, 7])
    short = write_run(tmp_path, "dqn", 3, [], [[5, 5]])
    assert read_runs([*seeds, short])[0].timesteps.tolist() == [10]
    np.savez(short / "evaluations.npz", timesteps=[11], results=[[5.0]])
    with pytest.raises(InvalidValue, match="dqn on Game-v1: the runs were evaluated at different steps"):
        read_runs([*seeds, short])


def test_training_is_the_mean_over_runs_up_to_the_end_of_the_shortest(seeds):
    (one,) = read_training(seeds)
    assert (one.timesteps[0], one.timesteps[-1]) == (10, 30)
    mean, low, high = one.curve
    assert (mean[0], mean[-1]) == (2, 6)  # of 0 and 4, of 4 and 8
    assert (low[0], high[0]) == (0, 4)
    np.testing.assert_allclose(np.diff(mean), np.diff(mean)[0])


def test_settings_tell_runs_apart(seeds):
    assert [one.agent for one in read_training(seeds, ["batch_size"])] == ["dqn, batch_size 32", "dqn, batch_size 8"]
    assert [len(one.returns) for one in read_runs(seeds, ["batch_size"])] == [1, 1]


@pytest.mark.parametrize(("kind", "statistic", "first"), [("train", "mean", "0.0,4.0"), ("compare", "iqm", "1.0,3.0")])
def test_picture_and_table_are_written(seeds, tmp_path, capsys, kind, statistic, first):
    out = tmp_path / "p.png"
    assert main([kind, *map(str, seeds), "-o", str(out), "--title", "Two seeds"]) == 0
    assert out.stat().st_size > 10_000
    lines = out.with_suffix(".csv").read_text().splitlines()
    assert lines[0] == f"environment,agent,timesteps,runs,{statistic},low,high"
    assert lines[1] == f"Game-v1,dqn,10,2,2.0,{first}"
    assert capsys.readouterr().out.endswith(f"{out}\n")
