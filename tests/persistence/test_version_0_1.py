"""What version 0.1 wrote still loads, plays and goes on."""

import importlib
import shutil
from pathlib import Path

import pytest

import sbbatch
from sbbatch.moved import MODULES
from sbbatch.zoo.commands import enjoy, train

OLD = Path(__file__).parents[1] / "data" / "version_0_1"


@pytest.mark.parametrize("name", ["qrdqn", "pqn", "ppo"])
def test_a_model_loads_and_goes_on(name):
    model = sbbatch.ALGORITHMS[name].load(OLD / f"{name}.zip", env="CartPole-v1")
    steps = model.num_timesteps
    if name == "qrdqn":
        model.load_replay_buffer(OLD / "qrdqn_replay.npz")
        assert model.replay_buffer.size() == 300
    model.learn(100, reset_num_timesteps=False)
    assert model.num_timesteps >= steps + 100


def test_a_run_is_resumed_and_played(tmp_path):
    folder = tmp_path / "logs" / "qrdqn" / "CartPole-v1_1"
    shutil.copytree(OLD / "run", folder)
    assert train.main(["--resume", str(folder), "-n", "1700", "--no-progress"]) == 0
    steps = [int(line.split(",")[0]) for line in (folder / "batch_size.csv").read_text().split()[1:]]
    assert steps == sorted(set(steps))
    assert steps[-1] > 1500
    words = ["--algo", "qrdqn", "--env", "CartPole-v1", "-f", str(tmp_path / "logs"), "--no-render", "-n", "50"]
    assert enjoy.main(words) == 0


@pytest.mark.parametrize("old", sorted(MODULES))
def test_old_import_paths_lead_to_the_new_classes(old):
    new = importlib.import_module(MODULES[old])
    shared = set(vars(importlib.import_module(old))) & set(vars(new)) - {"__name__", "__spec__"}
    public = [name for name in shared if not name.startswith("_")]
    assert all(getattr(importlib.import_module(old), name) is getattr(new, name) for name in public)


def test_old_class_names_are_the_new_classes():
    from sbbatch.algorithms.value import ValueAlgorithm

    assert issubclass(sbbatch.QRDQN, ValueAlgorithm)
