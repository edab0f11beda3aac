"""Measurements at every multiple of an interval, whatever steps the clock takes."""

import pytest

from sbbatch.batch.callback import Timer


def measured(timer, clocks):
    found = []
    for clock in clocks:
        if timer.is_due(clock):
            timer.restart(clock)
            found.append(clock)
    return found


@pytest.mark.parametrize(
    ("start", "stride", "expected"),
    [
        (0, 1, [10, 20, 30, 40]),
        (0, 4, [12, 20, 32, 40]),  # the first at or after each multiple
        (0, 25, [25]),  # multiples that were jumped over are not made up for
        (10, 5, [20, 30, 40]),  # not at the start, though it is a multiple
        (17, 1, [20, 30, 40]),
    ],
)
def test_it_is_due_at_the_first_moment_at_or_after_each_multiple(start, stride, expected):
    assert measured(Timer(10, start), range(start, 46, stride)) == expected


def test_it_waits_one_interval_at_most_when_the_clock_starts_again():
    timer = Timer(10, 95)
    assert measured(timer, [3, 12, 13, 19, 20]) == [13, 20]
