"""The disk is full: training goes on as long as anything can be gained by it, and nothing happens silently."""

import errno
import os

import pytest
from run_tools import cartpole, run_folder

from sbbatch import DQN
from sbbatch.zoo.logs.logger import OptionalWriter, WriteErrors
from sbbatch.zoo.run.callbacks import EpisodeLog

FULL = OSError(errno.ENOSPC, "No space left on device")
TOLD = "no space left on device"


@pytest.fixture
def full_for(monkeypatch):
    """Call it with a name: files whose name contains it find no room, the first ``times`` times."""
    sync = os.fsync

    def fill(name, times=99):
        left = [times]

        def full(handle):
            if name in os.path.basename(os.readlink(f"/proc/self/fd/{handle}")) and left[0]:
                left[0] -= 1
                raise FULL
            sync(handle)

        monkeypatch.setattr(os, "fsync", full)

    return fill


class FullFile:
    def __getattr__(self, name):
        raise FULL


@pytest.mark.parametrize("name", ["best_model", "evaluations", "rl_model"])
def test_a_file_that_training_can_do_without_is_told_once(tmp_path, capsys, full_for, name):
    full_for(name)
    assert cartpole(tmp_path, "--save-freq", "50", eval_freq=50) == 0
    folder = run_folder(tmp_path)
    assert (folder / "CartPole-v1.zip").exists()
    assert not list(folder.glob(f"{name}*"))
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1
    assert warnings[0].startswith(f"sbbatch: warning: cannot write {folder / name}")
    assert warnings[0].endswith(f"{TOLD}; training goes on")


@pytest.mark.parametrize(
    ("name", "left"),
    [("CartPole-v1.zip", "last good model: {}/best_model.zip"), (".zip", "no model was saved")],
)
def test_a_last_model_that_cannot_be_saved_ends_with_what_is_left(tmp_path, capsys, full_for, name, left):
    full_for(name)
    assert cartpole(tmp_path, eval_freq=100) == 2
    folder = run_folder(tmp_path)
    *_, sentence = capsys.readouterr().err.splitlines()
    assert sentence == f"sbbatch: error: cannot write {folder / 'CartPole-v1.zip'}: {TOLD}; {left.format(folder)}"


def test_a_curve_that_cannot_be_saved_is_told(tmp_path, capsys, full_for, pictures):
    pictures()
    full_for("learning_curve")
    assert cartpole(tmp_path) == 0
    assert f"no learning curve: cannot write {tmp_path}" in capsys.readouterr().out


def test_a_best_model_that_could_not_be_saved_gives_its_place_to_the_next(tmp_path, monkeypatch, full_for):
    returns = [9.0, 5.0, 7.0]

    def evaluate(*_, callback, **__):
        result = [returns.pop(0)], [1]
        callback({"episode_rewards": result[0], "episode_lengths": result[1], "info": {}, "done": False}, {})
        return result

    monkeypatch.setattr("stable_baselines3.common.callbacks.evaluate_policy", evaluate)
    full_for("best_model", times=1)
    assert cartpole(tmp_path, eval_freq=70) == 0
    assert returns == []
    assert DQN.load(run_folder(tmp_path) / "best_model.zip").num_timesteps == 160  # where the return was 7


def test_tables_and_episodes_that_cannot_be_written_do_not_end_a_run(tmp_path, capsys):
    log = EpisodeLog(tmp_path / "0.monitor.csv", "CartPole-v1")
    log._on_training_start()
    log._file = FullFile()
    log.locals = {"infos": [{"episode": {"r": 1.0, "l": 1}}] * 2}
    assert log._on_step()
    log._on_training_end()
    writer = OptionalWriter(FullFile(), tmp_path / "progress.csv")
    writer.write({}, {}, 0)
    writer.close()
    files = ("0.monitor.csv", "progress.csv")
    told = [f"sbbatch: warning: cannot write {tmp_path / file}: {TOLD}; training goes on" for file in files]
    assert capsys.readouterr().err.splitlines() == told


def test_a_disk_that_fills_up_again_is_told_again(tmp_path, capsys):
    errors = WriteErrors()
    for full in (True, True, False, True):
        with errors.told(tmp_path):
            if full:
                raise FULL
    assert capsys.readouterr().err.count("warning") == 2
