"""Training curves of several runs: mean over seeds, told apart by agent, environment and settings."""

import numpy as np
import pytest
import yaml

from sbbatch.errors import InvalidValue
from sbbatch.zoo.plot.comparison import read_runs
from sbbatch.zoo.plot.curves import main
from sbbatch.zoo.plot.training import read_training


def write_run(folder, number, returns, **settings):
    """Episodes of ten steps; an evaluation at step 10."""
    run = folder / "dqn" / f"Game-v1_{number}"
    (run / "Game-v1").mkdir(parents=True)
    (run / "Game-v1" / "config.yml").write_text(yaml.safe_dump(settings))
    rows = [f"{score},10,{i}.0,{10 * i}" for i, score in enumerate(returns, 1)]
    (run / "0.monitor.csv").write_text("\n".join(["#{}", "r,l,t,steps", *rows, ""]))
    np.savez(run / "evaluations.npz", timesteps=np.array([10]), results=np.array([[returns[0]]], float))
    return run


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path, 1, [0, 2, 4, 6], batch_size=8), write_run(tmp_path, 2, [4, 6, 8], batch_size=32)]


def test_the_curve_is_the_mean_over_runs_up_to_the_end_of_the_shortest(runs):
    (one,) = read_training(runs)
    assert (one.timesteps[0], one.timesteps[-1]) == (10, 30)
    mean, low, high = one.curve
    assert (mean[0], mean[-1]) == (2, 6)  # of 0 and 4, of 4 and 8
    assert (low[0], high[0]) == (0, 4)
    np.testing.assert_allclose(np.diff(mean), np.diff(mean)[0])


def test_settings_tell_runs_apart(runs):
    assert [one.agent for one in read_training(runs, ["batch_size"])] == ["dqn, batch_size 32", "dqn, batch_size 8"]
    assert [len(one.returns) for one in read_runs(runs, ["batch_size"])] == [1, 1]
    with pytest.raises(InvalidValue, match="--by: none of the runs sets gamma"):
        read_training(runs, ["gamma"])


def test_picture_and_table_are_written(runs, tmp_path, capsys):
    assert main(["train", *map(str, runs), "-o", str(tmp_path / "t.png"), "--title", "Two seeds"]) == 0
    assert (tmp_path / "t.png").stat().st_size > 10_000
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "environment,agent,timesteps,runs,mean,low,high"
    assert lines[1] == "Game-v1,dqn,10,2,2.0,0.0,4.0"
    assert str(tmp_path / "t.png") in capsys.readouterr().out


def test_what_cannot_be_drawn_is_named(runs, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/0.monitor.csv").touch()
    late = write_run(tmp_path, 3, [1])
    for folders, wanted in ((["nope"], "no such run folder"), ([tmp_path / "empty"], "no training episode has ended")):
        assert main(["train", *map(str, folders)]) == 2
        assert wanted in capsys.readouterr().err
    assert main(["train", str(tmp_path)]) == 2
    assert f"{tmp_path}: not the folder of a run" in capsys.readouterr().err
    assert main(["train", str(runs[0]), str(late)]) == 2
    assert "no two episodes at common agent steps" in capsys.readouterr().err
