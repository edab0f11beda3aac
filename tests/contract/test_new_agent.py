"""The worked example of docs/new_agent.md does what the page says."""

import inspect
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from sbbatch import ALGORITHMS
from sbbatch.components.bootstrap import Munchausen
from sbbatch.networks.heads import QuantileHead
from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.train import read_request

PAGE = Path(__file__).parents[2] / "docs" / "new_agent.md"


@pytest.fixture
def agent_class():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    namespace = {"__name__": "munchausen_qrdqn"}
    exec(blocks[0], namespace)
    assert blocks[1].strip() == '"munchausen_qrdqn": MunchausenQRDQN,'
    return namespace["MunchausenQRDQN"]


def test_the_class_learns_and_is_saved_and_loaded(agent_class, tmp_path):
    settings = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "seed": 0, "device": "cpu"}
    agent = agent_class("MlpPolicy", "CartPole-v1", **settings).learn(60)
    assert agent.bootstrap == Munchausen(log_policy="target")
    assert isinstance(agent.q_net.head, QuantileHead)
    assert agent._n_updates > 0
    agent.save(tmp_path / "model")
    loaded = agent_class.load(tmp_path / "model", device="cpu")
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    actions = [model.predict(observations, deterministic=True)[0].tolist() for model in (agent, loaded)]
    assert actions[0] == actions[1]


def test_the_commands_of_the_page_are_understood():
    commands = re.findall(r"^sbbatch train (.*)$", PAGE.read_text().replace("\\\n", ""), re.MULTILINE)
    requests = [read_request(shlex.split(command)) for command in commands]
    assert len(requests) == 3
    quiet = requests[2]  # without noise; then epsilon must not be what Rainbow has, 0 from the first step on
    assert quiet.settings["policy_kwargs"].value["noisy_sigma0"] == 0
    assert quiet.settings["exploration_initial_eps"].value == 1.0


def test_its_signature_shows_its_defaults(agent_class):
    parameters = inspect.signature(agent_class).parameters
    assert parameters["n_steps"].default == 3
    assert parameters["learning_rate"].default == 5e-5  # QRDQN's


def test_one_line_of_the_registry_gives_it_the_command_line(agent_class, tmp_path, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "munchausen_qrdqn", agent_class)
    conf = tmp_path / "conf.yml"
    conf.write_text("CartPole-v1: {policy: MlpPolicy, learning_starts: 20, buffer_size: 200, batch_size: 8}\n")
    words = ["--algo", "munchausen_qrdqn", "--env", "CartPole-v1", "-n", "60", "-conf", str(conf), "-f", str(tmp_path)]
    assert train.main([*words, "--eval-freq", "-1", "--verbose", "0", "--device", "cpu"]) == 0
    assert (tmp_path / "munchausen_qrdqn" / "CartPole-v1_1" / "CartPole-v1.zip").exists()
