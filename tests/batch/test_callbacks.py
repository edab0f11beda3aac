"""Batch-size callbacks on an agent that does nothing but count: timing, sizes, state and refusals."""

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import CallbackList, EvalCallback, EveryNTimesteps
from stable_baselines3.common.logger import Logger

from sbbatch.batch import ABS, BatchScalable, BatchScaling, BatchSizeCallback, BatchSizeSchedule, GradientNoiseScale
from sbbatch.batch.callback import find_batch_size_callback
from sbbatch.errors import InvalidType, InvalidValue


class Agent:
    """Each update moves the next of the given divergences; a rollout is ``n_steps`` long in ten environments."""

    batch_scaling = BatchScaling("n_steps", 16, 64, check_every=2)
    size_multiple, samples_per_unit, seed = 1, 10, 0
    gradients, part_size = th.tensor([[1.0], [1.0]]), 4

    def __init__(self, divergences=(), total=1_000):
        self.update_hooks, self.batch_scaling_state = [], None
        self.logger = Logger(None, [])
        self.n_steps, self.batch_time, self.num_timesteps, self._total_timesteps = 32, 0, 0, total
        self.divergences, self.looked_at = list(divergences), []

    def check_batch(self, name, size):
        if size > 1_000:
            raise InvalidValue(f"{name}: got {size}, expected at most 1000")
        return size

    def resize_batch(self, size):
        self.n_steps = size
        return size

    def probe_observations(self, n_states, rng):
        return rng.choice(100, size=min(n_states, 100), replace=False)

    def behavior(self, probe):
        self.looked_at.append((self.batch_time, probe))
        return (th.tensor([self.batch_time]),)

    def divergence(self, before, after):
        return self.divergences.pop(0)

    def gradient_parts(self, n_parts):
        return self.gradients, self.part_size

    def start(self, callback):
        callback.init_callback(self)
        callback.on_training_start({}, {})
        return callback

    def update(self, n=1):
        sizes = []
        for _ in range(n):
            self.num_timesteps += self.n_steps * self.samples_per_unit
            self.batch_time += 1
            for callback in [hook for hook in self.update_hooks if isinstance(hook, BatchSizeCallback)]:
                callback.on_rollout_end()
            for hook in list(self.update_hooks):
                hook.before_update()
            for hook in list(self.update_hooks):
                hook.after_update()
            sizes.append(self.n_steps)
        return sizes


def test_the_agent_of_these_tests_has_what_callbacks_ask_for():
    assert isinstance(Agent(), BatchScalable)


# ------------------------------------------------------------------------------------------------------------- ABS


def test_abs_measures_across_one_update_at_every_multiple_of_its_interval():
    agent = Agent([0.5] * 9)
    callback = agent.start(ABS(check_every=3, warmup=1))
    agent.update(10)
    clocks = [clock for clock, _ in agent.looked_at]
    assert clocks == [3, 3, 6, 6, 9, 9]  # before and after
    assert all(np.array_equal(first[1], second[1]) for first, second in zip(*[iter(agent.looked_at)] * 2, strict=True))
    assert len(callback.history) == 4  # the start, and three measurements


def test_abs_measures_across_as_many_updates_as_it_is_told():
    agent = Agent([0.5] * 9)
    agent.start(ABS(check_every=5, updates=3))
    agent.update(12)
    assert [clock for clock, _ in agent.looked_at] == [5, 7, 10, 12]


def test_abs_starts_at_the_smallest_size_and_follows_the_scheduler():
    # low = 0.05 for ever: target 64. 16 -> 16 + 0.1 * 48 = 20.8 -> 25.12 -> 29.008, after two measurements to warm up
    agent = Agent([0.05] * 4)
    agent.start(ABS(check_every=1, warmup=2))
    assert agent.n_steps == 16
    assert agent.update(4) == [16, 21, 25, 29]


def test_abs_takes_bounds_that_the_agent_can_have():
    agent = Agent()
    agent.size_multiple = 12
    callback = agent.start(ABS())
    assert (callback.scheduler.min_size, callback.scheduler.max_size) == (24, 60)
    with pytest.raises(InvalidValue, match=r"ABS: min_size: got 16, expected a multiple of 12"):
        agent.start(ABS(16, 60))


def test_one_bound_moves_the_other_default():
    agent = Agent()
    callback = agent.start(ABS(min_size=100))
    assert (callback.scheduler.min_size, callback.scheduler.max_size) == (100, 100)


def test_what_was_measured_is_logged_and_kept():
    agent = Agent([0.2])
    callback = agent.start(ABS(check_every=1, warmup=1))
    agent.update()
    row = callback.history[-1]
    # alpha = ln(0.2 / 0.05) / ln(0.95 / 0.05) = 0.470818; target 64 - 0.470818 * 48 = 41.400744
    assert row == {
        "timesteps": 160,
        "divergence": 0.2,
        "divergence_mean": pytest.approx(0.2),
        "target": pytest.approx(41.400744, abs=1e-6),
        "size": 19,  # 16 + 2.54
    }
    logged = agent.logger.name_to_value
    assert {key: logged[f"batch/{key}"] for key in ("divergence", "divergence_mean", "target", "size")} == {
        key: row[key] for key in ("divergence", "divergence_mean", "target", "size")
    }


