"""Tracking with Weights & Biases, whose library is a double here that writes down what it is told."""

import sys
import types

import pytest

from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.run import train

SHORT = ["--algo", "dqn", "--seed", "0", "--num-threads", "1", "--eval-freq", "150", "--eval-episodes", "1"]
PARAMS = ["-params", "learning_starts:100", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]


class FakeRun:
    def __init__(self, options):
        self.options, self.logged, self.metrics, self.exit_code = options, [], [], None

    def define_metric(self, name, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, values):
        self.logged.append(values)

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


def test_a_run_is_tracked_from_its_first_to_its_last_value(tmp_path, wandb):
    words = ["--track", "--wandb-project-name", "mine", "--wandb-entity", "us", "--wandb-group", "g", "-tags", "a", "b"]
    assert train.main([*SHORT, *words, "-n", "300", "-f", str(tmp_path), *PARAMS]) == 0
    (run,) = wandb.runs
    assert (run.options["project"], run.options["entity"], run.options["group"]) == ("mine", "us", "g")
    assert run.options["tags"][:2] == ["a", "b"]
    assert run.options["name"].startswith("CartPole-v1__dqn__0__")
    assert run.options["config"]["saved_hyperparams"]["train_freq"] == 16
    assert (run.options["config"]["algo"], run.options["config"]["seed"]) == ("dqn", 0)
    assert run.options["resume"] is None
    assert run.metrics == [("*", "global_step")]
    evaluated = [(row["global_step"], row["eval/mean_reward"]) for row in run.logged if "eval/mean_reward" in row]
    assert [step for step, _ in evaluated] == [150, 300, 304]
    assert all(isinstance(value, float) for row in run.logged for key, value in row.items() if key != "global_step")
    assert "time/total_timesteps" not in run.logged[-1]  # what TensorBoard is not told either
    assert run.exit_code == 0


def test_a_run_that_goes_on_is_tracked_under_the_same_id(tmp_path, wandb):
    words = [*SHORT, "--track", "-f", str(tmp_path), "-n", "200"]
    assert train.main([*words, *PARAMS]) == 0
    folder = tmp_path / "dqn/CartPole-v1_1"
    assert train.main(["--resume", str(folder), "-n", "300"]) == 0
    first, second = wandb.runs
    assert first.options["id"] == second.options["id"] == read_yaml(folder / "CartPole-v1/args.yml")["wandb_id"]
    assert second.options["resume"] == "allow"
    assert min(row["global_step"] for row in second.logged) > 200


def test_each_seed_is_a_run_of_its_own(tmp_path, wandb):
    words = [*SHORT[:2], *SHORT[4:], "--track", "-f", str(tmp_path), "-n", "200", "--seeds", "0:2"]
    assert train.main([*words, *PARAMS]) == 0
    assert len({run.options["id"] for run in wandb.runs}) == 2
    assert [run.options["config"]["seed"] for run in wandb.runs] == [0, 1]


def test_a_run_that_fails_is_told_as_failed(tmp_path, wandb, monkeypatch):
    def learn(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(train, "learn", learn)
    with pytest.raises(ZeroDivisionError):
        train.main([*SHORT, "--track", "-n", "300", "-f", str(tmp_path), *PARAMS])
    assert wandb.runs[0].exit_code == 1


def test_a_library_that_is_missing_is_one_sentence_before_anything_is_made(tmp_path, capsys, monkeypatch):
    words = [*SHORT, "--track", "-n", "300", "-f", str(tmp_path / "logs"), *PARAMS]
    # None: nowhere to be found; an empty module: a folder of earlier runs with that name.
    for found in (None, types.ModuleType("wandb")):
        monkeypatch.setitem(sys.modules, "wandb", found)
        assert train.main(words) == 2
        assert capsys.readouterr().err == "sbbatch: error: --track needs wandb; run pip install 'sbbatch[track]'\n"
    assert not (tmp_path / "logs").exists()


def test_a_service_that_refuses_is_one_sentence_and_leaves_no_run(tmp_path, capsys, wandb):
    def init(**_):
        raise wandb.Error("no API key\nconfigured.")

    wandb.init = init
    assert train.main([*SHORT, "--track", "-n", "300", "-f", str(tmp_path), *PARAMS]) == 2
    text = "sbbatch: error: --track: no API key configured; without a network, set WANDB_MODE=offline\n"
    assert capsys.readouterr().err == text
    assert list((tmp_path / "dqn").iterdir()) == []


def test_an_id_that_was_tampered_with_is_refused(tmp_path, capsys, wandb):
    assert train.main([*SHORT, "--track", "-n", "200", "-f", str(tmp_path), *PARAMS]) == 0
    folder = tmp_path / "dqn/CartPole-v1_1"
    arguments = folder / "CartPole-v1/args.yml"
    arguments.write_text(arguments.read_text().replace(wandb.runs[0].options["id"], "../../x"))
    assert train.main(["--resume", str(folder), "-n", "300"]) == 2
    assert "wandb_id: got '../../x'" in capsys.readouterr().err
    assert (folder / "CartPole-v1.zip").exists()
