"""Parts of the user's own, from torso to optimizer, are tried when the agent is made, not at the first update."""

import numpy as np
import pytest
import torch as th
from contract_tools import KINDS, assert_same_weights, make_agent, refusal, weights
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sbbatch.components.bootstrap import BootstrapTarget, Greedy
from sbbatch.errors import InvalidValue
from sbbatch.networks.heads import ExpectedHead

EXPECTED = {"head": ExpectedHead, "policy_kwargs": {}}
GREEDY = Greedy()


def with_rewards_as_column(current, online, target, batch):
    estimate, policy, bonus, rewards = GREEDY(current, online, target, batch)
    return BootstrapTarget(estimate, policy, bonus, rewards.unsqueeze(1))


def with_bonus_of_samples(current, online, target, batch):
    estimate, policy, bonus, rewards = GREEDY(current, online, target, batch)
    return BootstrapTarget(estimate, policy, bonus[:, 0], rewards)


@pytest.mark.parametrize(
    ("bootstrap", "message"),
    [
        (lambda batch: batch, "got <lambda>, which does not make a BootstrapTarget of a batch (TypeError: "),
        (lambda *_: None, "(TypeError: cannot unpack"),
        (lambda *_: 1 / 0, "(ZeroDivisionError: "),
        (with_bonus_of_samples, "(ValueError: bonus of shape (2,), expected (2, "),
    ],
)
def test_a_bootstrap_that_makes_no_target_is_refused(replay_algorithm, bootstrap, message):
    told = refusal(InvalidValue, make_agent, replay_algorithm, bootstrap=bootstrap)
    assert told.startswith("bootstrap: got ")
    assert message in told


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_would_spread_over_the_batch_are_refused(replay_algorithm, kind):
    told = refusal(InvalidValue, make_agent, replay_algorithm, kind, bootstrap=with_rewards_as_column)
    assert "(ValueError: rewards of shape (2, 1), expected (2,)); see sbbatch.components.bootstrap" in told


class BareHead(nn.Module):
    """Action values, and nothing that makes a loss of them."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers.build(1)

    def forward(self, features):
        return self.layers(features).squeeze(2)


class WideHead(ExpectedHead):
    """A value of every action, and one too many."""

    def forward(self, features):
        estimate = super().forward(features)
        q_values = th.cat([estimate.q_values, estimate.q_values[:, :1]], dim=1)
        return type(estimate)(q_values, estimate.elementwise_loss)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (BareHead, "'Tensor' object has no attribute 'q_values'"),
        (WideHead, "q_values of shape (2, 3), expected (2, 2)"),
    ],
)
def test_a_head_that_gives_no_estimate_is_refused(replay_algorithm, head, message):
    told = refusal(InvalidValue, make_agent, replay_algorithm, head=head, bootstrap=GREEDY, policy_kwargs={})
    assert told.startswith(f"head: got {head.__name__}, which does not give a ReturnEstimate (")
    assert message in told


class OwnHead(ExpectedHead):
    pass


class OwnGreedy:
    """Greedy, in other words; counts the batches it sees."""

    def __init__(self):
        self.sizes = []

    def __call__(self, current, online, target, batch):
        self.sizes.append(len(batch))
        np.random.rand()
        th.rand(1)
        return GREEDY(current, online, target, batch)


def test_parts_of_ones_own_learn_as_sbbatchs_and_trying_them_leaves_no_trace(replay_algorithm):
    th.manual_seed(0)
    ours = make_agent(replay_algorithm, **EXPECTED, bootstrap=GREEDY)
    drawn = th.rand(1), np.random.rand(), ours.noise_rng.random()
    own = OwnGreedy()
    theirs = make_agent(replay_algorithm, **(EXPECTED | {"head": OwnHead}), bootstrap=own)
    assert own.sizes == [2]
    assert (th.rand(1), np.random.rand(), theirs.noise_rng.random()) == drawn
    for agent in (ours, theirs):
        agent.learn(80)
    assert_same_weights(weights(ours), weights(theirs))
    assert set(own.sizes[1:]) == {8}


@pytest.mark.parametrize("betas", [(2.0, 2.0), 5])
def test_arguments_that_an_optimizer_refuses_are_told_in_one_line(algorithm, betas):
    told = refusal(InvalidValue, make_agent, algorithm, policy_kwargs={"optimizer_kwargs": {"betas": betas}})
    assert told.startswith("policy_kwargs: optimizer_kwargs: ")
    assert "cannot be made (" in told


@pytest.mark.parametrize("optimizer_class", [th.optim.SGD, th.optim.RMSprop, th.optim.Adamax])
def test_other_optimizers_learn(algorithm, optimizer_class):
    agent = make_agent(algorithm, policy_kwargs={"optimizer_class": optimizer_class})
    before = weights(agent)
    agent.learn(60)
    assert any(not th.equal(before[key], value) for key, value in weights(agent).items())


class OwnTorso(BaseFeaturesExtractor):
    """Draws numbers and counts what it sees."""

    wide = 0

    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.linear = nn.Linear(4, 8 + self.wide)
        self.register_buffer("n_seen", th.zeros(()))

    def forward(self, observations):
        th.rand(1)
        self.n_seen += len(observations)
        return self.linear(observations)


class WideTorso(OwnTorso):
    wide = 1


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"features_extractor_class": WideTorso}, "features_extractor_class: got WideTorso, which does not fit the"),
        ({"activation_fn": nn.GLU, "net_arch": [8, 8]}, "activation_fn: got GLU, which does not fit the network"),
    ],
)
def test_a_network_that_makes_no_values_of_observations_is_refused(algorithm, policy_kwargs, message):
    told = refusal(InvalidValue, make_agent, algorithm, policy_kwargs=policy_kwargs)
    assert told.startswith(f"policy_kwargs: {message}")
    assert "(RuntimeError: " in told


@pytest.mark.parametrize("kind", ["vector", "dict"])
def test_other_activations_learn(algorithm, kind):
    agent = make_agent(algorithm, kind, policy_kwargs={"activation_fn": nn.Tanh, "net_arch": [8]})
    assert agent.learn(60).num_timesteps >= 60


def test_trying_a_torso_of_ones_own_leaves_no_trace(algorithm, monkeypatch):
    kwargs = {"policy_kwargs": {"features_extractor_class": OwnTorso}}
    tried = make_agent(algorithm, **kwargs)
    assert all(value == 0 for key, value in tried.policy.state_dict().items() if key.endswith("n_seen"))
    tried.learn(60)
    for module in ("value", "rollout"):
        monkeypatch.setattr(f"sbbatch.algorithms.{module}.try_network", lambda agent: None)
    assert_same_weights(weights(tried), weights(make_agent(algorithm, **kwargs).learn(60)))
