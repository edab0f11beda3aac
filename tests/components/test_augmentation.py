"""Augmentations: what they do to images, and that the neutral one does nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from contract_tools import (
    DictEnv,
    assert_same_weights,
    differ,
    image_env,
    make_agent,
    observations_of,
    refusal,
    weights,
)

from sbbatch import DQN, DrQ
from sbbatch.components.augmentation import AUGMENTATIONS, Identity, Intensity, Shift, ShiftAndIntensity
from sbbatch.components.bootstrap import Double
from sbbatch.errors import InvalidValue, UserError
from sbbatch.networks.initializers import glorot_uniform
from sbbatch.replay.batch import Following, ReplayBatch


def batch_of(observations, next_observations=None):
    n = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
    numbers = th.zeros(n)
    following = observations if next_observations is None else next_observations
    return ReplayBatch(observations, numbers.long(), numbers, following, numbers, numbers + 1, np.arange(n))


def positions(n, size=12):
    """Images whose pixels say where they are: row times 16 plus column; and four frames, told apart by 0 to 3."""
    rows, columns = th.meshgrid(th.arange(size), th.arange(size), indexing="ij")
    frames = [rows * 16 + columns] * 3 + [255 - rows * 16 - columns]
    return th.stack(frames).to(th.uint8).expand(n, 4, size, size)


class Draws:
    """A generator that draws what it is told."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def integers(self, low, high, size):
        drawn = np.array(self.draws.pop(0)).reshape(size)
        assert drawn.min() >= low
        assert drawn.max() < high
        return drawn

    def standard_normal(self, size):
        return np.array(self.draws.pop(0), dtype=float).reshape(size)


# ---------------------------------------------------------------------------------------------------------------- shift


@pytest.mark.parametrize("pixels", [0, 1, 4, 40])  # the last one is more than the image has
def test_a_constant_image_stays_as_it_is(pixels):
    images = th.full((20, 4, 12, 12), 7, dtype=th.uint8)
    shifted = Shift(pixels).images(images, np.random.default_rng(0))
    assert shifted.dtype == th.uint8
    assert th.equal(shifted, images)


def test_a_shift_worked_by_hand():
    # One row down and two columns to the left of the image: what is missing repeats the edge.
    image = th.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).view(1, 1, 3, 3)
    shifted = Shift(2).images(image, Draws([[1], [-2]]))
    assert shifted.view(3, 3).tolist() == [[4, 4, 4], [7, 7, 7], [7, 7, 7]]
    assert image.view(-1).tolist() == list(range(1, 10)), "what was drawn from the buffer is not written to"


def test_a_shift_is_an_edge_pad_and_a_crop():
    images, pixels = th.rand(9, 3, 10, 14), 3
    draws = np.random.default_rng(1).integers(-pixels, pixels + 1, size=(2, 9, 1))
    shifted = Shift(pixels).images(images, Draws(draws))
    padded = th.nn.functional.pad(images, [pixels] * 4, mode="replicate")
    for image, there, (row, column) in zip(shifted, padded, draws[..., 0].T + pixels, strict=True):
        assert th.equal(image, there[:, row : row + 10, column : column + 14])


