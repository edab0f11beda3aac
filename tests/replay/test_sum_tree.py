"""The sum tree against plain cumulative sums."""

import tracemalloc

import numpy as np
import pytest

from sbbatch.replay.sum_tree import FANOUT, SumTree

SIZES = [1, 2, 127, 128, 129, FANOUT**2, FANOUT**2 + 1]


def tree_of(priorities):
    tree = SumTree(len(priorities))
    tree.set(np.arange(len(priorities)), np.asarray(priorities, dtype=np.float64))
    return tree


def test_a_mass_belongs_to_the_leaf_at_which_the_running_sum_passes_it():
    # Running sums of [1, 2, 3, 4] are 1, 3, 6, 10: 0.5 < 1; 1 <= 2.9 < 3; 3 <= 5 < 6; 6 <= 9.99 < 10
    tree = tree_of([1, 2, 3, 4])
    np.testing.assert_array_equal(tree.find(np.array([0.5, 2.9, 5.0, 9.99])), [0, 1, 2, 3])


@pytest.mark.parametrize("size", SIZES)
def test_every_size_around_the_fan_out_agrees_with_cumulative_sums(size):
    # Whole numbers are summed without rounding, so that the two searches must agree exactly.
    rng = np.random.default_rng(size)
    priorities = rng.integers(0, 4, size=size).astype(np.float64)
    priorities[rng.integers(size)] = 3.0  # at least one that is not zero
    tree = tree_of(priorities)
    assert tree.total == priorities.sum()
    np.testing.assert_array_equal(tree.leaves, priorities)
    masses = rng.random(2000) * priorities.sum()
    np.testing.assert_array_equal(tree.find(masses), np.searchsorted(np.cumsum(priorities), masses, side="right"))


@pytest.mark.parametrize("size", SIZES)
def test_a_mass_at_or_beyond_the_total_finds_the_last_leaf_that_counts(size):
    priorities = np.full(size, 0.1)  # 0.1 is not exact in binary: sums are rounded
    priorities[size // 2 + 1 :] = 0.0
    tree = tree_of(priorities)
    found = tree.find(np.array([np.nextafter(tree.total, 0), *(tree.total + excess for excess in (0.0, 1e-9, 1e6))]))
    np.testing.assert_array_equal(found, [size // 2] * 4)


def test_sums_are_exact_after_twenty_thousand_random_updates():
    size = 1000
    rng = np.random.default_rng(0)
    tree, expected = SumTree(size), np.zeros(size)
    for _ in range(400):
        indices = rng.integers(size, size=50)  # 400 * 50 = 20,000
        priorities = 10.0 ** rng.uniform(-8, 8, size=50)
        priorities[rng.random(50) < 0.2] = 0.0
        tree.set(indices, priorities)
        expected[indices] = priorities
    np.testing.assert_array_equal(tree.leaves, expected)
    assert tree.total == tree_of(expected).total  # not a bit of difference from a tree that was never updated
    tree.set(np.arange(size), 0.0)
    assert tree.total == 0.0  # a running difference would leave a rest


def test_an_index_given_twice_keeps_its_last_priority():
    tree = tree_of([1.0, 1.0, 1.0])
    tree.set(np.array([1, 1, 1]), np.array([5.0, 7.0, 2.0]))
    np.testing.assert_array_equal(tree.leaves, [1, 2, 1])
    assert tree.total == 4.0


@pytest.mark.parametrize("size", SIZES)
def test_restored_leaves_give_the_same_tree(size):
    rng = np.random.default_rng(size)
    tree = tree_of(rng.random(size))
    copy = SumTree(size)
    copy.set(np.arange(size), 9.0)
    copy.restore(tree.leaves.copy())
    masses = rng.random(500) * tree.total
    assert copy.total == tree.total
    np.testing.assert_array_equal(copy.find(masses), tree.find(masses))


def test_restoring_a_large_tree_needs_little_memory():
    size = 200_000
    tree, leaves = SumTree(size), np.ones(size)
    tracemalloc.start()
    tree.restore(leaves)
    tree.set(np.arange(size), 0.0)  # what forgetting a whole buffer does
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # leaves are 1.6 MB; a copy of a block of 128 for every leaf would be 205 MB
    assert tree.total == 0.0
