"""The Python of README and docs runs as it stands, but for the number of steps."""

import re
from pathlib import Path

import pytest
import stable_baselines3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sbbatch import PQN
from sbbatch.agents.base.agent import Agent

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FRAGMENT = '"munchausen_qrdqn": MunchausenQRDQN,'  # a line of the registry
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
    if block.strip() != FRAGMENT
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the files that the pages name."""
    folder = tmp_path_factory.mktemp("docs")
    env = VecNormalize(make_vec_env("CartPole-v1"))
    stable_baselines3.DQN("MlpPolicy", "CartPole-v1", learning_starts=10).learn(20).save(folder / "sb3_dqn.zip")
    stable_baselines3.PPO("MlpPolicy", env, n_steps=64).learn(64).save(folder / "sb3_ppo.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    return folder


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block, folder, monkeypatch):
    if "sbbatch.zoo.register" in block:
        pytest.importorskip("rl_zoo3", reason="rl_zoo3 is an extra")
    learn = Agent.learn

    def learn_a_little(agent, total_timesteps, **kwargs):
        return learn(agent, total_timesteps, callback=lambda *_: False, **kwargs)

    monkeypatch.setattr(PQN, "atari_envs", 2)  # for 128, whose ALE takes half a minute to start
    for algorithm in [Agent, *Agent.__subclasses__()]:
        monkeypatch.setattr(algorithm, "learn", learn_a_little, raising=False)
    monkeypatch.chdir(folder)
    exec(compile(block, "<docs>", "exec"), {"__name__": "docs"})