@pytest.mark.parametrize("interrupted_at", [1, 7, 8, 9, 20])
def test_a_restored_callback_goes_on_like_the_uninterrupted_one(interrupted_at):
    divergences = np.random.default_rng(0).uniform(0, 1, 40).tolist()
    whole = Agent(divergences)
    whole.start(ABS(check_every=1, warmup=3, updates=3))
    expected = whole.update(40)

    first = Agent(divergences)
    callback = first.start(ABS(check_every=1, warmup=3, updates=3))
    sizes = first.update(interrupted_at)
    state = pickle.loads(pickle.dumps(callback.saved_state()))
    second = Agent(first.divergences)
    second.batch_time, second.num_timesteps = first.batch_time, first.num_timesteps
    second.batch_scaling_state = state
    second.start(ABS(check_every=1, warmup=3, updates=3))
    assert sizes + second.update(40 - interrupted_at) == expected
    assert [p.tolist() for _, p in first.looked_at + second.looked_at] == [p.tolist() for _, p in whole.looked_at]


def test_other_arguments_start_anew():
    agent = Agent([0.05] * 20)
    agent.start(ABS(check_every=1, warmup=1))
    agent.update(5)
    agent.batch_scaling_state = agent.update_hooks.pop().saved_state()
    agent.start(ABS(check_every=np.int64(1), warmup=np.int32(1)))  # the same arguments
    assert agent.n_steps > 16
    agent.start(ABS(check_every=1, warmup=2))
    assert agent.n_steps == 16


# -------------------------------------------------------------------------------------------------- the noise scale


def noisy(noise, signal, n_parts=2, part_size=4):
    """Gradients of two parts with the given noise and signal: m * (x - y)^2 / 2 and ((x + y) / 2)^2 - noise / (2 m)."""
    mean = (signal + noise / (n_parts * part_size)) ** 0.5
    half = (noise / part_size / 2) ** 0.5
    return th.tensor([[mean + half], [mean - half]], dtype=th.float64)


@pytest.mark.parametrize(
    ("noise", "signal", "size"),
    [
        (300.0, 1.0, 30),  # 300 samples in ten environments
        (309.9, 1.0, 30),  # whole steps
        (10.0, 1.0, 16),
        (9e9, 1.0, 64),
        (5.0, 1e-9, 16),  # no signal
    ],
)
def test_the_noise_scale_is_the_batch_size(noise, signal, size):
    agent = Agent()
    agent.gradients = noisy(noise, signal)
    callback = agent.start(GradientNoiseScale(check_every=2))
    assert agent.update(1) == [32]  # its own size until the first measurement
    assert agent.update(1) == [size]
    assert callback.history[-1]["gradient_noise"] == pytest.approx(noise)


def test_a_negative_signal_gives_the_smallest_size():
    agent = Agent()
    agent.gradients = th.tensor([[1.0], [-1.0]])
    callback = agent.start(GradientNoiseScale(check_every=1))
    assert agent.update() == [16]
    assert callback.history[-1]["gradient_signal"] < 0
    assert callback.history[-1]["noise_scale"] == 0


def test_the_noise_scale_goes_on_where_it_was():
    agent = Agent()
    agent.gradients = noisy(300.0, 1.0)
    agent.start(GradientNoiseScale(check_every=3))
    agent.update(3)
    state = agent.update_hooks[0].saved_state()
    again = Agent()
    again.batch_time, again.batch_scaling_state = 3, pickle.loads(pickle.dumps(state))
    again.start(GradientNoiseScale(check_every=3))
    assert again.n_steps == 30


# ------------------------------------------------------------------------------------------------------- schedules


def test_a_line_of_sizes():
    agent = Agent(total=10_000)
    callback = agent.start(BatchSizeSchedule.linear(10, 110))
    assert agent.n_steps == 10
    sizes = agent.update(60)
    assert sizes[0] == 11  # after 100 of 10,000 steps
    assert sizes == sorted(sizes)
    assert sizes[-1] == 110
    assert callback.history[0] == {"timesteps": 0, "size": 10}
    assert [row["size"] for row in callback.history] == sorted({10, *sizes})


def test_pieces_and_functions():
    agent = Agent(total=1_000)
    agent.start(BatchSizeSchedule.piecewise({0.5: 30, 0.0: 10}))
    assert agent.update(7) == [10, 10, 10, 10, 30, 30, 30]
    other = Agent(total=1_000)
    other.start(BatchSizeSchedule(lambda progress: 8 * 16**progress))
    assert other.n_steps == 8


