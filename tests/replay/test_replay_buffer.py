"""The replay buffer's promises one by one, on transitions that say where they come from."""

import json
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from reference_replay import DictEnv, ImageEnv, Stream, VectorEnv, frame, identity, per_sample

from sbbatch.errors import InvalidType, InvalidValue
from sbbatch.replay import FrameReplayBuffer, PrioritizedSampler, UniformSampler

ACTIONS = spaces.Discrete(4)
VECTOR = VectorEnv(0, None).space
IMAGES = ImageEnv(0, None, 4).space
ZEROS = np.zeros((1, 3, 5), dtype=np.uint8)
TRUNCATED = {"TimeLimit.truncated": True}


def make_buffer(space, buffer_size=50, n_envs=1, **kwargs):
    return FrameReplayBuffer(buffer_size, space, ACTIONS, "cpu", n_envs, **({"gamma": 0.5, "seed": 0} | kwargs))


def vector(number):
    return np.array([[0, number, 0]], dtype=np.float32)


def stack(*numbers):
    """A stack of four frames of environment 0; 0 stands for an empty frame."""
    return np.concatenate([frame(0, number, 1) if number else ZEROS for number in numbers])[None]


def add(buffer, obs, next_obs, reward=0.0, done=False, info=None, action=0):
    buffer.add(obs, next_obs, np.array([action]), np.array([reward]), np.array([done]), [info or {}])


def fill(buffer, stream, n_steps):
    for _ in range(n_steps):
        buffer.add(*stream.step())
    return buffer


def by_number(buffer, n=400):
    """``number of the observation -> (reward, number of the next observation, discount)``, environment 0."""
    batch = buffer.sample(n)
    rows = {}
    for i in range(n):
        number, following = (identity(per_sample(o, i))[1] for o in (batch.observations, batch.next_observations))
        rows[number] = float(batch.rewards[i]), following, float(batch.discounts[i])
    return rows


def assert_same_batch(first, second):
    np.testing.assert_array_equal(first.indices, second.indices)
    for name in ("actions", "rewards", "discounts", "weights"):
        assert th.equal(getattr(first, name), getattr(second, name)), name
    for name in ("observations", "next_observations"):
        one, other = getattr(first, name), getattr(second, name)
        if not isinstance(one, dict):
            one, other = {"": one}, {"": other}
        assert one.keys() == other.keys()
        assert all(th.equal(one[key], other[key]) for key in one), name


# ------------------------------------------------------------------------------------------- what follows, step by step


def following_by_number(buffer):
    """``number of the observation -> (numbers that follow, actions that lead there, mask)``, environment 0."""
    batch, found = buffer.sample(200), {}
    for i, observation in enumerate(batch.observations):
        numbers = [identity(per_sample(batch.following.observations[i], k))[1] for k in range(buffer.n_following)]
        found[identity(observation.numpy())[1]] = numbers, *(one[i].tolist() for one in batch.following[1:])
    return found


