"""When to measure: at every multiple of an interval."""

from __future__ import annotations


class Timer:
    """
    Due at the first update at or after every multiple of an interval.

    :param interval: in the unit of the agent's time: rollouts, or agent steps
    :param now: the time; not due before the next multiple
    """

    def __init__(self, interval: int, now: int) -> None:
        self.interval = interval
        self.restart(now)

    def restart(self, now: int) -> None:
        """
        :param now: the time of a measurement
        """
        self.next = (now // self.interval + 1) * self.interval

    def is_due(self, now: int) -> bool:
        """
        :param now: the time; after ``learn(reset_num_timesteps=True)`` agent steps count from zero again
        """
        self.next = min(self.next, now + self.interval)
        return now >= self.next