def test_sizes_are_those_the_agent_can_have():
    agent = Agent(total=2_000)
    agent.size_multiple = 32
    agent.start(BatchSizeSchedule.linear(1, 100))
    assert agent.n_steps == 32
    assert sorted(set(agent.update(6))) == [32, 64, 96]


def test_a_loaded_schedule_follows_the_clock():
    agent = Agent(total=1_000)
    agent.start(BatchSizeSchedule.linear(10, 110))
    agent.update(2)
    state = agent.update_hooks[0].saved_state()
    again = Agent(total=1_000)
    again.num_timesteps, again.batch_scaling_state = 500, state
    callback = again.start(BatchSizeSchedule.linear(10, 110))
    assert again.n_steps == 60
    assert callback.history[0] == {"timesteps": 0, "size": 10}


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ABS(64, 8), "max_size"),
        (lambda: ABS(0, 8), "min_size"),
        (lambda: ABS(8, 16.5), "max_size"),
        (lambda: ABS(low=0.0), "low"),
        (lambda: ABS(low=0.5, high=0.2), "high"),
        (lambda: ABS(kind="lgo"), "did you mean 'log'?"),
        (lambda: ABS(warmup=30), "warmup"),
        (lambda: ABS(ema=0), "ema"),
        (lambda: ABS(rounding="exakt"), "did you mean 'exact'?"),
        (lambda: ABS(check_every=0), "check_every"),
        (lambda: ABS(verbose="x"), "verbose"),
        (lambda: GradientNoiseScale(64, 8), "max_size"),
        (lambda: GradientNoiseScale(n_parts=1), "n_parts"),
        (lambda: BatchSizeSchedule(8), "schedule"),
        (lambda: BatchSizeSchedule(lambda p: -5 if 0.1 < p < 0.4 else 8), "schedule"),
        (lambda: BatchSizeSchedule.linear(0, 8), "first"),
        (lambda: BatchSizeSchedule.piecewise({0.5: 8}), "0.0"),
        (lambda: BatchSizeSchedule.piecewise([8]), "sizes"),
        (lambda: GradientNoiseScale(n_part=2), "did you mean 'n_parts'"),
    ],
)
def test_nonsense_is_refused_when_the_callback_is_made(make, named):
    with pytest.raises((InvalidType, InvalidValue)) as caught:
        make()
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "callback", [ABS(8, 2_000), GradientNoiseScale(8, 2_000), BatchSizeSchedule.linear(8, 2_000)], ids=lambda c: type(c)
)
def test_a_size_that_the_agent_cannot_have_is_refused_at_the_start(callback):
    with pytest.raises(InvalidValue, match=r"got \d+, expected at most 1000"):
        Agent().start(callback)


def test_more_parts_than_samples_are_refused_at_the_start():
    with pytest.raises(InvalidValue, match="n_parts: got 161, expected at most 160"):
        Agent().start(GradientNoiseScale(16, 64, n_parts=161))


def test_an_agent_that_cannot_scale_is_named():
    callback = ABS()
    callback.model = object()
    with pytest.raises(InvalidType, match="ABS: object cannot change its batch size; use it with an agent of sbbatch"):
        callback._on_training_start()


def test_callbacks_are_found_wherever_they_hide():
    one = ABS()
    assert find_batch_size_callback(None) is None
    assert find_batch_size_callback([CallbackList([CallbackList([one])])]) is one
    with pytest.raises(InvalidValue, match="got ABS and BatchSizeSchedule, expected one callback"):
        find_batch_size_callback([one, CallbackList([BatchSizeSchedule.linear(1, 2)])])


@pytest.mark.parametrize("keyword", ["callback_on_new_best", "callback_after_eval"])
def test_a_callback_that_is_called_at_some_steps_only_is_refused(keyword):
    env = gym.make("CartPole-v1")
    for event in (EveryNTimesteps(5, ABS()), EvalCallback(env, **{keyword: ABS()})):
        with pytest.raises(InvalidValue, match=f"got ABS inside {type(event).__name__}, which calls it at some steps"):
            find_batch_size_callback([CallbackList([event])])


def test_a_callback_of_a_user_may_have_a_tuple_among_its_arguments():
    class Own(BatchSizeCallback):
        def config(self):
            return {"sizes": (8, 16)}

        def _start(self):
            self.resize(8)

    agent = Agent()
    state = json.loads(json.dumps(agent.start(Own()).saved_state()))
    agent.batch_scaling_state = state | {"state": {"size": 16, "history": [1]}}
    assert agent.start(Own()).history == [1]


def test_a_callback_forgets_its_run_when_it_is_pickled():
    agent = Agent([0.05])
    callback = agent.start(ABS(8, 32, check_every=1))
    agent.update()
    copy = pickle.loads(pickle.dumps(callback))
    assert not hasattr(copy, "model")
    assert copy.config() == callback.config()
