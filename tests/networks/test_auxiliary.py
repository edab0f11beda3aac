"""The auxiliary loss of SPR by hand, where its gradients go, and that the neutral one does nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from contract_tools import assert_same_weights, differ, make_agent, refusal, weights
from stable_baselines3.common.buffers import ReplayBuffer

from sbbatch import DQN, SPR
from sbbatch.components.augmentation import Identity, ShiftAndIntensity
from sbbatch.errors import UserError
from sbbatch.networks.auxiliary import NoAuxiliary, SelfPrediction, unit_distances
from sbbatch.networks.torsos import renormalized


def learner(kind="image", **kwargs):
    agent = make_agent(SPR, kind, learning_starts=100, **kwargs).learn(60)
    agent.policy.set_training_mode(True)
    return agent, agent._sample_replay(8)


def auxiliary_loss(agent, batch):
    return agent.auxiliary(agent.q_net, agent.q_net_target, batch)


def test_distances_worked_by_hand():
    # cos([3, 4], [1, 0]) = 3 / 5, and 2 - 2 * 0.6 = 0.8
    assert unit_distances(th.tensor([[3.0, 4.0]]), th.tensor([[1.0, 0.0]])).tolist() == pytest.approx([0.8])


def test_latents_are_scaled_as_by_hand():
    # from -1 to 5: (2 + 1) / (6 + 1e-5), 0, 6 / (6 + 1e-5), 1 / (6 + 1e-5)
    latents = renormalized(th.tensor([[2.0, -1.0, 5.0, 0.0], [7.0, 7.0, 7.0, 7.0]]))
    assert latents[0].tolist() == pytest.approx([0.49999917, 0.0, 0.99999833, 0.16666639], abs=1e-7)
    assert latents[1].tolist() == [0.0] * 4


@pytest.mark.parametrize(("mask", "loss"), [([1, 1, 1, 1, 1], 3.0), ([1, 1, 1, 0, 0], 1.2), ([0, 0, 0, 0, 0], 0.0)])
def test_a_loss_worked_by_hand(mask, loss, monkeypatch):
    # cos 0.9, 0.8, ... 0.5: 5 * mean(2 - 2 cos) = 5 * 0.6; with the first three alone 5 * (0.2 + 0.4 + 0.6) / 5
    agent, batch = learner()
    distances = th.tensor([0.2, 0.4, 0.6, 0.8, 1.0]).expand(8, 5)
    monkeypatch.setattr("sbbatch.networks.auxiliary.unit_distances", lambda first, second: distances)
    following = batch.following._replace(mask=th.tensor(mask).float().expand(8, 5))
    found = auxiliary_loss(agent, replace(batch, following=following))
    th.testing.assert_close(found, th.full((8,), loss))


@pytest.mark.parametrize("kind", ["image", "vector", "dict"])
def test_gradients_reach_the_model_and_the_torso_and_never_the_target(kind):
    agent, batch = learner(kind)
    assert batch.following.mask.any()
    auxiliary_loss(agent, batch).mean().backward()
    assert all(parameter.grad is None for parameter in agent.q_net_target.parameters())
    assert all(parameter.grad.any() for parameter in agent.q_net.auxiliary.predictor.parameters())
    assert all(parameter.grad is not None for parameter in agent.q_net.auxiliary.parameters())
    torso = list(agent.q_net.features_extractor.parameters())
    assert all(parameter.grad.any() for parameter in torso)


def test_what_comes_after_the_end_of_an_episode_has_no_part_in_it():
    agent, batch = learner()
    later = batch.following
    mask = th.ones(8, 5)
    mask[:, 3:] = 0
    other = later.observations.clone()
    other[:, 3:] = 0
    losses = [
        auxiliary_loss(agent, replace(batch, following=later._replace(observations=seen, mask=mask)))
        for seen in (later.observations, other)
    ]
    assert th.equal(*losses)


def test_the_projection_has_no_noise():
    agent, batch = learner(augmentation=Identity())
    plain = auxiliary_loss(agent, batch)
    for layer in agent.policy.modules():
        if hasattr(layer, "draw"):
            layer.draw(np.random.default_rng(0))
    assert th.equal(auxiliary_loss(agent, batch), plain)


def test_importance_weights_act_on_both_losses_and_priorities_come_from_the_value_alone():
    agent, batch = learner()
    losses, measured = agent._losses(batch)
    assert (losses > measured).any()
    th.testing.assert_close(losses - measured, auxiliary_loss(agent, batch), rtol=1e-4, atol=1e-5)
    assert agent._train_step(replace(batch, weights=th.zeros(8))) == 0.0


@pytest.mark.parametrize("neutral", [NoAuxiliary(), SelfPrediction(weight=0.0)], ids=str)
def test_without_its_weight_spr_is_its_rainbow_to_the_bit(neutral):
    agents = [make_agent(SPR, "image", auxiliary=one) for one in (NoAuxiliary(), neutral, SelfPrediction())]
    before = [weights(agent) for agent in agents]
    assert_same_weights(*before[:2])
    assert not any(key.startswith("q_net.auxiliary") for key in before[1])
    after = [weights(agent.learn(60)) for agent in agents]
    assert_same_weights(*after[:2])
    assert all(not th.equal(after[0][key], after[2][key]) for key in after[0] if "cnn" in key and "weight" in key)


def test_any_agent_on_replay_can_predict_itself_and_is_loaded_with_its_model(tmp_path):
    agent = make_agent(DQN, "image", auxiliary=SelfPrediction(2, 1.0), augmentation=ShiftAndIntensity())
    before = weights(agent)
    agent.learn(60)
    assert differ(before, weights(agent))
    assert agent.replay_buffer.n_following == 2
    agent.save(tmp_path / "m.zip")
    loaded = DQN.load(tmp_path / "m.zip")
    assert loaded.auxiliary == SelfPrediction(2, 1.0)
    assert_same_weights(weights(loaded), weights(agent))


def test_a_buffer_of_sb3_does_not_know_what_follows():
    told = refusal(UserError, make_agent, DQN, replay_buffer_class=ReplayBuffer, auxiliary=SelfPrediction())
    assert told.startswith("auxiliary: ")