def test_following_observations_stop_where_the_episode_does_and_at_the_newest():
    # 1 -> 2 -> 3 -> 4, the end; 5 -> 6 -> 7, as far as it is known. The action of a step is the number it starts from.
    buffer = make_buffer(VECTOR, n_following=3)
    for number in (1, 2, 3):
        add(buffer, vector(number), vector(number + 1), done=number == 3, action=number)
    for number in (5, 6):
        add(buffer, vector(number), vector(number + 1), action=number % 4)
    found = following_by_number(buffer)
    assert found.keys() == {1, 2, 3, 5, 6}
    masks = {number: mask for number, (_, _, mask) in found.items()}
    assert masks == {1: [1, 1, 0], 2: [1, 0, 0], 3: [0, 0, 0], 5: [1, 1, 0], 6: [1, 0, 0]}
    assert (found[1][0][:2], found[1][1]) == ([2, 3], [1, 2, 3])
    assert found[2][0][0] == 3
    assert found[3][0] == [4, 4, 4]  # what stands in is of the same episode
    assert (found[5][0][:2], found[5][1][:2]) == ([6, 7], [1, 2])
    assert found[6][0][0] == 7


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("make_env", [VectorEnv, *(partial(kind, stack=4) for kind in (DictEnv, ImageEnv))])
def test_following_observations_are_the_next_observations_of_longer_and_longer_returns(make_env, n_envs):
    rng = np.random.default_rng(3)
    stream = Stream([make_env(env, rng) for env in range(n_envs)], rng)
    stacked = {"frame_stack": 4} if isinstance(stream.envs[0], ImageEnv) else {}
    buffer = fill(make_buffer(stream.envs[0].space, 60, n_envs, n_following=4, **stacked), stream, 90)
    batch = buffer.sample(64)
    for k in range(4):
        buffer.n_steps = k + 1
        there = buffer._gather(batch.indices, batch.weights.numpy(), None).next_observations
        parts = batch.following.observations
        for key in parts if isinstance(parts, dict) else [None]:
            one, other = (parts, there) if key is None else (parts[key], there[key])
            goes_on = batch.following.mask[:, k] == 1
            assert goes_on.any()
            assert th.equal(one[goes_on, k], other[goes_on])


def test_what_follows_is_split_with_its_batch_and_is_nothing_unless_asked_for():
    buffer = make_buffer(VECTOR, n_following=2)
    for number in range(1, 9):
        add(buffer, vector(number), vector(number + 1), action=number % 4)
    batch = buffer.sample(8)
    parts = batch.split(2)
    assert th.equal(th.cat([part.following.observations for part in parts]), batch.following.observations)
    assert th.equal(parts[1].following.actions, batch.following.actions[4:])
    buffer.n_following = 0
    assert buffer.sample(8).following is None


# ----------------------------------------------------------------------------------------------------- n-step windows


def test_a_truncation_inside_the_window_bootstraps_from_the_final_observation():
    buffer = make_buffer(VECTOR, n_steps=3)
    add(buffer, vector(1), vector(2), 1.0)
    add(buffer, vector(2), vector(3), 10.0, done=True, info=TRUNCATED)
    add(buffer, vector(4), vector(5), 100.0)
    # two rewards: 0.5^2 = 0.25, from observation 3, which no transition starts from
    assert by_number(buffer) == {1: (6.0, 3, 0.25), 2: (10.0, 3, 0.5), 4: (100.0, 5, 0.5)}


def test_without_timeout_handling_a_truncation_counts_as_a_termination():
    buffer = make_buffer(VECTOR, n_steps=3, handle_timeout_termination=False)
    add(buffer, vector(1), vector(2), 1.0)
    add(buffer, vector(2), vector(3), 10.0, done=True, info=TRUNCATED)
    assert by_number(buffer) == {1: (6.0, 3, 0.0), 2: (10.0, 3, 0.0)}


def test_an_unannounced_reset_closes_the_episode_as_truncated():
    buffer = make_buffer(VECTOR, n_steps=3)
    add(buffer, vector(1), vector(2), 1.0)
    add(buffer, vector(2), vector(3), 10.0)
    add(buffer, vector(7), vector(8), 100.0)  # `learn` called again: 3 is never seen
    add(buffer, vector(8), vector(9), 1000.0)
    assert by_number(buffer) == {1: (6.0, 3, 0.25), 2: (10.0, 3, 0.5), 7: (600.0, 9, 0.25), 8: (1000.0, 9, 0.5)}
    np.testing.assert_array_equal(buffer.dones[:, 0], [False, True, False, False])
    np.testing.assert_array_equal(buffer.timeouts[:, 0], [False, True, False, False])


# ------------------------------------------------------------------------------------------------------------- stacks


def stacks_by_newest(buffer):
    """``newest number -> (numbers of the stack, numbers of the next stack)``."""
    batch = buffer.sample(200)

    def numbers(observations, i):
        return tuple(int(256 * plane[0, 1] + plane[0, 2]) for plane in observations[i])

    pairs = [(numbers(batch.observations, i), numbers(batch.next_observations, i)) for i in range(len(batch))]
    return {pair[0][-1]: pair for pair in pairs}


