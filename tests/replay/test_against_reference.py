"""The replay buffer against a slow one made of plain lists, and against SB3's on the same stream."""

import numpy as np
import pytest
from gymnasium import spaces
from reference_replay import (
    DictEnv,
    ImageEnv,
    SlowReplay,
    Stream,
    VectorEnv,
    assert_equals_reference,
    identity,
    per_sample,
)
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from sbbatch.replay import FrameReplayBuffer, PrioritizedSampler, UniformSampler

ACTIONS = spaces.Discrete(4)
N_ROWS = 20
CHECKED_AFTER = (1, 2, 3, 7, 19, 20, 21, 24, 45, 61, 90)  # empty, filling, full, and over four laps


def run_and_compare(make_env, n_envs, n_steps, seed, gamma=0.9, **kwargs):
    rng = np.random.default_rng(seed)
    envs = [make_env(env, rng) for env in range(n_envs)]
    stream = Stream(envs, rng)
    # Not a whole number of rows: the rest is cut off, as SB3 does.
    buffer_size = N_ROWS * n_envs + n_envs - 1
    buffer = FrameReplayBuffer(
        buffer_size, envs[0].space, ACTIONS, "cpu", n_envs, n_steps=n_steps, gamma=gamma, seed=seed, **kwargs
    )
    slow = SlowReplay(n_envs, N_ROWS)
    for count in range(1, max(CHECKED_AFTER) + 1):
        step = stream.step()
        buffer.add(*step)
        slow.add(step)
        if count in CHECKED_AFTER:
            assert buffer.size() == min(count, N_ROWS)
            assert_equals_reference(buffer, slow, n_steps, gamma)
    return buffer, slow


# Every pair of values of two of the four.
@pytest.mark.parametrize(
    ("n_steps", "stack", "n_envs", "compression"),
    [(1, 1, 1, None), (1, 4, 3, "lz4"), (3, 4, 1, "lz4"), (3, 1, 3, None), (5, 4, 1, None), (5, 1, 3, "lz4")],
)
def test_every_transition_of_images_equals_the_reference(n_steps, stack, n_envs, compression):
    run_and_compare(
        lambda env, rng: ImageEnv(env, rng, stack),
        n_envs,
        n_steps,
        seed=100 * n_steps + 10 * stack + n_envs,
        frame_stack=stack,
        frame_compression=compression,
    )


def test_every_transition_of_coloured_stacks_equals_the_reference():
    run_and_compare(lambda env, rng: ImageEnv(env, rng, 4, channels=3), 2, 5, seed=8, frame_stack=4)


def test_a_stack_stored_whole_is_the_same_as_one_taken_apart():
    run_and_compare(lambda env, rng: ImageEnv(env, rng, 4), 3, 3, seed=9, frame_stack=1)


@pytest.mark.parametrize(("n_steps", "n_envs"), [(1, 3), (3, 1), (5, 3)])
def test_every_transition_of_vectors_equals_the_reference(n_steps, n_envs):
    run_and_compare(VectorEnv, n_envs, n_steps, seed=n_steps + n_envs)


def test_every_transition_of_dictionaries_equals_the_reference():
    # A frame_stack given by accident does not matter: dictionaries are stored whole.
    run_and_compare(lambda env, rng: DictEnv(env, rng, 4), 2, 3, seed=3, frame_stack=4)


def test_a_prioritized_buffer_holds_the_same_transitions():
    run_and_compare(lambda env, rng: ImageEnv(env, rng, 4), 3, 3, 5, frame_stack=4, sampler_class=PrioritizedSampler)


def test_an_n_step_window_as_long_as_the_memory_equals_the_reference():
    run_and_compare(lambda env, rng: ImageEnv(env, rng, 4), 2, N_ROWS, seed=4, frame_stack=4)


@pytest.mark.parametrize("stack", [1, 4])
def test_a_memory_of_one_transition_equals_the_reference(stack):
    rng = np.random.default_rng(0)
    stream = Stream([ImageEnv(0, rng, stack)], rng, longest=3)
    buffer = FrameReplayBuffer(1, stream.envs[0].space, ACTIONS, "cpu", frame_stack=stack, gamma=0.9)
    slow = SlowReplay(1, 1)
    for _ in range(40):
        step = stream.step()
        buffer.add(*step)
        slow.add(step)
        assert_equals_reference(buffer, slow, 1, 0.9)


@pytest.mark.parametrize("sampler_class", [UniformSampler, PrioritizedSampler])
def test_a_memory_that_was_emptied_forgets_everything_before(sampler_class):
    rng = np.random.default_rng(2)
    stream = Stream([ImageEnv(env, rng, 4) for env in range(2)], rng)
    buffer = FrameReplayBuffer(
        40, stream.envs[0].space, ACTIONS, "cpu", 2, n_steps=3, gamma=0.9, frame_stack=4, sampler_class=sampler_class
    )
    for n_before in (13, 55):
        for _ in range(n_before):
            buffer.add(*stream.step())
        buffer.reset()
        assert buffer.size() == 0
        slow = SlowReplay(2, 20)
        for count in range(25):
            step = stream.step()
            buffer.add(*step)
            slow.add(step)
            if count % 6 == 0:
                assert_equals_reference(buffer, slow, 3, 0.9)


