"""Batch sizes adapt: the sizes a callback asks for are those of the updates, and however a run ends, it goes on."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch as th
from contract_tools import (
    KINDS,
    CopyOnce,
    RecordSizes,
    assert_same_weights,
    cart_poles,
    make_agent,
    one_of_each_kind,
    refusal,
    size_name,
    size_of,
    weights,
)
from stable_baselines3.common.callbacks import BaseCallback

from sbbatch import ABS, BTR, DQN, PPO, PQN, BatchSizeSchedule, GradientNoiseScale
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidValue
from sbbatch.networks.layers import Stochastic

# Reacts at once: the size after a divergence of 0 is the largest, after 1 the smallest.
ABRUPT = {"low": 0.05, "high": 0.95, "window": 1, "warmup": 1, "ema": 1.0}


def eager(algorithm, min_size=16, max_size=32, **kwargs):
    """Measures at every update: every fourth agent step on replay, or after every rollout."""
    check_every = 4 if issubclass(algorithm, ReplayAgent) else 1
    return ABS(min_size, max_size, **{"check_every": check_every, "updates": 1, **kwargs})


def scaled(algorithm, kind="vector", **kwargs):
    """BTR's largest batch is 512; PPO's rollouts of 1,024 steps are not for 512 epochs."""
    own = {"buffer_size": 600} if issubclass(algorithm, ReplayAgent) else {"scale_epochs": False}
    return make_agent(algorithm, kind, **own | kwargs)


def drive(agent, divergences):
    """Tell the callbacks these divergences, again and again, whatever the agent does."""
    told = itertools.cycle(divergences)
    agent.divergence = lambda before, after: next(told)


def test_the_batch_follows_the_divergence(algorithm):
    callback = eager(algorithm, **ABRUPT)
    agent = scaled(algorithm, batch_size_callback=callback)
    drive(agent, [0.0, 0.0, 1.0])
    record = RecordSizes(agent)
    agent.learn(200)
    expected = [16, *([32, 32, 16] * 100)][: len(record.sizes)]
    assert len(record.sizes) > 6
    assert record.sizes == expected
    assert [row["size"] for row in callback.history] == [*expected, callback.size]
    assert record.samples == expected  # one environment
    if isinstance(agent, ReplayAgent):
        assert agent._n_samples == sum(expected)
        assert agent._n_updates == 40  # as many as with one size
    else:
        assert agent.num_timesteps == sum(expected) == 16 + 32 + 32 + 16 + 32 + 32 + 16 + 32


@one_of_each_kind
def test_the_sizes_that_are_logged_are_those_that_were_used(algorithm):
    agent = scaled(algorithm, batch_size_callback=eager(algorithm, **ABRUPT))
    drive(agent, [0.0, 1.0])
    record, logged = RecordSizes(agent), []
    agent.learn(4)  # makes the logger
    original = agent.train

    def train(*args, **kwargs):
        original(*args, **kwargs)
        found = agent.logger.name_to_value
        logged.append((found["train/batch_size"], found["batch/size"], found.get("train/n_steps")))

    record.sizes.clear()
    agent.train = train
    agent.learn(120)
    unit = 1 if isinstance(agent, ReplayAgent) else agent.n_minibatches
    assert [used for used, _, _ in logged] == [size / unit for size in record.sizes]
    assert [asked for _, asked, _ in logged][:-1] == record.sizes[1:]
    if not isinstance(agent, ReplayAgent):
        assert [n_steps for _, _, n_steps in logged] == record.sizes


def test_no_step_of_several_environments_is_lost(rollout_algorithm):
    agent = scaled(rollout_algorithm, env=cart_poles(3), batch_size_callback=eager(rollout_algorithm, 4, 8, **ABRUPT))
    drive(agent, [0.0, 0.0, 1.0])
    record = RecordSizes(agent)
    agent.learn(150)
    assert record.sizes[:4] == [4, 8, 8, 4]
    assert record.samples == [3 * size for size in record.sizes]
    assert agent.num_timesteps == sum(record.samples)
    assert agent.batch_size * agent.n_minibatches == 3 * record.sizes[-1]


def test_epochs_follow_the_length_of_the_rollout(rollout_algorithm):
    kwargs = {"n_steps": 16, "n_epochs": 2, "batch_size_callback": eager(rollout_algorithm, 8, 32, **ABRUPT)}
    agent = make_agent(rollout_algorithm, **kwargs | ({"batch_size": 8} if rollout_algorithm is PPO else {}))
    drive(agent, [0.0, 1.0])
    record, epochs = RecordSizes(agent), []
    record.after_update = lambda: epochs.append(agent.n_epochs)
    agent.learn(120)
    assert record.sizes == [8, 32, 8, 32, 8, 32]
    assert epochs == [agent.min_epochs, 4] * 3  # PQN never makes fewer than were asked for
    assert agent.min_epochs == (2 if rollout_algorithm.__name__ == "PQN" else 1)


@pytest.mark.parametrize(
    ("algorithm_class", "lengths", "epochs"),
    [
        # max(2 * length // 32, 2), the authors' PQN
        (PQN, [16, 31, 32, 47, 48, 55, 64, 79, 80, 119, 128], [2, 2, 2, 2, 3, 3, 4, 4, 5, 7, 8]),
        (PPO, [1024, 2048, 4096, 7872, 7904, 8192], [5, 10, 20, 38, 38, 40]),  # 10 * length // 2048
    ],
)
def test_epochs_at_the_published_lengths(algorithm_class, lengths, epochs):
    agent = algorithm_class("MlpPolicy", "CartPole-v1")
    assert [agent.epochs_for(length) for length in lengths] == epochs


@pytest.mark.parametrize(
    ("algorithm_class", "kwargs", "bounds"),
    [
        (PQN, {}, (16, 64)),
        (PQN, {"n_steps": 128}, (64, 256)),
        (PQN, {"n_steps": 128, "epoch_reference": 32}, (16, 64)),
        (PPO, {}, (1024, 8192)),
        (PPO, {"n_steps": 128}, (64, 512)),
        (PPO, {"n_steps": 32, "batch_size": 2}, (32, 128)),  # at least two samples in each of 16 minibatches
    ],
)
def test_default_bounds_move_with_the_length_that_the_epochs_are_for(algorithm_class, kwargs, bounds):
    scaling = algorithm_class("MlpPolicy", "CartPole-v1", **kwargs).batch_scaling
    assert (scaling.min_size, scaling.max_size) == bounds


@pytest.mark.parametrize(("policy", "largest"), [("CnnPolicy", 64), ("CnnPolicy-L", 128)])
def test_larger_networks_go_twice_as_far(policy, largest):
    small = {"features_extractor_kwargs": {"features_dim": 8}}
    assert PQN(policy, KINDS["image"][1](), policy_kwargs=small).batch_scaling.max_size == largest


def test_pqn_is_compared_with_itself_before_the_update_in_the_states_of_that_rollout():
    agent = make_agent(PQN, n_steps=16, learning_rate=0.05, batch_size_callback=ABS(16, 16, check_every=1, n_states=16))
    expected = []

    class Snapshot:
        def before_update(self):
            self.network = copy.deepcopy(agent.q_net)
            self.observations = th.as_tensor(agent.rollout_buffer.observations[:, 0])

        def after_update(self):
            with th.no_grad():
                greedy = [net(self.observations).argmax(dim=1) for net in (self.network, agent.q_net)]
            expected.append((greedy[0] != greedy[1]).double().mean().item())

    agent.update_hooks.append(Snapshot())
    agent.learn(128)
    assert [row["divergence"] for row in agent.batch_size_callback.history[1:]] == expected
    assert max(expected) > 0


def test_the_epoch_reference_is_the_length_that_the_epochs_are_for(rollout_algorithm):
    assert make_agent(rollout_algorithm, n_steps=8, n_epochs=2, epoch_reference=4).n_epochs == 4
    assert make_agent(rollout_algorithm, n_steps=8, n_epochs=2, epoch_reference=4, scale_epochs=False).n_epochs == 2


class Resize(BaseCallback):
    """Asks for a size at a step."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def _on_step(self):
        if self.num_timesteps in self.sizes:
            assert self.model.resize_batch(self.sizes[self.num_timesteps]) == self.sizes[self.num_timesteps]
        return True