@pytest.mark.parametrize("opening", [(1, 1, 1, 1), (90, 91, 92, 1), (0, 0, 92, 1), (90, 0, 0, 1)])
def test_an_opening_that_is_not_empty_comes_back_exactly(opening):
    buffer = make_buffer(IMAGES, frame_stack=4)
    stacks = [opening]
    for number in range(2, 6):
        stacks.append((*stacks[-1][1:], number))
    for obs, next_obs in pairwise(stacks):
        add(buffer, stack(*obs), stack(*next_obs))
    assert stacks_by_newest(buffer) == {obs[-1]: (obs, next_obs) for obs, next_obs in pairwise(stacks)}


def test_an_old_opening_is_dropped_when_its_row_is_written_anew():
    rng = np.random.default_rng(0)
    buffer = make_buffer(IMAGES, buffer_size=10, frame_stack=4)
    stream = Stream([ImageEnv(0, rng, 4)], rng, longest=3)
    sizes = set()
    for _ in range(5):
        fill(buffer, stream, 50)
        (memory,) = buffer.get_state()["memories"].values()
        sizes.add(max(len(memory["openings.indices"]), len(memory["finals.indices"])))
    assert max(sizes) <= 14  # as many as there are rows, after many laps and episodes


def test_a_wrong_frame_stack_is_refused_with_the_way_out():
    buffer = make_buffer(IMAGES, frame_stack=4)
    with pytest.raises(InvalidValue, match=r"frame_stack: got 4, .*frame_stack=1") as refusal:
        add(buffer, stack(1, 2, 3, 4), stack(5, 6, 7, 8))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("space", "frame_stack"), [(IMAGES, 3), (IMAGES, 5), (VECTOR, 3)])
def test_a_frame_stack_that_does_not_divide_the_observation_is_refused(space, frame_stack):
    with pytest.raises(InvalidValue, match=f"frame_stack: got {frame_stack}, which does not divide"):
        make_buffer(space, frame_stack=frame_stack)


# ------------------------------------------------------------------------------------------------------------ batches


def test_a_batch_has_the_shapes_and_types_the_train_step_relies_on():
    rng = np.random.default_rng(0)
    buffer = fill(make_buffer(IMAGES, n_envs=3, frame_stack=4), Stream([ImageEnv(e, rng, 4) for e in range(3)], rng), 9)
    for batch_size in (1, 2, 7, 64):
        batch = buffer.sample(batch_size)
        assert len(batch) == batch_size
        assert batch.observations.shape == batch.next_observations.shape == (batch_size, 4, 3, 5)
        assert batch.observations.dtype == th.uint8
        assert batch.actions.dtype == th.int64
        assert batch.rewards.dtype == batch.discounts.dtype == batch.weights.dtype == th.float32
        for values in (batch.actions, batch.rewards, batch.discounts, batch.weights):
            assert values.shape == (batch_size,)
        assert batch.indices.shape == (batch_size,)


def test_changing_a_batch_does_not_change_the_memory():
    rng = np.random.default_rng(0)
    stream = Stream([ImageEnv(0, rng, 4)], rng)
    for compression in (None, "lz4"):
        buffer = fill(make_buffer(IMAGES, frame_stack=4, frame_compression=compression), stream, 20)
        before = buffer.observations
        batch = buffer.sample(100)
        for values in (batch.observations, batch.next_observations, batch.rewards, batch.actions):
            values.fill_(7)
        np.testing.assert_array_equal(buffer.observations, before)
        assert (buffer.rewards != 7).all()


