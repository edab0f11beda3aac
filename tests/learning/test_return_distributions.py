"""Distributional agents learn the distribution of the return, not only its mean."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sbbatch import DQN
from sbbatch.functional.distributions import midpoint_taus
from sbbatch.networks.heads import CategoricalHead, ImplicitQuantileHead, QuantileHead

GAMMA = 0.9
# In the second state: action 0 pays -8 or +8, mean 4; action 1 pays 3 for certain. Action 0 is better.
OUTCOMES, CHANCES, CERTAIN = np.array([-8.0, 8.0]), np.array([0.25, 0.75]), 3.0
N_POINTS = 200

HEADS = {
    "categorical": (CategoricalHead, {}),
    # A small kappa: with the usual 1, quantiles of distributions as narrow as kappa are drawn towards the mean.
    "quantile": (QuantileHead, {"n_quantiles": 50, "kappa": 0.1}),
    "implicit": (ImplicitQuantileHead, {"n_taus": 16, "n_target_taus": 16, "kappa": 0.1}),
}


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
        reward = self.np_random.choice(OUTCOMES, p=CHANCES) if action == 0 else CERTAIN
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


def true_quantiles(taus, scale):
    return np.where(taus.numpy() < CHANCES[0], OUTCOMES[0], OUTCOMES[1]) * scale


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
        policy_kwargs={"net_arch": [64], **policy_kwargs},
        seed=0,
        device="cpu",
    ).learn(8_000)
    taus = midpoint_taus(N_POINTS)
    with th.no_grad():
        estimate = agent.q_net.returns(th.eye(2))
        distances = {}  # 1-Wasserstein, in units of the reward
        for action in (0, 1):  # in the first state both lead to the second
            learned = quantile_function(estimate, 0, action, taus)
            distances[f"first state, action {action}"] = np.abs(learned - true_quantiles(taus, GAMMA)).mean()
        learned = quantile_function(estimate, 1, 0, taus)
        distances["second state, risky"] = np.abs(learned - true_quantiles(taus, 1.0)).mean()
        distances["second state, certain"] = np.abs(quantile_function(estimate, 1, 1, taus) - CERTAIN).mean()
    print(head, {key: round(float(value), 3) for key, value in distances.items()})
    # The spread is 16: the mean alone, 4, would be at a distance of 6.
    assert max(distances.values()) < 1.0, distances
    assert agent.predict(np.eye(2, dtype=np.float32)[1], deterministic=True)[0] == 0