@one_of_each_kind
def test_the_size_can_be_doubled_and_halved_in_the_middle_of_a_run(algorithm):
    agent = make_agent(algorithm, **({} if issubclass(algorithm, ReplayAgent) else {"n_steps": 8}))
    record = RecordSizes(agent)
    agent.learn(160, callback=Resize({60: 16, 120: 8}))
    if isinstance(agent, ReplayAgent):  # updates after steps 44, 48, ...; the callback comes before the update
        assert record.sizes == [8] * 4 + [16] * 15 + [8] * 11
    else:  # a rollout that has begun keeps its length: 64 steps, 128, 160
        assert record.sizes == [8] * 8 + [16] * 4 + [8] * 4
        assert agent.num_timesteps == 160


@one_of_each_kind
def test_a_callback_of_the_run_is_as_good_as_one_of_the_agent(algorithm):
    first, second = (eager(algorithm, warmup=2, ema=0.5) for _ in range(2))
    one = scaled(algorithm, batch_size_callback=first).learn(120)
    other = scaled(algorithm).learn(120, callback=second)
    assert first.history == second.history
    assert len(first.history) > 3
    assert_same_weights(weights(one), weights(other))


@pytest.mark.parametrize(
    ("algorithm", "kind"), [(BTR, "vector"), (DQN, "image"), (PQN, "dict"), (PPO, "image"), (PPO, "dict")]
)
def test_measuring_changes_nothing(algorithm, kind):
    fixed = {"batch_size": 16} if issubclass(algorithm, ReplayAgent) else {"n_steps": 16}
    callback = eager(algorithm, 16, 16)
    measured = scaled(algorithm, kind, batch_size_callback=callback, **fixed).learn(64)
    plain = scaled(algorithm, kind, **fixed).learn(64)
    assert len(callback.history) > 3
    assert_same_weights(weights(measured), weights(plain))