def test_changing_an_observation_after_it_was_added_does_not_change_the_memory():
    buffer = make_buffer(VECTOR)
    for number in (1, 2):
        obs, next_obs = vector(number), vector(number + 1)
        add(buffer, obs, next_obs, done=number == 2)
        obs[:], next_obs[:] = 9, 9  # vector environments write into the same array at every step
    assert by_number(buffer) == {1: (0.0, 2, 0.5), 2: (0.0, 3, 0.0)}
    assert not buffer.dones[0, 0]  # the second observation is the one that was expected


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_actions_with_and_without_a_column_of_their_own_are_the_same(shape):
    buffer = make_buffer(VECTOR)
    buffer.add(vector(1), vector(2), np.full(shape, 3), np.zeros(1), np.zeros(1, dtype=bool), [{}])
    assert buffer.sample(2).actions.tolist() == [3, 3]


def test_discrete_observations_are_kept_too():
    buffer = make_buffer(spaces.Discrete(10))
    for number in range(5):
        add(buffer, np.array([number]), np.array([number + 1]))
    batch = buffer.sample(100)
    assert set(batch.observations.flatten().tolist()) == {0, 1, 2, 3, 4}
    assert th.equal(batch.next_observations, batch.observations + 1)


def test_drawing_does_not_touch_the_global_generators():
    buffer = make_buffer(VECTOR)
    add(buffer, vector(1), vector(2))
    np.random.seed(0)
    th.manual_seed(0)
    expected = np.random.random(), th.rand(1)
    np.random.seed(0)
    th.manual_seed(0)
    buffer.sample(32)
    assert (np.random.random(), th.rand(1)) == expected


def test_priorities_reach_the_transitions_they_were_meant_for():
    buffer = make_buffer(
        VECTOR, sampler_class=PrioritizedSampler, sampler_kwargs={"priority_exponent": 1.0, "importance_exponent": 1.0}
    )
    for number in range(10):
        add(buffer, vector(number), vector(number + 1))
    for _ in range(5):
        batch = buffer.sample(50)
        numbers = batch.observations[:, 1].numpy()
        buffer.update_priorities(batch.indices, np.where(numbers == 4, 91.0, 1.0))
    batch = buffer.sample(2000)
    # 91 of 91 + 9 * 1 = 100: 91 % of the draws, with a weight of (1 / 91) / (1 / 1)
    is_four = batch.observations[:, 1] == 4
    assert is_four.float().mean().item() == pytest.approx(0.91, abs=0.002)  # stratified: almost exact
    np.testing.assert_allclose(batch.weights[is_four], 1 / 91, rtol=1e-5)
    np.testing.assert_allclose(batch.weights[~is_four], 1.0, rtol=1e-5)


# -------------------------------------------------------------------------------------------------------------- state


STATES = {
    "vectors": (lambda e, r: VectorEnv(e, r), {}),
    "stacks": (lambda e, r: ImageEnv(e, r, 4), {"frame_stack": 4}),
    "raw stacks": (lambda e, r: ImageEnv(e, r, 4), {"frame_stack": 4, "frame_compression": None}),
    "dictionaries": (lambda e, r: DictEnv(e, r, 4), {}),
}


@pytest.mark.parametrize(
    ("kind", "n_before", "sampler_class"),
    [(kind, n_before, PrioritizedSampler) for kind in STATES for n_before in (0, 5, 47)]
    + [("stacks", 47, UniformSampler)],
)
def test_a_restored_buffer_goes_on_bit_for_bit(kind, n_before, sampler_class):
    make_env, kwargs = STATES[kind]
    rng = np.random.default_rng(1)
    stream = Stream([make_env(e, rng) for e in range(2)], rng)
    settings = kwargs | {"buffer_size": 40, "n_envs": 2, "n_steps": 3, "sampler_class": sampler_class}
    buffer = fill(make_buffer(stream.envs[0].space, **settings), stream, n_before)
    if n_before:
        losses = np.random.default_rng(2).random(32)
        buffer.update_priorities(buffer.sample(32).indices, losses)
    copy = make_buffer(stream.envs[0].space, **(settings | {"seed": 99}))
    copy.set_state(buffer.get_state())
    for _ in range(30):  # far enough to overwrite everything
        step = stream.step()
        batches = []
        for one in (buffer, copy):
            one.add(*step)
            batches.append(one.sample(16))
            one.update_priorities(batches[-1].indices, np.linspace(0, 1, 16))
        assert_same_batch(*batches)


