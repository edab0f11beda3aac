"""The learning curve is drawn from the run's files alone."""

import builtins

import numpy as np
import pytest

from sbbatch.errors import UserError
from sbbatch.zoo.plot.curves import main, mean_interval, plot_run, read_curve, running_mean


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "dqn" / "CartPole-v1_1"
    run.mkdir(parents=True)
    rows = "".join(f"{i}.0,10,{i}.5,{10 * i}\n" for i in range(1, 6))
    (run / "0.monitor.csv").write_text('#{"t_start": 1}\nr,l,t,steps\n' + rows)
    np.savez(run / "evaluations.npz", timesteps=[20, 40], results=[[1.0, 3.0], [2.0, 6.0]], ep_lengths=[[1, 1], [1, 1]])
    return run


def test_a_curve_is_read_against_agent_steps(folder):
    curve = read_curve(folder)
    assert curve.episode_steps.tolist() == [10, 20, 30, 40, 50]
    assert curve.episode_returns.tolist() == [1, 2, 3, 4, 5]
    assert curve.evaluation_steps.tolist() == [20, 40]
    assert curve.evaluation_returns.shape == (2, 2)


def test_the_running_mean_counts_the_last_values_only():
    assert running_mean(np.array([1.0, 2.0, 3.0, 4.0]), 2).tolist() == [1.0, 1.5, 2.5, 3.5]


def test_the_interval_is_students_for_few_games():
    # Two games 1 and 3: mean 2, standard error sqrt(2) / sqrt(2) = 1, quantile for one degree of freedom 12.71.
    mean, half = mean_interval(np.array([[1.0, 3.0]]))
    assert (mean[0], half[0]) == pytest.approx((2.0, 12.71))
    assert mean_interval(np.array([[5.0]]))[1].tolist() == [0.0]


def test_a_picture_is_written(folder):
    path = plot_run(folder)
    assert path == folder / "learning_curve.png"
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "start"), [("a.pdf", b"%PDF"), ("a.SVG", b"<?xml"), ("a", b"\x89PNG")])
def test_a_picture_is_what_its_name_says(folder, tmp_path, name, start):
    assert plot_run(folder, tmp_path / name).read_bytes().startswith(start)


def test_a_picture_of_an_unknown_kind_is_refused(folder, tmp_path, capsys):
    assert main([str(folder), "-o", str(tmp_path / "x.foo")]) == 2
    assert "x.foo: got the suffix '.foo', expected .png or .pdf or .svg" in capsys.readouterr().err


def test_monitor_files_of_sb3_are_read_too(folder):
    (folder / "0.monitor.csv").write_text('#{"t_start": 1}\nr,l,t\n1.0,10,0.1\n2.0,20,0.3\n')
    (folder / "1.monitor.csv").write_text('#{"t_start": 1}\nr,l,t\n9.0,5,0.2\n')
    curve = read_curve(folder)
    assert curve.episode_returns.tolist() == [1, 9, 2]
    assert curve.episode_steps.tolist() == [10, 15, 35]


def test_a_half_written_last_line_is_left_out(folder):
    with (folder / "0.monitor.csv").open("a") as file:
        file.write("6.0,1")
    assert len(read_curve(folder).episode_steps) == 5


def test_a_folder_without_anything_to_draw_is_refused(tmp_path):
    with pytest.raises(UserError, match="not the folder of a run"):  # the folder of all runs, say
        plot_run(tmp_path)
    (tmp_path / "0.monitor.csv").touch()
    with pytest.raises(UserError, match="nothing to draw"):
        plot_run(tmp_path)
    with pytest.raises(UserError, match="no such run folder"):
        plot_run(tmp_path / "none")


def test_a_damaged_evaluation_file_is_one_sentence(folder, capsys):
    (folder / "evaluations.npz").write_bytes(b"PK\x03\x04 torn")
    assert main([str(folder)]) == 2
    assert "damaged" in capsys.readouterr().err


def test_evaluations_without_their_steps_are_one_sentence(folder, capsys):
    np.savez(folder / "evaluations.npz", timesteps=[1, 2], results=[[1.0, 2.0]])
    assert main([str(folder)]) == 2
    assert "got results of shape (1, 2), expected (2, games)" in capsys.readouterr().err


def test_a_missing_matplotlib_names_the_extra(folder, monkeypatch):
    genuine = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return genuine(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(UserError, match=r"pip install 'sbbatch\[plots\]'"):
        plot_run(folder)


def test_a_title_is_not_a_formula(folder, tmp_path):
    assert main([str(folder), "-o", str(tmp_path / "c.png"), "--title", r"$\nosuch$"]) == 0


@pytest.mark.parametrize("array", [np.zeros(3), np.array("text")])
def test_an_array_in_place_of_evaluations_is_refused(folder, array):
    with (folder / "evaluations.npz").open("wb") as file:
        np.save(file, array)
    with pytest.raises(UserError, match="not written by an evaluation"):
        plot_run(folder)


def test_a_folder_in_place_of_the_episodes_is_one_sentence(folder, capsys):
    (folder / "0.monitor.csv").unlink()
    (folder / "0.monitor.csv").mkdir()
    assert main([str(folder)]) == 2
    assert f"{folder / '0.monitor.csv'} cannot be read: Is a directory" in capsys.readouterr().err