def test_divergence_counts_the_states_whose_first_best_action_changed(value_algorithm):
    before = th.tensor([[1.0, 2, 0], [3, 3, 1], [0, 0, 0], [5, 1, 2]])
    after = th.tensor([[2.0, 1, 0], [3, 4, 1], [0, 0, 0], [5, 1, 9]])
    agent = make_agent(value_algorithm).learn(60)
    seen = []
    for table in (before, after):
        agent.q_net.forward = lambda _, table=table: table
        seen.append(agent.behavior(th.zeros(4, 1)))
    assert agent.divergence(*seen) == 0.75
    assert agent.divergence(seen[0], seen[0]) == 0.0


@pytest.mark.parametrize(
    ("env", "before", "after", "expected", "turned_round"),
    [
        # Gaussian: the first state moves as in tests/functional/test_divergence.py, 0.2196411 (turned round 0.3984723),
        # the second not at all; the mean over both
        (
            "Pendulum-v1",
            ([[0.0, 0.0], [0.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]),
            ([[0.1, -0.2], [0.0, 0.0]], [[math.exp(-0.5), math.exp(0.1)], [1.0, 1.0]]),
            0.109820550,
            0.199236158,
        ),
        # categorical, from 1/2, 1/2 to 0.9, 0.1: 0.9 ln 1.8 + 0.1 ln 0.2 = 0.529008 - 0.160944;
        # turned round 0.5 ln (0.5 / 0.9) + 0.5 ln 5 = -0.293893 + 0.804719
        ("CartPole-v1", ([[0.0, 0.0]],), ([[math.log(0.9), math.log(0.1)]],), 0.368064207, 0.510825624),
    ],
)
def test_ppos_divergence_is_that_of_the_new_policy_from_the_old(env, before, after, expected, turned_round):
    agent = make_agent(PPO, env=lambda: env)
    old, new = (tuple(map(th.tensor, behavior)) for behavior in (before, after))
    assert agent.divergence(old, new) == pytest.approx(expected, abs=1e-6)
    assert agent.divergence(new, old) == pytest.approx(turned_round, abs=1e-6)


# -------------------------------------------------------------------------------------------------- rate of updates


@pytest.mark.parametrize("samples_per_step", [4.0, 0.5])
def test_samples_per_agent_step_are_the_same_whatever_the_sizes(samples_per_step):
    callback = eager(DQN, **ABRUPT)
    agent = scaled(DQN, batch_size_callback=callback, samples_per_step=samples_per_step)
    drive(agent, [0.0, 0.0, 1.0])
    record, late = RecordSizes(agent), []

    class Count(BaseCallback):
        def _on_step(self):
            due = samples_per_step * max(self.num_timesteps - 1 - self.model.learning_starts, 0)
            late.append(due - sum(record.sizes))
            return True

    agent.learn(400, callback=Count())
    assert len(set(record.sizes)) == 2
    assert agent._n_samples == sum(record.sizes)
    # Not a whole batch too few, and none before they are due (an update comes with every fourth step).
    assert all(-samples_per_step * 4 <= missing < 32 + samples_per_step * 4 for missing in late)


def test_samples_per_agent_step_count_the_steps_of_all_environments():
    # Updates every 2 vector steps of 3 environments, after 42, 48, ... 240 agent steps: 34 times 4 * 6 samples.
    agent = make_agent(DQN, env=cart_poles(3), train_freq=2, samples_per_step=4.0).learn(240)
    assert agent._n_samples == 34 * 24


def test_a_size_that_grows_between_two_updates_is_paid_for_by_later_ones():
    # 16 steps at 8 samples: 128 are due after 48, 64, ... 208 steps, 11 times, 1,408 in all. The first 8 updates take
    # 16 + 7 * 32 = 240, a debt of 112; then 16 are due, too few for an update of 32; then 4 updates each time, 16 left.
    agent, sizes = make_agent(DQN, train_freq=16, samples_per_step=8.0, batch_size=16), []

    class Grow:
        def before_update(self):
            sizes.append((agent.num_timesteps, agent.batch_size))

        def after_update(self):
            agent.set_batch_size(32)

    agent.update_hooks.append(Grow())
    agent.learn(208)
    assert sizes[:9] == [(48, 16), *[(48, 32)] * 7, (80, 32)]
    assert agent._n_samples == sum(size for _, size in sizes) == 1_408 - 16


# --------------------------------------------------------------------------------------------------- ends of a run


def growing(algorithm):
    agent = scaled(algorithm, batch_size_callback=eager(algorithm, 16, 64, **ABRUPT))
    agent.divergence = lambda before, after: 0.0
    return agent


def n_measured(agent):
    return len(agent.batch_scaling_state["state"]["history"])


def breaking(locals_, _):
    if locals_["self"].num_timesteps >= 150:
        raise KeyboardInterrupt
    return True


@one_of_each_kind
def test_a_run_that_broke_off_goes_on_with_its_callback_or_without(algorithm):
    agent = growing(algorithm)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(500, callback=breaking)
    assert agent.update_hooks == []
    assert size_of(agent) == agent.batch_scaling_state["state"]["size"] == 64
    before = n_measured(agent)
    agent.learn(128, reset_num_timesteps=False)
    assert n_measured(agent) > before
    agent.batch_size_callback = None
    agent.resize_batch(16)
    agent.learn(64, reset_num_timesteps=False)
    assert size_of(agent) == 16


@one_of_each_kind
def test_a_callback_taken_away_while_the_agent_learns_goes_on_to_the_end_of_the_run(algorithm):
    agent = growing(algorithm)

    def take_away(*_):
        agent.batch_size_callback = None
        return True

    agent.learn(150, callback=take_away)
    assert size_of(agent) == 64


@one_of_each_kind
def test_the_window_is_of_one_run_and_of_one_agent(algorithm):
    first = growing(algorithm).learn(150)
    before = n_measured(first)
    scaled(algorithm, batch_size_callback=first.batch_size_callback, seed=1).learn(80)
    assert n_measured(first) == before  # the callback goes on elsewhere
    first.batch_size_callback = ABS(16, 32)  # other arguments, another window
    first.learn(64, reset_num_timesteps=False)
    assert all(row["timesteps"] >= 150 for row in first.batch_size_callback.history)


@one_of_each_kind
def test_a_copy_made_while_the_agent_learns_goes_on_from_the_same_state(algorithm):
    callback = CopyOnce(120)
    agent = growing(algorithm).learn(150, callback=callback)
    copied = callback.copied
    before = len(copied.batch_size_callback.history)
    assert before > 1
    copied.learn(128, reset_num_timesteps=False)
    assert len(copied.batch_size_callback.history) > before
    assert copied.update_hooks == agent.update_hooks == []


def test_a_measurement_goes_on_without_the_replay_memory(tmp_path):
    callback = ABS(16, 16, check_every=8, updates=6, window=5, warmup=5)
    still = {"learning_rate": 1e-12, "target_update_interval": 10_000}
    agent = make_agent(DQN, batch_size_callback=callback, train_freq=1, **still).learn(100)
    while callback.get_state()["measuring"] is None:
        agent.learn(1, reset_num_timesteps=False)
    agent.save(tmp_path / "model")
    loaded = DQN.load(tmp_path / "model", env="CartPole-v1", learning_starts=0)
    loaded.learn(12, reset_num_timesteps=False)
    assert loaded.batch_size_callback.history[-1]["divergence"] == 0.0
    assert len(loaded.batch_size_callback.history) > len(callback.history)


def test_two_schedules_are_told_apart_where_they_differ(tmp_path):
    first = BatchSizeSchedule.piecewise({0: 8, 0.3: 64, 0.4: 8})
    make_agent(DQN, batch_size_callback=first).learn(100).save(tmp_path / "m")
    second = BatchSizeSchedule.piecewise({0: 8})
    agent = DQN.load(tmp_path / "m", env="CartPole-v1", batch_size_callback=second)
    agent.learn(10, reset_num_timesteps=False)
    assert [row["size"] for row in second.history] == [8]


@one_of_each_kind
def test_a_size_that_the_callback_decides_is_not_for_load(algorithm, tmp_path):
    agent = scaled(algorithm, batch_size_callback=ABS(16, 64))
    agent.save(tmp_path / "model")
    given = {size_name(agent): 32}
    assert "ABS decides it" in refusal(InvalidValue, algorithm.load, tmp_path / "model", **given)
    assert size_of(algorithm.load(tmp_path / "model", batch_size_callback=None, **given)) == 32


def test_a_length_given_to_load_replaces_the_one_that_was_asked_for(rollout_algorithm, tmp_path):
    agent = make_agent(rollout_algorithm, n_steps=16, n_epochs=2).learn(16)
    agent.set_n_steps(64)
    agent.save(tmp_path / "model")
    asked_for = rollout_algorithm.load(tmp_path / "model")
    assert (asked_for.n_steps, asked_for.n_epochs) == (64, 8)
    loaded = rollout_algorithm.load(tmp_path / "model", env="CartPole-v1", n_steps=8)
    assert loaded.learn(8).n_steps == 8
    # A reference left open becomes the length that was asked for.
    loaded = rollout_algorithm.load(tmp_path / "model", epoch_reference=None)
    assert (loaded.n_steps, loaded.n_epochs, loaded.epochs_for(128)) == (64, 2, 4)


# ------------------------------------------------------------------------------------------------------- gradients


@pytest.fixture
def of_sixteen(value_algorithm):
    return make_agent(value_algorithm, **{"n_steps": 16} if value_algorithm is PQN else {"batch_size": 16}).learn(60)


def test_the_gradients_of_the_parts_average_to_that_of_the_batch(of_sixteen):
    (whole, n), (parts, part_size) = of_sixteen.gradient_parts(1), of_sixteen.gradient_parts(4)
    assert (n, part_size) == (16, 4)
    assert parts.shape == (4, sum(p.numel() for p in of_sixteen.q_net.parameters()))
    if not any(isinstance(module, Stochastic) for module in of_sixteen.q_net.modules()):  # else each part has its own
        assert th.allclose(parts.mean(dim=0), whole[0], rtol=1e-3, atol=1e-6)
    assert whole.abs().max() > 0


def test_importance_weights_count_in_the_gradients_too():
    agent = make_agent(DQN, batch_size=16).learn(60)
    batch = replace(agent._sample_replay(16), weights=th.tensor([1.0] * 4 + [0.0] * 12))
    agent._sample_replay = lambda _: batch
    gradients, _ = agent.gradient_parts(4)
    assert gradients[0].any()
    assert not gradients[1:].any()


def test_measuring_gradients_changes_nothing(value_algorithm):
    kwargs = {"n_steps": 16} if value_algorithm is PQN else {"batch_size": 16}
    callback = GradientNoiseScale(16, 16, check_every=1 if value_algorithm is PQN else 8, n_parts=4)
    measured = make_agent(value_algorithm, batch_size_callback=callback, **kwargs).learn(80)
    plain = make_agent(value_algorithm, **kwargs).learn(80)
    assert len(callback.history) > 2
    assert_same_weights(weights(measured), weights(plain))


@pytest.mark.parametrize(
    ("algorithm_class", "own"), [(DQN, {"batch_size": 4}), (PQN, {"n_steps": 2}), (PQN, {"n_steps": 512})]
)
def test_a_noise_scale_has_enough_samples_from_the_start(algorithm_class, own):
    callback = GradientNoiseScale(16, 64, check_every=1)
    agent = make_agent(algorithm_class, batch_size_callback=callback, **own).learn(100)
    assert len(callback.history) > 1
    assert {row["size"] for row in callback.history} <= set(range(16, 65))
    assert 16 <= size_of(agent) <= 64


def test_the_probe_has_different_states_of_the_newest_transitions(monkeypatch):
    agent = make_agent(DQN, buffer_size=100).learn(250)
    rng = np.random.default_rng(0)
    for recent, expected in ((100, 100), (30, 30)):
        monkeypatch.setitem(DQN.probe_observations.__globals__, "RECENT", recent)
        found = agent.probe_observations(1_000, rng).numpy()
        assert sorted(found.tolist()) == sorted(agent.replay_buffer.observations[-expected:, 0].tolist())
    assert len(agent.probe_observations(20, rng)) == 20
