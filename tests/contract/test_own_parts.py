"""Heads, bootstraps and optimizers of the user's own are tried when the agent is made, not at the first update."""

import numpy as np
import pytest
import torch as th
from contract_tools import KINDS, assert_same_weights, make_agent, refusal, weights
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


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        (
            {"optimizer_class": th.optim.LBFGS},
            "got LBFGS, which makes no step on gradients alone (TypeError: LBFGS.step",
        ),
        ({"optimizer_class": th.optim.SparseAdam}, "does not support dense gradients"),
        ({"optimizer_kwargs": {"differentiable": True}}, "a leaf Variable that requires grad"),
    ],
)
def test_an_optimizer_that_makes_no_step_is_refused(algorithm, policy_kwargs, message):
    told = refusal(InvalidValue, make_agent, algorithm, policy_kwargs=policy_kwargs)
    assert told.startswith("policy_kwargs: optimizer_class: got ")
    assert told.endswith("; torch.optim.Adam does with its defaults")
    assert message in told


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
