"""n-step returns: the table of hand-worked cases, and the degenerate ones."""

import numpy as np
import pytest

from sbbatch.replay.n_step import n_step_returns

REWARDS = np.array([[1.0, -0.5, 2.0]])
BOOTSTRAP_VALUE = 4.0
NEVER = (False, False, False)


def returns_of(terminated=NEVER, truncated=NEVER, gamma=0.99, rewards=REWARDS):
    return n_step_returns(rewards, np.array([terminated]), np.array([truncated]), gamma)


@pytest.mark.parametrize(
    ("terminated", "truncated", "reward", "k", "discount", "target"),
    [
        # 1 - 0.99 * 0.5 + 0.9801 * 2 = 1 - 0.495 + 1.9602;  + 0.970299 * 4 = 3.881196
        (NEVER, NEVER, 2.4652, 3, 0.970299, 6.346396),
        # 1 - 0.495; nothing after a termination
        ((False, True, False), NEVER, 0.505, 2, 0.0, 0.505),
        # 0.505 + 0.99^2 * 4 = 0.505 + 3.9204
        (NEVER, (False, True, False), 0.505, 2, 0.9801, 4.4254),
        ((False, False, True), NEVER, 2.4652, 3, 0.0, 2.4652),
        # cut at the last step of the window: as if nothing had ended
        (NEVER, (False, False, True), 2.4652, 3, 0.970299, 6.346396),
        # 1 + 0.99 * 4
        (NEVER, (True, False, False), 1.0, 1, 0.99, 4.96),
        ((True, False, False), NEVER, 1.0, 1, 0.0, 1.0),
    ],
)
def test_the_return_ends_where_the_episode_does(terminated, truncated, reward, k, discount, target):
    returns = returns_of(terminated, truncated)
    assert returns.rewards == pytest.approx(reward, abs=1e-6)
    assert returns.n_rewards == k
    assert returns.discounts == pytest.approx(discount, abs=1e-6)
    assert returns.rewards + returns.discounts * BOOTSTRAP_VALUE == pytest.approx(target, abs=1e-6)


def test_one_step_returns_are_the_rewards_themselves():
    rewards = np.array([[3.0], [-1.0], [0.5]])
    terminated, truncated = np.array([[False], [True], [False]]), np.array([[False], [False], [True]])
    returns = n_step_returns(rewards, terminated, truncated, 0.9)
    np.testing.assert_allclose(returns.rewards, [3.0, -1.0, 0.5])
    np.testing.assert_allclose(returns.discounts, [0.9, 0.0, 0.9], rtol=1e-6)
    np.testing.assert_array_equal(returns.n_rewards, [1, 1, 1])


def test_every_sample_of_a_batch_has_its_own_discount():
    rewards = np.array([[1.0, 10.0, 100.0]] * 4)
    terminated = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0]], dtype=bool)
    truncated = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)
    returns = n_step_returns(rewards, terminated, truncated, 0.5)
    # 1 + 0.5 * 10 + 0.25 * 100 = 31;  1 + 5 = 6, twice;  1
    np.testing.assert_allclose(returns.rewards, [31.0, 6.0, 6.0, 1.0])
    np.testing.assert_allclose(returns.discounts, [0.125, 0.0, 0.25, 0.5])
    np.testing.assert_array_equal(returns.n_rewards, [3, 2, 2, 1])


def test_results_have_the_types_a_batch_needs():
    returns = returns_of()
    assert [array.dtype for array in returns] == [np.float32, np.float32, np.int64]
    assert [array.shape for array in returns] == [(1,), (1,), (1,)]
