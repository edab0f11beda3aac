"""The train step of every agent: what reaches the gradient, what does not, and when there is noise."""

import copy
from dataclasses import replace

import pytest
import torch as th
from contract_tools import assert_same_weights, cart_poles, differ, make_agent, weights

from sbbatch import BTR, DQN, IQN, Rainbow
from sbbatch.agents.base import replay as value
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


def test_without_target_noise_nothing_is_drawn_and_nothing_is_added(replay_algorithm):
    agent, batch = fresh(replay_algorithm)
    state = agent.noise_rng.bit_generator.state
    assert th.equal(agent._noisy(batch.rewards), batch.rewards)
    assert agent.noise_rng.bit_generator.state == state


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
