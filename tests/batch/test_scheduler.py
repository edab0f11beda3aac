"""The controller of Adaptive Batch Scaling: the released arithmetic to the digit, and the one without its stalls."""

import math

import pytest

from sbbatch.batch.scheduler import AdaptiveBatchScheduler
from sbbatch.errors import InvalidValue

DIVERGENCES = [
    *(0.60, 0.55, 0.50, 0.48, 0.45, 0.40, 0.38, 0.35, 0.32, 0.30, 0.28, 0.26, 0.24),
    *(0.22, 0.20, 0.18, 0.16, 0.14, 0.12, 0.10, 0.09, 0.08, 0.07, 0.06, 0.05),
]


def paper(min_size, max_size, **kwargs):
    return AdaptiveBatchScheduler(min_size, max_size, rounding="paper", **kwargs)


def settled(scheduler, divergence, size, n):
    """Sizes under a constant divergence with a full window, from a given size on."""
    scheduler.set_state({"divergences": [divergence] * 20, "size": size})
    return [scheduler.update(divergence) for _ in range(n)]


@pytest.mark.parametrize(
    ("max_size", "expected"),
    [
        (64, [16] * 9 + [17, 18, 19, 20, 21, 22, 22, 23, 24, 24, 25, 26, 27, 28, 29, 30]),
        (128, [16] * 9 + list(range(18, 49, 2))),
    ],
)
def test_falling_divergences_give_the_published_sizes(max_size, expected):
    scheduler = paper(16, max_size)
    assert [scheduler.update(divergence) for divergence in DIVERGENCES] == expected


def test_window_means_and_targets_are_the_published_ones():
    scheduler, means, targets = paper(16, 64), {}, {}
    for check, divergence in enumerate(DIVERGENCES, 1):
        scheduler.update(divergence)
        means[check], targets[check] = scheduler.mean_divergence, int(scheduler.target(scheduler.mean_divergence))
    checks = (10, 15, 20, 21, 25)
    assert [means[check] for check in checks] == pytest.approx([0.433, 0.368667, 0.3115, 0.286, 0.2], abs=1e-6)
    assert [targets[check] for check in checks] == [28, 31, 34, 35, 41]


@pytest.mark.parametrize(
    ("max_size", "expected"),
    [
        (64, [20, 24, 28, 31, 34, 37, 39, 41, 43, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 55, 55]),
        (128, [27, 37, 46, 54, 61, 67, 73, 78, 83, 87, 91, 94, 97, 100, 102, 104, 106, 108, 110, 111]),
    ],
)
def test_a_settled_policy_grows_and_stalls_in_the_papers_arithmetic(max_size, expected):
    assert settled(paper(16, max_size), 0.03, 16, len(expected)) == expected
    assert settled(paper(16, max_size), 0.03, 16, 200)[-1] == {64: 55, 128: 119}[max_size]


def test_an_unsettled_policy_shrinks_without_a_stall():
    assert settled(paper(16, 64), 0.95, 55, 11) == [51, 47, 43, 40, 37, 34, 32, 30, 28, 26, 25]
    assert settled(paper(16, 64), 0.95, 55, 60)[-1] == 16


@pytest.mark.parametrize(("bounds", "divergence"), [((16, 64), 0.01), ((16, 128), 0.05), ((1024, 8192), 0.001)])
def test_exact_rounding_reaches_both_ends(bounds, divergence):
    assert settled(AdaptiveBatchScheduler(*bounds), divergence, bounds[0], 300)[-1] == bounds[1]
    assert settled(AdaptiveBatchScheduler(*bounds), 0.99, bounds[1], 300)[-1] == bounds[0]


PPO = {"low": 0.01, "high": 0.1, "quantum": 32}


@pytest.mark.parametrize(
    ("divergence", "start", "expected"),
    [
        (0.01, 1024, [1728, 2368, 2944, 3456, 3904, 4320, 4704, 5024, 5312, 5600]),
        (0.1, 1024, [1024]),
        (0.05, 1024, [1216]),
        (0.001**0.5, 2048, [2304]),
        (0.02, 4096, [4288]),
    ],
)
def test_ppos_sizes_are_the_published_ones(divergence, start, expected):
    assert settled(paper(1024, 8192, **PPO), divergence, start, len(expected)) == expected


def test_ppo_stalls_at_7904():
    assert settled(paper(1024, 8192, **PPO), 0.01, 1024, 300)[-1] == 7904
    assert settled(AdaptiveBatchScheduler(1024, 8192, **PPO), 0.01, 1024, 300)[-1] == 8192


@pytest.mark.parametrize(
    ("kind", "divergence", "target"),
    [
        ("log", 0.10, 52.700372),
        ("log", 0.50, 26.463449),
        ("linear", 0.10, 61.333333),
        ("linear", 0.50, 40.0),
        ("exp", 0.10, 63.526081),
        ("exp", 0.50, 55.042936),
    ],
)
def test_targets_between_the_thresholds(kind, divergence, target):
    assert AdaptiveBatchScheduler(16, 64, kind=kind).target(divergence) == pytest.approx(target, abs=1e-6)


@pytest.mark.parametrize("kind", ["log", "linear", "exp"])
def test_beyond_the_thresholds_targets_are_the_bounds(kind):
    scheduler = AdaptiveBatchScheduler(16, 64, kind=kind)
    assert [scheduler.target(divergence) for divergence in (0.0, 0.05, 0.95, 1.0)] == pytest.approx([64, 64, 16, 16])


@pytest.mark.parametrize(
    ("divergence", "states", "sizes"),
    [
        (0.05, [166.4, 200.96, 232.064, 260.0576, 285.25184], [160, 208, 240, 256, 288]),
        (0.2, [148.320595, 166.609131, 183.068814], [144, 160, 176]),
    ],
)
def test_sizes_in_steps_of_sixteen_keep_a_float_underneath(divergence, states, sizes):
    scheduler = AdaptiveBatchScheduler(128, 512, quantum=16)
    scheduler.set_state({"divergences": [divergence] * 20, "size": 128})
    for state, size in zip(states, sizes, strict=True):
        assert scheduler.update(divergence) == size
        assert scheduler.get_state()["size"] == pytest.approx(state, abs=1e-5)


def test_the_largest_size_comes_at_the_37th_check():
    sizes = settled(AdaptiveBatchScheduler(128, 512, quantum=16), 0.05, 128, 40)
    assert sizes.index(512) == 36


def test_nothing_changes_before_the_warmup():
    scheduler = AdaptiveBatchScheduler(16, 64)
    assert [scheduler.update(0.0) for _ in range(9)] == [16] * 9
    assert scheduler.update(0.0) > 16


@pytest.mark.parametrize("rounding", ["exact", "paper"])
def test_a_restored_scheduler_goes_on_as_if_nothing_had_happened(rounding):
    first = AdaptiveBatchScheduler(16, 64, rounding=rounding)
    for divergence in DIVERGENCES[:15]:
        first.update(divergence)
    second = AdaptiveBatchScheduler(16, 64, rounding=rounding)
    second.set_state(first.get_state())
    rest = DIVERGENCES[15:]
    assert [first.update(divergence) for divergence in rest] == [second.update(divergence) for divergence in rest]


@pytest.mark.parametrize("divergence", [-0.1, math.nan, math.inf])
def test_a_divergence_that_is_none_is_refused(divergence):
    with pytest.raises(InvalidValue, match="divergence"):
        AdaptiveBatchScheduler(16, 64).update(divergence)
