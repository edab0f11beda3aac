"""The callback that measures: on every agent, at the right moments, and without a trace in the training."""

import copy

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from contract_tools import CopyOnce, assert_same_weights, make_agent, weights
from torch import nn

from sbbatch import ALGORITHMS, BTR, DQN, IQN, PPO, PQN, QRDQN, AnalysisMetrics, Rainbow
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.analysis.diagnostics import parameter_distance
from sbbatch.analysis.look import Activations, GradientNorm, features_of
from sbbatch.analysis.metrics_callback import COLUMNS, LABELS, NORM_EVERY, read_metrics
from sbbatch.errors import InvalidType
from sbbatch.networks.impala import ImpalaCNN

EVERYWHERE = {"gradient_norm", "representation_norm", "srank", "policy_churn", "behavioral_divergence"}
OF_TARGETS = {"target_distance", "target_disagreement", "target_parameter_distance"}
OF_LOSSES = {"loss_variance", "gradient_norm_probe", "noise_scale"}


def settings_of(algorithm):
    return {"target_update_interval": 50} if issubclass(algorithm, ReplayAgent) else {}


@pytest.mark.parametrize("kind", ["vector", "image"])
@pytest.mark.parametrize("algorithm", ALGORITHMS.values(), ids=ALGORITHMS)
def test_every_agent_learns_the_same_with_it(algorithm, kind):
    metrics = AnalysisMetrics(every=NORM_EVERY, n_states=32)
    measured = make_agent(algorithm, kind, **settings_of(algorithm)).learn(160, metrics)
    plain = make_agent(algorithm, kind, **settings_of(algorithm)).learn(160)
    assert_same_weights(weights(measured), weights(plain))
    assert measured.policy.training == plain.policy.training
    known = {name for row in metrics.history for name, value in row.items() if not np.isnan(value)}
    has_losses, has_target = algorithm is not PPO, issubclass(algorithm, ReplayAgent)
    expected = EVERYWHERE | (OF_LOSSES - {"noise_scale"} if has_losses else set())
    assert expected | (OF_TARGETS if has_target else set()) <= known
    assert has_target or not known & OF_TARGETS
    assert known <= set(COLUMNS)


@pytest.mark.parametrize("algorithm", [stable_baselines3.DQN, sb3_contrib.QRDQN])
def test_agents_of_sb3_learn_the_same_with_it(algorithm):
    def trained(callback):
        options = {"learning_starts": 40, "target_update_interval": 50, "seed": 0, "device": "cpu"}
        return weights(algorithm("MlpPolicy", "CartPole-v1", **options).learn(240, callback))

    metrics = AnalysisMetrics(every=NORM_EVERY, n_states=32)
    assert_same_weights(trained(metrics), trained(None))
    known = {name for row in metrics.history for name, value in row.items() if not np.isnan(value)}
    assert EVERYWHERE | OF_TARGETS | {"loss_variance"} <= known


def test_an_agent_without_action_values_that_is_not_ours_is_refused():
    with pytest.raises(InvalidType, match="PPO"):
        stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=64).learn(64, AnalysisMetrics())


def test_rows_are_as_far_apart_as_asked_for_and_states_do_not_depend_on_the_batch_size():
    found = []
    for batch_size in (8, 16):
        metrics = AnalysisMetrics(every=20, n_states=32)
        make_agent(DQN, batch_size=batch_size, target_update_interval=4).learn(400, metrics)
        assert [row["updates"] for row in metrics.history] == [0, 20, 40, 60, 80]
        assert {row["batch_size"] for row in metrics.history} == {batch_size}
        found.append(metrics.probe)
    assert th.equal(*found)


def test_the_target_is_looked_at_right_before_it_is_synchronised():
    class Watch(AnalysisMetrics):
        def _look_at_target(self):
            super()._look_at_target()
            self.seen = self._row, copy.deepcopy(self.model.q_net), copy.deepcopy(self.model.q_net_target)
            self.before = self.model.num_timesteps

    watch = Watch(every=1000, n_states=32)
    agent = make_agent(DQN, target_update_interval=100)
    agent.learn(140, watch)
    row, own, target = watch.seen
    assert watch.before == 100
    distance = parameter_distance(own.parameters(), target.parameters())
    assert row["target_parameter_distance"] == distance > 0
    expected = (own(watch.probe) - target(watch.probe)).abs().mean().item()
    assert row["target_distance"] == pytest.approx(expected)
    # and afterwards the target is the network that was seen
    assert all(th.equal(a, b) for a, b in zip(own.parameters(), agent.q_net_target.parameters(), strict=True))