def test_what_is_shown_of_the_memory_equals_what_was_added():
    rng = np.random.default_rng(3)
    stream = Stream([ImageEnv(env, rng, 4) for env in range(2)], rng, breaks=False)
    buffer = FrameReplayBuffer(20, stream.envs[0].space, ACTIONS, "cpu", 2, frame_stack=4)
    steps = [stream.step() for _ in range(33)]
    for step in steps:
        buffer.add(*step)
    kept = steps[-10:]  # 20 transitions are 10 rows
    np.testing.assert_array_equal(buffer.observations, [step.obs for step in kept])
    np.testing.assert_array_equal(buffer.actions, [step.action for step in kept])
    np.testing.assert_array_equal(buffer.rewards, [step.reward for step in kept])
    np.testing.assert_array_equal(buffer.dones, [step.done for step in kept])
    truncated = [[info.get("TimeLimit.truncated", False) for info in step.infos] for step in kept]
    np.testing.assert_array_equal(buffer.timeouts, truncated)
    assert (buffer.size(), buffer.full) == (10, True)


# ------------------------------------------------------------------------------------------------- SB3's own buffers


def same_stream(sb3_class, n_added, env=None, **n_step_kwargs):
    """``identity -> sample`` of SB3's buffer and of ours after the same steps."""
    rng = np.random.default_rng(11)
    stream = Stream([VectorEnv(0, rng)], rng, breaks=False)
    space = stream.envs[0].space
    theirs = sb3_class(30, space, ACTIONS, "cpu", **n_step_kwargs)
    ours = FrameReplayBuffer(30, space, ACTIONS, "cpu", seed=0, **n_step_kwargs)
    raw = []
    for _ in range(n_added):
        step = stream.step()
        raw.append(step)
        theirs.add(*step)
        ours.add(*step)
    expected = theirs._get_samples(np.arange(theirs.size()), env=env)
    given = ours.sample(900, env=env)
    return raw[-30:], expected, given


def assert_equal_to_sb3(expected, given, n_rows, discounts):
    """Both are looked up by their observations, which are all different."""
    theirs = {expected.observations[i].numpy().tobytes(): i for i in range(len(expected.actions))}
    assert len(theirs) == n_rows
    rows = [theirs[given.observations[i].numpy().tobytes()] for i in range(len(given))]
    assert set(rows) == set(range(n_rows))
    np.testing.assert_array_equal(given.next_observations.numpy(), expected.next_observations.numpy()[rows])
    np.testing.assert_array_equal(given.actions.numpy(), expected.actions.numpy()[rows, 0])
    np.testing.assert_allclose(given.rewards.numpy(), expected.rewards.numpy()[rows, 0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(given.discounts.numpy(), discounts[rows], rtol=1e-6)


@pytest.mark.parametrize("n_added", [1, 30, 100])
def test_one_step_transitions_equal_those_of_sb3(n_added):
    _, expected, given = same_stream(ReplayBuffer, n_added)
    assert_equal_to_sb3(expected, given, min(n_added, 30), 0.99 * (1 - expected.dones.numpy()[:, 0]))


@pytest.mark.parametrize("n_added", [1, 17, 31, 100])
def test_three_step_transitions_equal_those_of_sb3(n_added):
    _, expected, given = same_stream(NStepReplayBuffer, n_added, n_steps=3, gamma=0.9)
    discounts = (expected.discounts * (1 - expected.dones)).numpy()[:, 0]
    assert_equal_to_sb3(expected, given, min(n_added, 30), discounts)


def test_normalised_samples_equal_those_of_sb3(vec_normalize):
    raw, expected, given = same_stream(NStepReplayBuffer, 100, env=vec_normalize, n_steps=3, gamma=0.9)
    discounts = (expected.discounts * (1 - expected.dones)).numpy()[:, 0]
    assert_equal_to_sb3(expected, given, 30, discounts)
    assert given.observations.dtype == expected.observations.dtype
    # By hand: mean [0, 50, 0], variance [1, 400, 4] -> number n becomes (n - 50) / 20, clipped to 10
    numbers = {identity(step.obs[0])[1] for step in raw}
    normalised = {round(20 * float(per_sample(given.observations, i)[1]) + 50) for i in range(len(given))}
    assert normalised == numbers


def test_rewards_are_normalised_before_they_are_summed(vec_normalize):
    # Each reward of 10 is divided by sqrt(4) = 2 and then clipped to 3: three of them give 3 * (1 + 0.9 + 0.81)
    space = VectorEnv(0, np.random.default_rng(0)).space
    buffer = FrameReplayBuffer(10, space, ACTIONS, "cpu", n_steps=3, gamma=0.9)
    for number in range(4):
        obs, next_obs = (np.array([[0, n, 0]], dtype=np.float32) for n in (number, number + 1))
        buffer.add(obs, next_obs, np.array([0]), np.array([10.0]), np.array([False]), [{}])
    vec_normalize.clip_reward = 3.0
    batch = buffer.sample(200, env=vec_normalize)
    full = batch.rewards[np.isclose(batch.discounts, 0.729)]
    assert len(full)
    np.testing.assert_allclose(full, 8.13, rtol=1e-5)
    np.testing.assert_allclose(buffer.sample(200).rewards.max(), 27.1, rtol=1e-5)
