"""Agents that learn from replay: what reaches the gradient, and SB3's parts and arguments."""

import copy
import inspect
from dataclasses import replace

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from contract_tools import (
    PLAIN_REPLAY,
    assert_same_weights,
    cart_poles,
    differ,
    make_agent,
    refusal,
    weights,
)
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

import sbbatch
from sbbatch import BTR, DQN, IQN, Rainbow
from sbbatch.agents.base import replay as value
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import UserError
from sbbatch.networks.layers import NoisyLinear, Stochastic


def fresh(algorithm, **kwargs):
    """An agent that has played but not learned, so that the optimizer has no momentum, and a batch."""
    agent = make_agent(algorithm, learning_starts=100, **kwargs).learn(60)
    assert agent._n_updates == 0
    agent.policy.set_training_mode(True)
    return agent, agent._sample_replay(8)


def test_importance_weights_scale_the_loss_and_the_gradient_of_their_samples(replay_algorithm):
    agent, batch = fresh(replay_algorithm)
    halves, spoilt = copy.deepcopy(agent), copy.deepcopy(agent)
    loss = agent._train_step(replace(batch, weights=th.ones(8)))
    assert halves._train_step(replace(batch, weights=th.full((8,), 0.5))) == pytest.approx(loss / 2, rel=1e-5)

    first_half = th.tensor([1.0] * 4 + [0.0] * 4)
    other_rewards = th.where(first_half == 1, batch.rewards, batch.rewards + 5)
    agent, same = copy.deepcopy(spoilt), copy.deepcopy(spoilt)
    agent._train_step(replace(batch, weights=first_half))
    spoilt._train_step(replace(batch, weights=first_half, rewards=other_rewards))
    assert_same_weights(weights(agent), weights(spoilt))
    before = weights(same)
    same._train_step(replace(batch, weights=th.zeros(8)))
    assert_same_weights(weights(same), before)


def test_targets_are_constants_and_the_target_network_is_never_trained(replay_algorithm):
    agent, batch = fresh(replay_algorithm)
    current = agent.q_net.returns(batch.observations)
    assert not agent._target(current, batch).requires_grad
    before = weights(agent)
    agent._train_step(batch)
    assert all(parameter.grad is None for parameter in agent.q_net_target.parameters())
    after = weights(agent)
    assert differ(before, after)
    for key in after:
        assert key.startswith("q_net.") or th.equal(before[key], after[key]), key


@pytest.mark.parametrize("stochastic_agent", [Rainbow, IQN, BTR])
def test_every_step_draws_noise_for_both_networks_and_leaves_them_still(stochastic_agent):
    agent, batch = fresh(stochastic_agent)
    drawn = []  # noise of the layers, in the order in which they compute

    def note(module, _):
        assert module._noise is not None
        drawn.append(tuple(module._noise[0].tolist()))

    for network in (agent.q_net, agent.q_net_target):
        for module in network.modules():
            if isinstance(module, NoisyLinear):
                module.register_forward_pre_hook(note)
    state = agent.noise_rng.bit_generator.state
    for _ in range(2):
        agent._train_step(batch)
        modules = [m for net in (agent.q_net, agent.q_net_target) for m in net.modules() if isinstance(m, Stochastic)]
        assert modules
        assert all(getattr(m, "_noise", None) is None and getattr(m, "_rng", None) is None for m in modules)
    assert agent.noise_rng.bit_generator.state != state
    n_layers = sum(isinstance(m, NoisyLinear) for m in modules)  # of both networks
    assert len(set(drawn)) == 2 * n_layers, "each layer of each network has noise of its own, new in each step"


def test_the_target_network_is_copied_by_agent_steps_whatever_the_number_of_environments(monkeypatch):
    agent, copied_at = make_agent(DQN, env=cart_poles(4), target_update_interval=24), set()
    monkeypatch.setattr(value, "sync_target", lambda *_, **__: copied_at.add(agent.num_timesteps))
    agent.learn(100)
    assert copied_at == {24, 48, 72, 96}


def test_a_schedule_of_the_importance_exponent_is_told_the_progress_of_the_run():
    agent = make_agent(DQN, prioritized=True, importance_exponent=lambda progress: 1.0 - 0.6 * progress)
    told = {}

    class Look:
        def before_update(self):
            pass

        def after_update(self):
            told[agent.num_timesteps] = agent.replay_buffer.sampler.progress_remaining

    agent.update_hooks.append(Look())
    agent.learn(100)  # updates after steps 44, 48, ...
    assert told == pytest.approx({step: 1 - step / 100 for step in range(44, 101, 4)})


