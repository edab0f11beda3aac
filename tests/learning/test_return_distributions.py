"""Distributional agents learn the distribution of the return, not only its mean."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sbbatch import DQN
from sbbatch.functional.distributions import midpoint_taus
from sbbatch.networks.heads import CategoricalHead, ImplicitQuantileHead, QuantileHead

pytestmark = pytest.mark.slow

GAMMA = 0.9
# In the second state action 0 pays something in [-8, -4] with chance 1/4 and in [2, 8] with chance 3/4, all values
# alike: mean 2.25. Action 1 pays -3 for certain, so little that IQN, whose action values are means of 32 random
# quantiles (standard deviation 0.9 here), does not take it for the better one.
CERTAIN = -3.0
N_POINTS = 200

HEADS = {
    "categorical": (CategoricalHead, {"net_arch": [64]}),
    # A small kappa: with the usual 1, quantiles of distributions as narrow as kappa are drawn towards the mean.
    "quantile": (QuantileHead, {"net_arch": [64], "n_quantiles": 50, "kappa": 0.1}),
    "implicit": (ImplicitQuantileHead, {"net_arch": [64, 64], "n_taus": 16, "n_target_taus": 16, "kappa": 0.1}),
}


def risky_quantile(tau):
    """The true distribution, as its quantile function."""
    return np.where(np.asarray(tau) < 0.25, -8 + 16 * np.asarray(tau), 2 + 8 * (np.asarray(tau) - 0.25))


class Chain(gym.Env):
    """Two states in a row; the second one ends the episode with a random reward."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 0
        return np.eye(2, dtype=np.float32)[0], {}

    def step(self, action):
        if self.state == 0:
            self.state = 1
            return np.eye(2, dtype=np.float32)[1], 0.0, False, False, {}
        reward = risky_quantile(self.np_random.random()) if action == 0 else CERTAIN
        return np.zeros(2, dtype=np.float32), float(reward), True, False, {}


def quantile_function(estimate, state, action, taus):
    """Values of the learned distribution at fractions ``taus``."""
    if hasattr(estimate, "logits"):
        cumulative = estimate.probabilities[state, action].cumsum(0)
        return estimate.support[th.searchsorted(cumulative, taus).clamp(max=len(cumulative) - 1)].numpy()
    if hasattr(estimate, "at"):
        return estimate.at(taus.expand(2, -1)).quantiles[state, action].numpy()
    quantiles = estimate.quantiles[state, action].sort().values
    return quantiles[(taus * len(quantiles)).long()].numpy()


@pytest.mark.parametrize("head", HEADS)
def test_the_distribution_of_a_two_state_chain_is_learned(head):
    head_class, policy_kwargs = HEADS[head]
    agent = DQN(
        "MlpPolicy",
        Chain(),
        head=head_class,
        learning_rate=lambda progress: 3e-3 * progress,
        learning_starts=500,
        train_freq=2,
        batch_size=64,
        buffer_size=10_000,
        gamma=GAMMA,
        target_update_interval=100,
        exploration_fraction=1.0,
        exploration_final_eps=0.5,
        policy_kwargs=policy_kwargs,
        seed=0,
        device="cpu",
    ).learn(8_000)
    taus = midpoint_taus(N_POINTS)
    with th.no_grad():
        estimate = agent.q_net.returns(th.eye(2))
        distances = {}  # 1-Wasserstein, in units of the reward
        for action in (0, 1):  # in the first state both lead to the second
            learned = quantile_function(estimate, 0, action, taus)
            distances[f"first state, action {action}"] = np.abs(learned - GAMMA * risky_quantile(taus)).mean()
        learned = quantile_function(estimate, 1, 0, taus)
        distances["second state, risky"] = np.abs(learned - risky_quantile(taus)).mean()
        distances["second state, certain"] = np.abs(quantile_function(estimate, 1, 1, taus) - CERTAIN).mean()
    print(head, {key: round(float(value), 3) for key, value in distances.items()})
    # A point at the mean would be at a distance of 3.2.
    assert max(distances.values()) < 0.6, distances
    assert agent.predict(np.eye(2, dtype=np.float32)[1], deterministic=True)[0] == 0
