"""How the batch size changed: the file a run leaves, and the picture drawn from it."""

import errno
import re
from types import SimpleNamespace

import numpy as np
import pytest

from sbbatch.analysis.figure import new_figure
from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.plot import main
from sbbatch.zoo.console.progress import find_batch_callback, measured_now, size_now
from sbbatch.zoo.logs.batch_log import lines_of, read_batch_log
from sbbatch.zoo.plot.batch_trace import _draw, _measures, _names, plot_batch, read_batch_run
from sbbatch.zoo.plot.runs import read_run
from sbbatch.zoo.run.callbacks import BatchSizeLog

HEADER = "timesteps,divergence,divergence_mean,target,noise_scale,size\n"
ROWS = "0,,,,,8\n100,0.5,0.5,20.5,,8\n200,0.25,0.375,30,,10\n"


def write_run(logs, number, seed=None):
    run = logs / "dqn" / f"CartPole-v1_{number}"
    (run / "CartPole-v1").mkdir(parents=True)
    if seed is not None:
        (run / "CartPole-v1" / "args.yml").write_text(f"env: CartPole-v1\nseed: {seed}\n")
    (run / "batch_size.csv").write_text(HEADER + ROWS)
    rows = "".join(f"{i}.0,10,{i}.5,{10 * i}\n" for i in range(1, 31))
    (run / "0.monitor.csv").write_text('#{"t_start": 1}\nr,l,t,steps\n' + rows)
    np.savez(run / "evaluations.npz", timesteps=[150, 320], results=[[1.0, 3.0], [2.0, 6.0]])
    return run


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path, 1, seed=0)


def measured(steps, divergence, size):
    return {"timesteps": steps, "divergence": divergence, "divergence_mean": divergence, "target": 9.5, "size": size}


class Session:
    """A run whose model has measured what ``history`` says."""

    def __init__(self, path, history, start=0, batch_size=8):
        followed = SimpleNamespace(history=history, size=batch_size)
        self.model = SimpleNamespace(batch_size_callback=followed, num_timesteps=start)
        self.log = BatchSizeLog(path)
        self.log.model, self.log.num_timesteps = self.model, start
        self.log._on_training_start()

    def step(self):
        assert self.log._on_step()


def test_a_run_writes_its_starting_size_and_then_every_measurement(tmp_path):
    history, path = [], tmp_path / "batch_size.csv"
    session = Session(path, history)
    session.step()
    assert path.read_text() == HEADER + "0,,,,,8\n"
    history += [measured(10, 0.5, 8), measured(10, np.float32(0.25), np.int64(9))]  # two updates in one step
    session.step()
    session.step()
    assert path.read_text() == HEADER + "0,,,,,8\n10,0.5,0.5,9.5,,8\n10,0.25,0.25,9.5,,9\n"
    history.append(measured(20, 0.125, 10))  # by the last update, after the last step
    session.log._on_training_end()
    assert [row["size"] for row in read_batch_log(path)] == [8, 8, 9, 10]


def test_a_model_that_goes_on_in_a_new_folder_begins_with_its_present_size(tmp_path):
    history = [measured(10, 0.5, 8), measured(20, 0.25, 12)]
    session = Session(tmp_path / "b.csv", history, start=20, batch_size=12)
    session.step()
    history.append(measured(30, 0.25, 14))
    session.step()
    assert (tmp_path / "b.csv").read_text() == HEADER + "20,,,,,12\n30,0.25,0.25,9.5,,14\n"


@pytest.mark.parametrize("remembers", [True, False], ids=["history kept", "history lost"])
def test_a_run_that_goes_on_in_its_folder_neither_doubles_nor_loses_rows(tmp_path, remembers):
    path, history = tmp_path / "b.csv", [measured(steps, 0.5, 8) for steps in (10, 20, 30)]
    Session(path, []).step()
    with path.open("a") as file:
        file.write(lines_of(history) + "40,0.5,0.")  # killed here; the model was saved at step 20
    history = history[:2] if remembers else []
    session = Session(path, history, start=20)
    history.append(measured(30, 0.25, 16))
    session.step()
    session.log._on_training_end()
    rows = read_batch_log(path)
    assert [row["timesteps"] for row in rows] == [0, 10, 20, 30]
    assert rows[-1]["size"] == 16


