"""What goes wrong where a batch size meets an agent's other arguments."""

from dataclasses import fields

import numpy as np
import pytest
import torch as th
from contract_tools import assert_same_weights, cart_poles, make_agent, weights

from sbbatch import ABS, BTR, DQN, PPO, PQN, BatchSizeCallback
from sbbatch.functional.distributions import midpoint_taus
from sbbatch.replay.samplers import PrioritizedSampler


@pytest.mark.parametrize("algorithm", [DQN, BTR])
def test_samples_per_step_needs_no_other_argument(algorithm):
    agent = algorithm("MlpPolicy", "CartPole-v1", samples_per_step=8, learning_starts=20, buffer_size=500)
    assert agent.learn(64)._n_samples > 0


@pytest.mark.parametrize("given", [{}, {"prioritized": True}])
def test_a_sampler_of_ones_own_is_told_of_the_losses(given):
    told = []

    class Own(PrioritizedSampler):
        def update_priorities(self, indices, td_losses):
            told.append(len(indices))
            super().update_priorities(indices, td_losses)

    make_agent(DQN, replay_buffer_kwargs={"sampler_class": Own}, **given).learn(64)
    assert set(told) == {8}


def test_the_noise_of_a_network_is_no_noise_of_the_gradient():
    """All parts of a batch see one draw of it, as in training."""
    agent = make_agent(BTR, buffer_size=500).learn(64)
    agent.set_batch_size(16)
    one = agent._sample_replay(2)
    agent._sample_replay = lambda n: _repeated(one, 8)
    agent.q_net.head.draw_taus = lambda features, n: midpoint_taus(n).expand(len(features), n)
    parts, _ = agent.gradient_parts(8)
    th.testing.assert_close(parts, parts[:1].expand_as(parts))


def _repeated(batch, n):
    def repeat(value):
        return value.repeat(n, *[1] * (value.ndim - 1)) if isinstance(value, th.Tensor) else np.tile(value, n)

    return type(batch)(**{field.name: repeat(getattr(batch, field.name)) for field in fields(batch)})


@pytest.mark.parametrize("algorithm", [DQN, BTR])
def test_a_size_asked_for_before_an_update_holds_in_it(algorithm):
    class Rising(BatchSizeCallback):
        def config(self):
            return {}

        def _start(self):
            self.resize(8)

        def before_update(self):
            self.resize(self.size + 1)

    agent, drawn = make_agent(algorithm), []
    sample = agent._sample_replay
    agent._sample_replay = lambda n: (drawn.append(n), sample(n))[1]
    agent.learn(64, Rising())
    assert drawn == list(range(9, 9 + len(drawn)))


def test_equal_bounds_keep_a_minibatch_that_does_not_divide_the_rollout():
    def trained(callback):
        agent = PPO("MlpPolicy", "CartPole-v1", n_steps=100, batch_size=64, seed=0, batch_size_callback=callback)
        return weights(agent.learn(300))

    assert_same_weights(trained(ABS(100, 100, check_every=1)), trained(None))


def test_bounds_that_are_left_out_are_sizes_the_agent_can_have():
    for agent, callback in (
        (make_agent(DQN, batch_size=128, batch_divisor=128), ABS()),
        (make_agent(DQN, buffer_size=50), ABS()),
        (make_agent(DQN), ABS(quantum=100)),
        (make_agent(BTR), ABS(8, 64)),
    ):
        assert agent.learn(64, callback).batch_size == callback.size


def test_an_agent_whose_rollouts_adapt_is_loaded_into_fewer_environments(tmp_path):
    callback = ABS(16, 64, check_every=1, warmup=1)
    agent = PQN("MlpPolicy", cart_poles(4), n_steps=16, n_minibatches=16, batch_size_callback=callback, seed=0)
    agent.learn(1500).save(tmp_path / "m")
    loaded = PQN.load(tmp_path / "m", env="CartPole-v1")
    assert loaded.n_steps % 16 == 0