def test_losses_and_gradient_norms_are_those_of_the_updates():
    losses, norms = [], []

    class Recorded(QRDQN):
        def _optimize(self, loss):
            gradients = th.autograd.grad(loss, list(self.q_net.parameters()), retain_graph=True)
            norms.append(th.cat([part.flatten() for part in gradients]).norm().item())
            losses.append(loss.item())
            return super()._optimize(loss)

    metrics = AnalysisMetrics(every=2 * NORM_EVERY + 1, n_states=16, window=5)
    settings = {"policy_kwargs": {"n_quantiles": 5}, "batch_size": 8, "learning_starts": 20, "seed": 0}
    Recorded("MlpPolicy", "CartPole-v1", max_grad_norm=0.01, **settings).learn(120, metrics)
    row = metrics.history[1]
    assert row["updates"] == 2 * NORM_EVERY + 1
    assert row["loss_variance"] == pytest.approx(np.var(losses[16:21], ddof=1), rel=1e-4)
    assert row["gradient_norm"] == pytest.approx(np.mean([norms[10], norms[20]]), rel=1e-4)  # before clipping


def test_behavioral_divergence_of_rollouts_spans_the_whole_update():
    metrics = AnalysisMetrics(every=3, n_states=16)
    make_agent(PQN).learn(40, metrics)  # two gradient steps on each rollout
    assert all(row["updates"] % 2 == 0 for row in metrics.history)


def test_importance_weights_are_averaged_over_the_updates():
    metrics = AnalysisMetrics(every=NORM_EVERY, n_states=16)
    make_agent(Rainbow, target_update_interval=4, batch_size=1).learn(160, metrics)  # alone, each is the largest
    assert metrics.history[-1]["mean_importance_weight"] == 1.0


@pytest.mark.parametrize("algorithm", [IQN, BTR])
def test_noise_and_sampled_fractions_are_no_churn(algorithm):
    agent = make_agent(algorithm, learning_rate=1e-30, target_update_interval=50)
    metrics = AnalysisMetrics(every=NORM_EVERY, n_states=64)
    agent.learn(160, metrics)
    assert {row.get("policy_churn", 0.0) for row in metrics.history} == {0.0}


def test_activations_are_seen_in_modules_and_in_functions():
    agent = make_agent(DQN, "image", policy_kwargs={"features_extractor_class": ImpalaCNN, "net_arch": [16]})
    agent.learn(44)
    states = agent.probe_observations(8, np.random.default_rng(0))
    with Activations() as seen, th.no_grad():
        agent.q_net(states)
    assert len(seen.outputs) == 3 * 2 * 2 + 1 + 1  # two in each block, after the last stack, hidden layer
    features = features_of(agent, states)
    hidden = seen.outputs[-1]
    assert th.allclose(features.last_hidden, hidden)
    assert features.norm == pytest.approx(seen.outputs[-2].flatten(1).norm(dim=1).mean().item(), rel=1e-5)
    assert [len(scores) for scores in features.dormancy][-2:] == [32, 16]


def test_the_gradient_norm_is_that_of_the_next_backward_pass():
    layer = nn.Linear(3, 2)
    norm = GradientNorm(layer.parameters())
    layer(th.ones(4, 3)).square().mean().backward()
    expected = th.cat([one.grad.flatten() for one in layer.parameters()]).norm().item()
    assert norm.take() == pytest.approx(expected)


def test_the_file_has_all_columns_and_goes_on_with_the_run(tmp_path):
    agent = make_agent(DQN, target_update_interval=4)
    agent.learn(200, AnalysisMetrics(every=10, n_states=16, folder=str(tmp_path)))
    first = read_metrics(tmp_path / "metrics.csv")
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    agent.learn(100, AnalysisMetrics(every=10, n_states=16, folder=str(tmp_path)), reset_num_timesteps=False)
    both = read_metrics(tmp_path / "metrics.csv")
    assert both[: len(first)] == first
    assert [row["updates"] for row in both] == sorted({row["updates"] for row in both})
    assert both[-1]["timesteps"] > 200


def test_a_copy_of_an_agent_that_learns_is_measured_no_more():
    copier, metrics = CopyOnce(100), AnalysisMetrics(every=10, n_states=16)
    make_agent(DQN, target_update_interval=4).learn(160, [metrics, copier])
    n = len(metrics.history)
    copier.copied.learn(60)
    assert len(metrics.history) == n


def test_every_column_has_a_name_for_pictures():
    assert set(LABELS) <= set(COLUMNS)
