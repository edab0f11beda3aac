"""The callback of docs/adaptive_batch.md, as it stands there."""

import re
from pathlib import Path

import pytest

from sbbatch import DQN, PQN

PAGE = Path(__file__).parents[2] / "docs" / "adaptive_batch.md"
SMALL = {"learning_starts": 8, "buffer_size": 500, "train_freq": 4, "seed": 0, "device": "cpu"}


@pytest.fixture
def doubling():
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names = {}
    exec(next(block for block in blocks if "class Doubling" in block), names)
    return names["Doubling"]


def test_it_doubles_the_batch_of_a_replay_agent(doubling):
    agent = DQN("MlpPolicy", "CartPole-v1", batch_size_callback=doubling(4, every=3), **SMALL)
    agent.learn(8 + 4 * 7)  # seven updates
    assert agent.batch_size == 16
    agent.learn(4 * 2, reset_num_timesteps=False)  # the ninth doubles it again
    assert agent.batch_size == 32


def test_it_doubles_the_rollouts_of_another(doubling):
    agent = PQN(
        "MlpPolicy", "CartPole-v1", n_steps=4, n_minibatches=2, batch_size_callback=doubling(4, every=2), seed=0
    )
    agent.learn(4 + 4 + 8)
    assert agent.n_steps == 8