def test_rows_that_the_disk_had_no_room_for_come_from_the_history(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text(HEADER + "0,,,,,8\n10,0.5,0.5,9.5,,8\n")
    Session(path, [measured(steps, 0.5, 8) for steps in (10, 20)], start=20).step()
    assert [row["timesteps"] for row in read_batch_log(path)] == [0, 10, 20]


def test_a_damaged_file_is_told_and_begun_anew(tmp_path, capsys):
    path = tmp_path / "b.csv"
    path.write_text("rubbish\n")
    Session(path, [], start=50).step()
    assert path.read_text() == HEADER + "50,,,,,8\n"
    assert "starting over" in capsys.readouterr().err


def test_a_full_disk_is_told_once_and_training_goes_on(tmp_path, capsys, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sbbatch.zoo.run.callbacks.atomic_write", full)
    session = Session(tmp_path / "b.csv", [measured(10, 0.5, 8)])
    session.step()
    session.step()
    session.log._on_training_end()
    assert capsys.readouterr().err.count("training goes on") == 1


SHORT = ["--env", "CartPole-v1", "--seed", "0", "--num-threads", "1", "--eval-freq", "-1", "-params"]
SMALL = ["n_steps:8", "n_minibatches:4", "n_envs:4", "policy_kwargs:dict(net_arch=[16])"]
REPLAY = ["learning_starts:20", "train_freq:10", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]


@pytest.mark.parametrize(
    ("algo", "callback", "params", "column"),
    [
        ("pqn", "noise_scale(4, 16, check_every=1)", SMALL, "noise_scale"),
        ("pqn", "schedule(4, 12)", SMALL, None),
        ("qrdqn", "abs(4, 8, check_every=40, updates=2)", REPLAY, "divergence"),
        ("ppo", "abs(8, 16, check_every=1)", ["n_steps:8", "batch_size:16"], "divergence"),
    ],
)
def test_an_adaptive_run_leaves_its_sizes_and_their_picture(tmp_path, capsys, algo, callback, params, column):
    words = ["--algo", algo, "-n", "160", "-f", str(tmp_path), *SHORT, *params, f"batch_size_callback:{callback}"]
    assert train.main(words) == 0
    folder = tmp_path / algo / "CartPole-v1_1"
    rows = read_batch_log(folder / "batch_size.csv")
    own = callback.startswith("noise")  # it begins with the agent's own size
    assert (rows[0]["timesteps"], rows[0]["size"]) == (0, 8 if own else int(re.search(r"\d+", callback)[0]))
    assert len(rows) > 2
    for name in ("divergence", "noise_scale"):
        assert np.isfinite([row[name] for row in rows]).any() == (name == column)
    out = capsys.readouterr().out
    assert f"measurements: {folder / 'batch_size.csv'}" in out
    assert f"batch size picture: {folder / 'batch_size.png'}" in out
    run = read_batch_run(folder)
    assert run.name_of("size").replace("\n", " ") == (
        "batch size (samples)" if algo == "qrdqn" else "rollout length (steps)"
    )
    assert _measures([run]) == ([] if column is None else [column])


def test_the_last_row_is_the_size_that_the_model_goes_on_with(tmp_path):
    words = ["--algo", "pqn", "-f", str(tmp_path), *SHORT, "n_timesteps:300", *SMALL]
    assert train.main([*words, "batch_size_callback:abs(8, 16, check_every=1, window=1, warmup=1)"]) == 0
    folder = tmp_path / "pqn"
    last = read_batch_log(folder / "CartPole-v1_1/batch_size.csv")[-1]
    model = str(folder / "CartPole-v1_1/CartPole-v1.zip")
    assert train.main(["--algo", "pqn", "-i", model, "-n", "100", "-f", str(tmp_path), *SHORT[:-1]]) == 0
    first, *others = read_batch_log(folder / "CartPole-v1_2/batch_size.csv")
    assert (first["timesteps"], first["size"]) == (last["timesteps"], last["size"])
    assert others[0]["timesteps"] > first["timesteps"]


def test_a_run_that_ends_before_the_first_measurement_has_no_picture(tmp_path, capsys):
    words = ["--algo", "pqn", "-n", "100", "-f", str(tmp_path), "--abs", *SHORT, *SMALL]
    assert train.main(words) == 0
    assert "no batch size picture: " in capsys.readouterr().out


def test_runs_are_called_by_what_tells_them_apart(run, tmp_path):
    def names(*folders):
        return _names([read_run(folder) for folder in folders])

    second, third = write_run(tmp_path, 2, seed=1), write_run(tmp_path, 3, seed=1)
    assert names(run) == ("DQN on CartPole-v1, seed 0", ["seed 0"])
    assert names(run, second) == ("DQN on CartPole-v1", ["seed 0", "seed 1"])
    assert names(second, third) == ("DQN on CartPole-v1", ["CartPole-v1_2", "CartPole-v1_3"])
    for folder, callback in ((run, "abs(8, 16)"), (second, "schedule(8, 16)")):
        (folder / "CartPole-v1" / "config.yml").write_text(f"batch_size_callback: {callback}\n")
    assert names(second, run)[1] == ["batch size callback schedule(8, 16)", "batch size callback abs(8, 16)"]
    (third / "CartPole-v1" / "args.yml").write_text("env: Acrobot-v1\nseed: 0\n")
    (third / "CartPole-v1" / "config.yml").write_text("batch_size_callback: abs(8, 16)\n")
    assert names(run, third)[1] == ["DQN on CartPole-v1", "DQN on Acrobot-v1"]
    (third / "CartPole-v1" / "config.yml").write_text("batch_size_callback: abs(8, 32)\n")
    assert names(run, third)[1][1] == "DQN on Acrobot-v1, batch size callback abs(8, 32)"


@pytest.mark.parametrize(
    ("callback", "thresholds"),
    [
        ("abs", (0.05, 0.95)),
        ("abs(8, 64, low=0.1, high=0.3)", (0.1, 0.3)),
        ("abs(high=0.5)", (0.05, 0.5)),
        ("schedule(8, 16)", None),
        ("another.Callback(3)", None),
    ],
)
def test_thresholds_are_those_of_the_run(run, callback, thresholds):
    (run / "CartPole-v1" / "config.yml").write_text(f"batch_size_callback: {callback}\n")
    assert read_batch_run(run).thresholds == thresholds


def test_target_and_thresholds_are_inside_the_picture(run):
    """The target is above all sizes here, the high threshold above all divergences."""
    (run / "CartPole-v1" / "config.yml").write_text("batch_size_callback: abs\n")
    figure = new_figure(6, 6)
    _draw(figure, [read_batch_run(run)], ["seed 0"])
    _, divergence, sizes = figure.axes
    assert divergence.get_ylim()[1] > 0.95
    assert {0.05, 0.95} <= {line.get_ydata()[0] for line in divergence.get_lines()}
    assert sizes.get_ylim()[1] > 30
    assert any(line.get_ydata()[-1] == 30 for line in sizes.get_lines())


def test_a_fixed_batch_size_leaves_no_file(tmp_path):
    for model in (SimpleNamespace(batch_size=8), SimpleNamespace(batch_size=8, batch_size_callback=None)):
        assert find_batch_callback(model) is None
        assert measured_now(model) is None
        assert size_now(model) == "batch 8"
        log = BatchSizeLog(tmp_path / "b.csv")
        log.model, log.num_timesteps = model, 0
        log._on_training_start()
        assert log._on_step()
        log._on_training_end()
    assert not list(tmp_path.iterdir())


def test_a_picture_is_drawn_from_the_files_alone(run, capsys):
    assert main(["batch", str(run)]) == 0
    assert (run / "batch_size.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"{run / 'batch_size.png'}\n{run / 'batch_size.pdf'}\n"
    assert read_batch_run(run).end == 320  # its last evaluation: the last size lasts until then


def test_several_runs_share_a_picture_beside_them(run, tmp_path):
    second = write_run(tmp_path, 2, seed=1)
    (second / "batch_size.csv").write_text(HEADER + "0,,,,,8\n100,,,,40,128\n")
    for name in ("0.monitor.csv", "evaluations.npz"):  # a run without episodes is drawn too
        (second / name).unlink()
    assert _measures([read_batch_run(folder) for folder in (run, second)]) == ["divergence", "noise_scale"]
    assert main(["batch", str(run), str(second)]) == 0
    assert (tmp_path / "dqn" / "batch_size.png").exists()
    (pdf,) = plot_batch([run, second], tmp_path / "b.pdf", title=r"$\nosuch$")
    assert pdf.read_bytes().startswith(b"%PDF")


def test_a_half_written_last_line_is_left_out(run):
    with (run / "batch_size.csv").open("a") as file:
        file.write("300,0.5,0.5,30,,3")  # of 32
    assert len(read_batch_log(run / "batch_size.csv")) == 3


@pytest.mark.parametrize("line", ["a,b,c,d,e,f", "300,0.5", "300,0.5,0.5,30,,nan", "50,0.5,0.5,30,,8", ""])
def test_a_damaged_line_is_named(run, capsys, line):
    with (run / "batch_size.csv").open("a") as file:
        file.write(f"{line}\n400,0.5,0.5,30,,8\n")
    assert main(["batch", str(run)]) == 2
    assert capsys.readouterr().err == f"sbbatch: error: {run / 'batch_size.csv'}: damaged in line 5\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "this run has a fixed batch size"),
        ("", "expected 'timesteps,divergence,"),
        (HEADER + "0,,,,,8\n", "nothing was measured yet"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(run, capsys, content, told):
    (run / "batch_size.csv").unlink()
    if content is not None:
        (run / "batch_size.csv").write_text(content)
    assert main(["batch", str(run)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