def test_an_unannounced_reset_right_after_restoring_closes_the_episode():
    buffer, copy = make_buffer(VECTOR, n_steps=3), make_buffer(VECTOR, n_steps=3)
    add(buffer, vector(1), vector(2), 1.0)
    copy.set_state(buffer.get_state())
    add(copy, vector(7), vector(8), 100.0)  # a run that goes on begins with a reset
    assert by_number(copy) == {1: (1.0, 2, 0.5), 7: (100.0, 8, 0.5)}


def test_a_state_is_a_snapshot():
    rng = np.random.default_rng(1)
    stream = Stream([ImageEnv(0, rng, 4)], rng)
    buffer = fill(make_buffer(IMAGES, 20, frame_stack=4, frame_compression=None), stream, 30)
    state, before = buffer.get_state(), buffer.observations
    fill(buffer, stream, 30)
    copy = make_buffer(IMAGES, 20, frame_stack=4, frame_compression=None)
    copy.set_state(state)
    np.testing.assert_array_equal(copy.observations, before)


SAVED = {"space": IMAGES, "buffer_size": 20, "n_envs": 2, "frame_stack": 4}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"buffer_size": 30}, "buffer_size"),
        ({"n_envs": 1}, "n_envs"),
        ({"frame_stack": 1}, "frame_stack"),
        ({"space": DictEnv(0, None, 4).space}, "observations"),
        ({"sampler_class": PrioritizedSampler}, "sampler"),
    ],
)
def test_a_state_of_another_buffer_is_refused_and_nothing_changes(change, named):
    saved = make_buffer(**SAVED)
    buffer = make_buffer(**(SAVED | change))
    before = json.dumps(buffer.get_state(), default=repr)
    with pytest.raises(InvalidValue, match=rf"^replay buffer: .*{named}") as refusal:
        buffer.set_state(saved.get_state())
    assert "\n" not in str(refusal.value)
    assert json.dumps(buffer.get_state(), default=repr) == before


# ----------------------------------------------------------------------------------------------------------- refusals


def test_a_buffer_that_cannot_fit_is_refused_before_it_is_made():
    with pytest.raises(InvalidValue, match=r"buffer_size: got 1000000000000, .*GB.* expected at most \d+$") as refusal:
        make_buffer(VECTOR, buffer_size=10**12)
    fits = int(str(refusal.value).split()[-1])
    assert 0 < fits < 10**12
    make_buffer(VECTOR, buffer_size=min(fits // 10, 1000))
    with pytest.raises(InvalidValue, match="or frame_compression='lz4'"):
        make_buffer(IMAGES, buffer_size=10**12, frame_compression=None)


def test_the_estimate_of_the_memory_counts_every_array():
    # per transition: 8 action + 4 reward + 3 flags = 15 bytes; a vector 3 * 4; a frame 3 * 5
    assert make_buffer(VECTOR, 10).n_bytes() == 10 * (15 + 12)
    assert make_buffer(IMAGES, 20, 2, frame_stack=4, frame_compression=None).n_bytes() == 20 * (15 + 15)
    assert make_buffer(IMAGES, 20, 2, frame_stack=1, frame_compression=None).n_bytes() == 20 * (15 + 60)
    assert make_buffer(IMAGES, 20, 2, frame_stack=4).n_bytes() < 20 * (15 + 15)


def test_an_empty_buffer_is_not_sampled_from():
    buffer = make_buffer(VECTOR)
    with pytest.raises(InvalidValue, match="nothing is stored yet"):
        buffer.sample(1)
    add(buffer, vector(1), vector(2))
    assert len(buffer.sample(8)) == 8
    with pytest.raises((InvalidValue, InvalidType), match="batch_size"):
        buffer.sample(0)
