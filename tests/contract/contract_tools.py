"""Environments, small agents and comparisons for the tests of what every agent promises."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch import DQN, PPO, PQN
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.networks.heads import ExpectedHead

SMALL = {
    "learning_starts": 40,
    "buffer_size": 500,
    "batch_size": 8,
    "train_freq": 4,
    "gradient_steps": 1,
    "target_update_interval": 1000,
    "seed": 0,
    "device": "cpu",
}
SMALL_ROLLOUTS = {"n_steps": 4, "seed": 0, "device": "cpu"}  # two updates on each
SMALL_OWN = {
    "PQN": SMALL_ROLLOUTS | {"n_minibatches": 2, "n_epochs": 1},
    "PPO": SMALL_ROLLOUTS | {"batch_size": 2, "n_epochs": 2},
}
# Smaller networks than the papers', by agent or by agent and kind of observation. The one place for what an agent needs
# to be tested in a moment; one that is not named here is tested with its own.
FAST = {
    "QRDQN": {"n_quantiles": 20},
    "IQN": {"n_taus": 8, "n_target_taus": 8, "n_policy_taus": 8},
    ("BTR", "image"): {"features_extractor_kwargs": {"features_dim": 16, "width": 1}},
}
# Arguments that undo what a recipe may choose, for tests of the plain form.
PLAIN_REPLAY = {"n_steps": 1, "prioritized": False}
PLAIN_EXPLORATION = {
    "exploration_decay": "linear",
    "exploration_decay_steps": None,
    "exploration_stop": None,
    "random_warmup": True,
}
PLAIN_NETWORK = {"head": ExpectedHead, "policy_kwargs": {"noisy_sigma0": 0.0}}  # the same at every look
# For what all agents on replay and all on rollouts do in the same lines.
one_of_each_kind = pytest.mark.parametrize("algorithm", [DQN, PQN])


def plain_network(algorithm):
    """Arguments that make an agent with action values look at everything in the same way every time."""
    return PLAIN_NETWORK if issubclass(algorithm, ReplayAgent) else {}


def rollout_class(algorithm):
    """PQN or PPO, whichever an agent is or extends."""
    return next(base for base in (PQN, PPO) if issubclass(algorithm, base))


def size_name(algorithm):
    """What the batch size of an agent, or of its class, is called."""
    is_class = isinstance(algorithm, type)
    return "batch_size" if issubclass(algorithm if is_class else type(algorithm), ReplayAgent) else "n_steps"


def size_of(agent):
    """Its present batch size."""
    return getattr(agent, size_name(agent))


class DictEnv(gym.Env):
    """A vector and a number to look at; episodes of seven steps."""

    observation_space = spaces.Dict({"vector": spaces.Box(-1, 1, (3,), np.float32), "number": spaces.Discrete(4)})
    action_space = spaces.Discrete(2)

    def __init__(self):
        self.step_count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return self._observe(), {}

    def step(self, action):
        self.step_count += 1
        return self._observe(), float(action), self.step_count == 7, False, {}

    def _observe(self):
        return {"vector": self.np_random.uniform(-1, 1, 3).astype(np.float32), "number": self.step_count % 4}


class SpaceEnv(gym.Env):
    """Only its spaces count."""

    def __init__(self, observation_space, action_space=None):
        self.observation_space, self.action_space = observation_space, action_space or spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return self.observation_space.sample(), {}


def image_env():
    env = FakeImageEnv(screen_height=36, screen_width=36)
    env.observation_space.seed(0)
    return env


def cart_poles(n):
    return DummyVecEnv([lambda: gym.make("CartPole-v1")] * n)


KINDS = {
    "vector": ("MlpPolicy", "CartPole-v1", {}),
    # Hidden layers in torso and head, so that the image is small work and every kind of dueling has a place.
    "image": ("CnnPolicy", image_env, {"features_extractor_kwargs": {"features_dim": 16}, "net_arch": [16]}),
    "dict": ("MultiInputPolicy", DictEnv, {}),
}


def make_agent(algorithm, kind="vector", **kwargs):
    policy, env, policy_kwargs = KINDS[kind]
    env = kwargs.pop("env", env)
    name = algorithm.__name__
    policy_kwargs = FAST.get(name, {}) | policy_kwargs | FAST.get((name, kind), {})
    small = SMALL if issubclass(algorithm, ReplayAgent) else SMALL_OWN[rollout_class(algorithm).__name__]
    settings = small | {"policy_kwargs": policy_kwargs} | kwargs
    return algorithm(policy, env() if callable(env) else env, **settings)


class RecordSizes:
    """An update hook of the user's: the sizes that updates are made with, and what the rollouts really hold."""

    def __init__(self, agent):
        self.agent, self.sizes, self.samples = agent, [], []
        agent.update_hooks.append(self)

    def before_update(self):
        agent, on_replay = self.agent, isinstance(self.agent, ReplayAgent)
        self.sizes.append(size_of(agent))
        self.samples.append(agent.batch_size if on_replay else agent.rollout_buffer.rewards.size)

    def after_update(self):
        pass


class StopAt(BaseCallback):
    """Ends the run at a step."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        return self.num_timesteps < self.step


class CopyOnce(BaseCallback):
    """Keeps a copy of the agent as it was at a step, and a module, which cannot be copied."""

    def __init__(self, step=1):
        super().__init__()
        self.step, self.copied, self.module = step, None, th

    def _on_step(self):
        if self.copied is None and self.num_timesteps >= self.step:
            self.copied = copy.deepcopy(self.model)
        return True


class RecordedLogger(Logger):
    """Keeps the last value of every key."""

    def __init__(self):
        super().__init__(None, [])
        self.seen = {}

    def record(self, key, value, exclude=None):
        self.seen[key] = value


def weights(agent):
    return {key: value.clone() for key, value in agent.policy.state_dict().items()}


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert th.equal(first[key], second[key]), key


def differ(first, second):
    return any(not th.equal(first[key], second[key]) for key in first)


def observations_of(agent, n=16):
    agent.observation_space.seed(1)
    samples = [agent.observation_space.sample() for _ in range(n)]
    if isinstance(samples[0], dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack([np.clip(sample, -10, 10) for sample in samples])


def refusal(error, function, *args, **kwargs):
    """The one line in which a function refuses its arguments."""
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message
