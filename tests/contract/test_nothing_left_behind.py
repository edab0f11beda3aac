"""What is put back afterwards is put back after an exception, too."""

import numpy as np
import pytest
import torch as th
from contract_tools import assert_same_weights, make_agent, weights
from torch import nn

from sbbatch import ABS
from sbbatch.agents.base.measuring import buffers_kept, streams_kept, undisturbed
from sbbatch.agents.base.threads import fastest_threads


class Boom(Exception):
    pass


def fail_after(*calls):
    for call in calls:
        call()
    raise Boom


def test_a_failed_look_leaves_the_mode_of_the_policy(algorithm):
    policy = make_agent(algorithm).policy
    policy.set_training_mode(True)
    with pytest.raises(Boom), undisturbed(policy):
        raise Boom
    assert policy.training
    assert th.is_grad_enabled()


def test_a_failed_look_leaves_every_random_stream():
    own = np.random.default_rng(0)
    before = own.bit_generator.state, np.random.get_state()[1].tolist(), th.get_rng_state().tolist()
    with pytest.raises(Boom), streams_kept(th.device("cpu"), [own]):
        fail_after(own.random, np.random.rand, lambda: th.rand(1))
    assert (own.bit_generator.state, np.random.get_state()[1].tolist(), th.get_rng_state().tolist()) == before


def test_a_failed_look_leaves_what_a_torso_counts():
    norm = nn.BatchNorm1d(2)
    with pytest.raises(Boom), buffers_kept(norm):
        fail_after(lambda: norm(th.ones(3, 2)))
    assert norm.num_batches_tracked == 0
    assert th.equal(norm.running_mean, th.zeros(2))


def test_a_failed_update_is_no_measurement_and_leaves_no_counter_behind(algorithm):
    agent = make_agent(algorithm)
    callback = ABS(4, 8, check_every=1, updates=1, warmup=1)
    agent.learn(64, callback)
    size, n_rows = callback.size, len(callback.history)
    agent.update_hooks.append(callback)
    with pytest.raises(Boom), agent.updating():
        raise Boom
    assert (callback.size, len(callback.history)) == (size, n_rows)
    assert not getattr(agent.policy.optimizer, "_optimizer_step_post_hooks", {})


def test_a_failed_measurement_leaves_the_agent_as_it_was(replay_algorithm, monkeypatch):
    agent = make_agent(replay_algorithm)
    agent.learn(40)
    agent.policy.set_training_mode(True)
    states = [one.bit_generator.state for one in (agent.noise_rng, agent.replay_buffer.rng)]

    monkeypatch.setattr(agent, "_losses", lambda batch: fail_after(agent.noise_rng.random))
    with pytest.raises(Boom):
        agent.gradient_parts(2)
    assert agent.policy.training
    assert [one.bit_generator.state for one in (agent.noise_rng, agent.replay_buffer.rng)] == states


def test_timing_threads_leaves_the_agent_as_it_was(algorithm):
    def learned(look):
        agent = make_agent(algorithm)
        look(agent)
        return weights(agent.learn(64))

    def time_threads(agent):
        th.set_num_threads(4)
        try:
            assert fastest_threads(agent, seconds=0.01) in (1, 2, 4)
            assert th.get_num_threads() == 4
        finally:
            th.set_num_threads(1)

    assert_same_weights(learned(time_threads), learned(lambda agent: None))
