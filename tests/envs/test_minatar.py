"""MinAtar's games as SB3 wants them."""

import gymnasium as gym
import numpy as np
import pytest

import sbbatch  # noqa: F401 - registers the games
from sbbatch.envs.minatar import GAMES

pytest.importorskip("minatar")


def play(env, seed):
    """Images and rewards of 40 steps, the same actions each time."""
    image, _ = env.reset(seed=seed)
    actions = np.random.default_rng(0).integers(env.action_space.n, size=40)
    steps, over = [(image, 0.0)], False
    for action in actions:
        if not over:
            image, reward, over, truncated, _ = env.step(action)
            assert not truncated
            steps.append((image, reward))
    return steps


@pytest.mark.parametrize("game", GAMES)
def test_images_are_channels_first_and_either_black_or_white(game):
    env = gym.make(f"MinAtar/{game}-v1").unwrapped
    for image, _ in play(env, 0):
        assert env.observation_space.contains(image)
        assert set(np.unique(image)) == {0, 255}
    assert env.observation_space.shape[1:] == (10, 10)


@pytest.mark.parametrize(("version", "n_actions"), [("v0", 6), ("v1", 3)])
def test_version_one_has_the_actions_that_do_something(version, n_actions):
    assert gym.make(f"MinAtar/Breakout-{version}").action_space.n == n_actions  # stay, left, right


@pytest.mark.parametrize("game", GAMES)
def test_a_seed_repeats_its_game_whatever_was_played_before(game):
    env = gym.make(f"MinAtar/{game}-v0").unwrapped
    for seed in range(20):  # one first action in ten is the sticky one of the game before
        first, second = play(env, seed), play(env, seed)
        assert len(first) == len(second)
        for (image, reward), (other, other_reward) in zip(first, second, strict=True):
            assert reward == other_reward
            np.testing.assert_array_equal(image, other)
