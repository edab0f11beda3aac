"""Stopping between two steps instead of in the middle of one."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback


class Stopped(Exception):
    """Leaves the loop that collects steps, after the last one was stored."""


class DeferredStop:
    """
    A callback's wish to stop, granted after the step has been stored.

    SB3 leaves its loop between playing a step and storing it: the step counter is then one ahead of the replay buffer,
    and the observation the agent would go on from is one behind the environment.

    :param callback: the user's callbacks
    """

    def __init__(self, callback: BaseCallback) -> None:
        self._callback = callback
        self._stop = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._callback, name)

    def __deepcopy__(self, _: dict[int, Any]) -> None:
        """The copy of an agent that is collecting steps is not collecting any."""

    def on_step(self) -> bool:
        """Ask the callbacks, and remember."""
        self._stop = not self._callback.on_step()
        return True

    def step_stored(self) -> None:
        """
        :raises Stopped: the callbacks asked to stop
        """
        if self._stop:
            raise Stopped
