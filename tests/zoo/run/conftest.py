"""Runs of this folder leave no pictures, unless a test asks for them."""

import multiprocessing

import pytest
from run_tools import cartpole, no_pictures, run_folder

from sbbatch.zoo.commands import train

# Processes of environments begin with what they would import one after the other.
multiprocessing.set_forkserver_preload(["sbbatch.zoo.run.train"])


@pytest.fixture(autouse=True)
def pictures(monkeypatch):
    """Call it to have them."""
    real = train.draw_pictures
    monkeypatch.setattr(train, "draw_pictures", no_pictures)
    return lambda: monkeypatch.setattr(train, "draw_pictures", real)


@pytest.fixture(scope="session")
def dqn_run(tmp_path_factory):
    """A run of DQN of 150 steps, which no test may change."""
    logs = tmp_path_factory.mktemp("dqn")
    assert cartpole(logs, "--save-freq", "60", "--save-replay-buffer", eval_freq=60) == 0
    return run_folder(logs)