@pytest.mark.parametrize(("last", "most"), [(True, 4), (False, 3)])  # Dopamine's offsets end one earlier
def test_the_frames_of_a_state_move_together_and_every_offset_is_reached(last, most):
    shifted = Shift(4, last=last).images(positions(2_000), np.random.default_rng(0)).long()
    assert th.equal(shifted[:, :3], shifted[:, :1].expand(-1, 3, -1, -1))
    assert th.equal(shifted[:, 3], 255 - shifted[:, 0])
    centers = shifted[:, 0, 6, 6]  # where no edge is near
    offsets = set(zip((centers // 16 - 6).tolist(), (centers % 16 - 6).tolist(), strict=True))
    assert offsets == {(row, column) for row in range(-4, most + 1) for column in range(-4, most + 1)}


# ------------------------------------------------------------------------------------------------------------ intensity


def test_an_intensity_worked_by_hand():
    # 1 + 0.05 * 2, as 3 is clipped to 2; and 1 + 0.05 * -0.7 = 0.965: one factor for all of a state.
    images = th.full((2, 4, 5, 5), 100, dtype=th.uint8)
    changed = Intensity(0.05).images(images, Draws([3.0, -0.7]))
    assert changed.dtype == th.float32
    th.testing.assert_close(changed, th.tensor([110.0, 96.5]).view(2, 1, 1, 1).expand(2, 4, 5, 5))


def test_both_are_the_shift_and_then_the_intensity():
    images = positions(6)
    both = ShiftAndIntensity(3, 0.1).images(images, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    assert th.equal(both, Intensity(0.1).images(Shift(3).images(images, rng), rng))


# -------------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("augmentation", [Shift(), Intensity(), ShiftAndIntensity()])
def test_observations_and_next_observations_have_draws_of_their_own(augmentation):
    batch = batch_of(positions(64))
    changed = augmentation(batch, np.random.default_rng(0))
    assert not th.equal(changed.observations, changed.next_observations)
    assert not th.equal(changed.observations.float(), batch.observations.float())
    others = vars(batch).keys() - {"observations", "next_observations"}
    assert all(getattr(changed, name) is getattr(batch, name) for name in others)


@pytest.mark.parametrize("augmentation", [made() for made in AUGMENTATIONS.values()], ids=AUGMENTATIONS)
def test_vectors_are_left_alone_and_of_a_dictionary_the_images_are_changed(augmentation):
    rng = np.random.default_rng(0)
    vectors = batch_of(th.rand(8, 4))
    assert augmentation(vectors, rng).observations is vectors.observations
    batch = batch_of({"vector": th.rand(8, 4), "image": positions(8)})
    changed = augmentation(batch, rng)
    assert changed.observations["vector"] is batch.observations["vector"]
    same = th.equal(changed.observations["image"].float(), batch.observations["image"].float())
    assert same == isinstance(augmentation, Identity)


def test_each_of_the_observations_that_follow_has_a_draw_of_its_own():
    images = positions(5).unsqueeze(1).expand(-1, 40, -1, -1, -1)  # 40 equal ones after each of five
    batch = replace(batch_of(positions(5)), following=Following(images, th.zeros(5, 40).long(), th.ones(5, 40)))
    changed = Shift(1)(batch, np.random.default_rng(0)).following
    assert changed.observations.shape == images.shape
    assert changed.actions is batch.following.actions
    for one in changed.observations:
        assert len({tuple(image.flatten().tolist()) for image in one}) == 9
    # The draws of the batch itself come first, so that it is the same with and without.
    alone = Shift(1)(replace(batch, following=None), np.random.default_rng(0))
    assert th.equal(alone.observations, Shift(1)(batch, np.random.default_rng(0)).observations)


@pytest.mark.parametrize(
    "neutral", [Identity(), Shift(0), Intensity(0.0), ShiftAndIntensity(0, 0.0)], ids=lambda value: str(value)
)
def test_a_neutral_augmentation_draws_nothing_and_returns_the_same_tensors(neutral):
    rng = np.random.default_rng(0)
    state, batch = rng.bit_generator.state, batch_of(positions(4))
    changed = neutral(batch, rng)
    assert changed.observations is batch.observations
    assert changed.next_observations is batch.next_observations
    assert rng.bit_generator.state == state


@pytest.mark.parametrize(("make", "value"), [(Shift, -1), (Shift, 1.5), (Intensity, 0.6), (Intensity, -0.1)])
def test_what_is_no_shift_and_no_intensity_is_refused(make, value):
    refusal(UserError, make, value)


# --------------------------------------------------------------------------------------------------------------- agents


# Noise, so that the agent's generator is in use, and a batch in parts.
NOISY = {"policy_kwargs": {"noisy_sigma0": 0.5, "features_extractor_kwargs": {"features_dim": 16}, "net_arch": [16]}}


def test_a_neutral_augmentation_trains_the_same_weights_to_the_bit_and_another_does_not():
    plain, neutral, shifted = (
        weights(make_agent(DQN, "image", **NOISY, **kwargs).learn(60))
        for kwargs in ({}, {"augmentation": ShiftAndIntensity(0, 0.0)}, {"augmentation": Shift(2)})
    )
    assert_same_weights(plain, neutral)
    assert differ(plain, shifted)


def test_drq_without_its_augmentation_is_dqn_to_the_bit():
    torso = {"features_dim": 16, "padding": "same"}
    network = {
        "dueling": "output",
        "initializer": glorot_uniform,
        "optimizer_kwargs": {"eps": 1.5e-4},
        "net_arch": [16],
    }
    recipe = {
        "policy_kwargs": network | {"features_extractor_kwargs": torso, "net_arch": [16]},
        "bootstrap": Double(),
        "n_steps": 10,
        "target_update_interval": 1,
        "train_freq": 1,
        "exploration_decay_steps": 5_000,
        "exploration_final_eps": 0.01,
        "max_grad_norm": None,
    }
    own = {"target_update_interval": 1, "train_freq": 1, "augmentation": Identity()}
    drq, dqn = make_agent(DrQ, "image", **own), make_agent(DQN, "image", **recipe)
    before = weights(drq)
    assert_same_weights(before, weights(dqn))
    assert_same_weights(weights(drq.learn(60)), weights(dqn.learn(60)))
    assert differ(before, weights(drq))


def test_only_what_is_learned_from_is_augmented():
    agent = make_agent(DrQ, "image").learn(60)
    seen = observations_of(agent)
    state = agent.noise_rng.bit_generator.state
    first, _ = agent.predict(seen, deterministic=True)
    agent.behavior(agent.probe_observations(16, np.random.default_rng(0)))
    assert agent.noise_rng.bit_generator.state == state
    assert (agent.predict(seen, deterministic=True)[0] == first).all()
    batch = agent._sample_replay(8)
    assert batch.observations.dtype == th.float32
    assert agent.noise_rng.bit_generator.state != state


def test_a_resumed_run_draws_the_same_augmentations(tmp_path):
    agent = make_agent(DrQ, "image", augmentation=Shift(2, last=False)).learn(60)
    agent.save(tmp_path / "m.zip")
    loaded = DrQ.load(tmp_path / "m.zip", env=image_env())
    assert loaded.augmentation == agent.augmentation == Shift(2, last=False)
    assert loaded.noise_rng.bit_generator.state == agent.noise_rng.bit_generator.state


def test_an_agent_learns_from_dictionaries_with_an_augmentation():
    agent = make_agent(DrQ, "dict", env=DictEnv)
    before = weights(agent)
    assert differ(before, weights(agent.learn(60)))


class Flattens:
    """Not an augmentation: another shape."""

    def __call__(self, batch, rng):
        return replace(batch, observations=batch.observations.flatten())


def test_an_augmentation_of_ones_own_is_tried_when_the_agent_is_made():
    assert refusal(InvalidValue, make_agent, DQN, augmentation=Flattens()).startswith("augmentation: got Flattens")
    own = make_agent(DQN, "image", augmentation=lambda batch, rng: Shift(1)(batch, rng)).learn(60)
    assert_same_weights(weights(own), weights(make_agent(DQN, "image", augmentation=Shift(1)).learn(60)))
