"""Tracking with Weights & Biases, whose library is a double here that writes down what it is told."""

import sys
import types

import pytest
from run_tools import PARAMS, SHORT, arguments, cartpole, refusal, run_folder

from sbbatch.zoo.commands import train
from sbbatch.zoo.run import train as training


class FakeRun:
    def __init__(self, options):
        self.options, self.exit_code = options, None

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def wandb(monkeypatch):
    """The module, with the runs that were begun."""
    module = types.ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.runs = []

    def init(**options):
        module.runs.append(FakeRun(options))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_a_run_is_tracked_through_its_tensorboard_files(tmp_path, wandb):
    words = ["--track", "--wandb-project-name", "mine", "--wandb-entity", "us", "--wandb-group", "g", "-tags", "a", "b"]
    assert cartpole(tmp_path, *words, eval_freq=100) == 0
    (run,) = wandb.runs
    assert (run.options["project"], run.options["entity"], run.options["group"]) == ("mine", "us", "g")
    assert run.options["tags"][:2] == ["a", "b"]
    assert run.options["name"].startswith("CartPole-v1__dqn__0__")
    assert run.options["config"]["saved_hyperparams"]["train_freq"] == 16
    assert (run.options["config"]["algo"], run.options["config"]["seed"]) == ("dqn", 0)
    assert (run.options["sync_tensorboard"], run.options["resume"], run.exit_code) == (True, None, 0)
    assert len(list(run_folder(tmp_path).glob("tensorboard/CartPole-v1/DQN_1/events*"))) == 1


def test_a_resumed_run_is_tracked_under_the_same_id(tmp_path, wandb, capsys):
    assert cartpole(tmp_path, "--track") == 0
    folder = run_folder(tmp_path)
    assert train.main(["--resume", str(folder), "-n", "200"]) == 0
    first, second = wandb.runs
    assert first.options["id"] == second.options["id"] == arguments(folder)["wandb_id"]
    assert second.options["resume"] == "allow"
    written = folder / "CartPole-v1/args.yml"
    written.write_text(written.read_text().replace(first.options["id"], "../../x"))
    assert "wandb_id: got '../../x'" in refusal(capsys, "--resume", str(folder), "-n", "300")
    assert (folder / "CartPole-v1.zip").exists()


def test_each_seed_is_a_run_of_its_own(tmp_path, wandb):
    words = [*SHORT[:2], *SHORT[4:], "--eval-freq", "-1", "--track", "-f", str(tmp_path), "-n", "100"]
    assert train.main([*words, "--seeds", "0:2", *PARAMS]) == 0
    assert len({run.options["id"] for run in wandb.runs}) == 2
    assert [run.options["config"]["seed"] for run in wandb.runs] == [0, 1]


def test_a_run_that_fails_is_told_as_failed(tmp_path, wandb, monkeypatch):
    monkeypatch.setattr(training, "_learn", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cartpole(tmp_path, "--track")
    assert wandb.runs[0].exit_code == 1


def test_a_library_that_is_missing_is_one_sentence_before_anything_is_made(tmp_path, capsys, monkeypatch):
    # None: nowhere to be found; an empty module: a folder of earlier runs with that name.
    for found in (None, types.ModuleType("wandb")):
        monkeypatch.setitem(sys.modules, "wandb", found)
        assert cartpole(tmp_path / "logs", "--track") == 2
        assert capsys.readouterr().err == "sbbatch: error: --track needs wandb; run pip install 'sbbatch[track]'\n"
    assert not (tmp_path / "logs").exists()


def test_a_service_that_refuses_is_one_sentence_and_leaves_no_run(tmp_path, capsys, wandb):
    def init(**_):
        raise wandb.Error("no API key\nconfigured.")

    wandb.init = init
    assert cartpole(tmp_path, "--track") == 2
    text = "sbbatch: error: --track: no API key configured; without a network, set WANDB_MODE=offline\n"
    assert capsys.readouterr().err == text
    assert list((tmp_path / "dqn").iterdir()) == []