# ---------------------------------------------------------------------------------------------------------- SB3's parts


ON_REPLAY = [name for name, algorithm in sbbatch.ALGORITHMS.items() if issubclass(algorithm, ReplayAgent)]
PEERS = {"dqn": stable_baselines3.DQN, "qrdqn": sb3_contrib.QRDQN}


def test_the_replay_buffer_of_sb3_works(replay_algorithm, tmp_path):
    agent = make_agent(replay_algorithm, replay_buffer_class=ReplayBuffer, **PLAIN_REPLAY)
    before = weights(agent)
    agent.learn(80)
    assert type(agent.replay_buffer) is ReplayBuffer
    assert differ(before, weights(agent))
    agent.save_replay_buffer(tmp_path / "b")
    agent.load_replay_buffer(tmp_path / "b")
    assert agent.replay_buffer.size() == 80


@pytest.mark.parametrize("told", ["buffer", "agent"])
def test_the_n_step_buffer_of_sb3_works_when_it_is_configured(told):
    discount = {"gamma": 0.9}
    kwargs = {"n_steps": 3, **(discount if told == "buffer" else {})}
    theirs = {"replay_buffer_class": NStepReplayBuffer, "replay_buffer_kwargs": kwargs}
    agent = make_agent(DQN, **theirs, **(discount if told == "agent" else {})).learn(60)
    discounts = agent._sample_replay(200).discounts.unique()
    assert th.isclose(discounts, th.tensor(0.729)).any()  # three rewards
    assert (discounts < 0.91).all()  # nothing else is used: neither the agent's default nor the buffer's


@pytest.mark.parametrize("kwargs", [{"n_steps": 3}, {"prioritized": True}])
def test_what_only_our_buffer_can_do_is_not_silently_dropped(kwargs):
    assert "ReplayBuffer" in refusal(UserError, make_agent, DQN, replay_buffer_class=ReplayBuffer, **kwargs)


def test_one_agent_learns_the_same_from_sb3s_transitions_as_from_ours():
    # Drawn by different generators, the batches differ, but what is stored is the same.
    ours, theirs = (
        make_agent(DQN, replay_buffer_class=buffer_class).learn(40) for buffer_class in (None, ReplayBuffer)
    )
    np.testing.assert_array_equal(ours.replay_buffer.observations[:, 0], theirs.replay_buffer.observations[:40, 0])
    np.testing.assert_array_equal(ours.replay_buffer.actions[:, 0], theirs.replay_buffer.actions[:40, 0, 0])
    np.testing.assert_array_equal(ours.replay_buffer.dones, theirs.replay_buffer.dones[:40])


@pytest.mark.parametrize("name", ON_REPLAY)
def test_arguments_have_the_names_and_the_order_of_sb3(name):
    peer = PEERS.get(name, stable_baselines3.DQN)
    ours, theirs = (
        list(inspect.signature(cls.__init__).parameters.values()) for cls in (sbbatch.ALGORITHMS[name], peer)
    )
    shared = ours[: len(theirs)]
    assert [parameter.name for parameter in shared] == [parameter.name for parameter in theirs]
    assert theirs[-1].name == "_init_setup_model"
    if name in PEERS:
        assert [parameter.default for parameter in shared] == [parameter.default for parameter in theirs]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in ours[len(theirs) :])
    assert all(parameter.default is not inspect.Parameter.empty for parameter in ours[len(theirs) :])


@pytest.mark.parametrize("name", PEERS)
def test_the_defaults_of_the_peer_reach_the_agent(name):
    algorithm = sbbatch.ALGORITHMS[name]
    ours, theirs = (cls("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=1000) for cls in (algorithm, PEERS[name]))
    for attribute in inspect.signature(PEERS[name].__init__).parameters:
        if hasattr(theirs, attribute) and isinstance(getattr(theirs, attribute), (int, float, str, tuple, type(None))):
            if attribute in ("replay_buffer_class", "device"):
                continue
            assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    for key in ("lr", "eps", "betas", "weight_decay"):
        assert ours.policy.optimizer.param_groups[0][key] == theirs.policy.optimizer.param_groups[0][key]
