"""When to measure: at every multiple of an interval."""

from __future__ import annotations


class Timer:
    """
    Due at the first update at or after every multiple of an interval.

    :param interval: in the unit of the agent's clock: rollouts, or agent steps
    :param clock: the time now; not due before the next multiple
    """

    def __init__(self, interval: int, clock: int) -> None:
        self.interval = interval
        self.restart(clock)

    def restart(self, clock: int) -> None:
        """
        :param clock: the time of a measurement
        """
        self.next = (clock // self.interval + 1) * self.interval

    def is_due(self, clock: int) -> bool:
        """
        :param clock: the time now; after ``learn(reset_num_timesteps=True)`` agent steps count from zero again
        """
        self.next = min(self.next, clock + self.interval)
        return clock >= self.next
