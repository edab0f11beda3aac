"""The base of all callbacks that change an agent's batch size."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Annotated, Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList, EventCallback

from sbbatch.arguments import Within
from sbbatch.batch.protocol import BatchScalable
from sbbatch.errors import InvalidType, InvalidValue, restored

Verbosity = Annotated[int, Within(0, 2)]  # as in SB3
# What a callback knows only while its agent learns.
_OF_A_RUN = ("model", "locals", "globals", "parent", "_logger")


class BatchSizeCallback(BaseCallback):
    """
    Changes the batch size of an agent while it learns: ``Agent(..., batch_size_callback=...)``, or
    ``agent.learn(..., callback=...)``.

    A subclass says what size comes next in :meth:`_start`, :meth:`before_update` or :meth:`after_update`, by
    :meth:`resize`, and what it must remember in :meth:`get_state`. The state is saved with the model; when a callback
    of the same class and arguments goes on with the agent, it goes on from that state.

    :param verbose: as in SB3
    """

    def __init__(self, verbose: Verbosity = 0) -> None:
        super().__init__(verbose)
        self.size: int | None = None  # of what the agent scales
        self.history: list[dict[str, Any]] = []  # one row per measurement

    @property
    def agent(self) -> BatchScalable:
        """The agent that learns."""
        assert isinstance(self.model, BatchScalable)
        return self.model

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """What tells this callback from others of its class: its arguments."""

    def get_state(self) -> dict[str, Any]:
        """What must be known to go on exactly as before: plain numbers, arrays and tensors."""
        return {"size": self.size, "history": list(self.history)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_state` returned."""
        self.size, self.history = state["size"], list(state["history"])

    @abstractmethod
    def _start(self) -> None:
        """Training starts: check the arguments against the agent, and choose the first size."""

    def before_update(self) -> None:
        """The agent is about to change its parameters; see :class:`~sbbatch.batch.protocol.UpdateHook`."""

    def after_update(self) -> None:
        """It has changed them."""

    def resize(self, size: int) -> None:
        """Give the agent another size, of what it scales."""
        self.size = self.agent.resize_batch(size)
        self.logger.record("batch/size", self.size)

    def note(self, **measured: float) -> None:
        """Log a measurement, numbers by name, and remember it in ``history``."""
        self.history.append({"timesteps": self.model.num_timesteps, **measured, "size": self.size})
        for name, value in measured.items():
            self.logger.record(f"batch/{name}", value)
        self.logger.record("batch/size", self.size)

    def _on_training_start(self) -> None:
        if not isinstance(self.model, BatchScalable):
            raise InvalidType(
                f"{type(self).__name__}: {type(self.model).__name__} cannot change its batch size; use it with an "
                "agent of sbbatch"
            )
        saved = self.agent.batch_scaling_state
        self.size, self.history = None, []
        self._start()
        if saved is not None and saved.get("callback") == self._identity():
            with restored(type(self).__name__, "agent.batch_scaling_state = None forgets it"):
                self.set_state(saved["state"])
                assert self.size is not None, "it has no size"
                self.resize(self.size)
        else:
            self.note()
        self.agent.update_hooks.append(self)

    def saved_state(self) -> dict[str, Any]:
        """What an agent saves."""
        return {"callback": self._identity(), "state": self.get_state()}

    def _identity(self) -> str:
        return f"{type(self).__name__} {json.dumps(self.config(), default=repr, sort_keys=True)}"

    def _on_step(self) -> bool:
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _OF_A_RUN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, locals={}, globals={}, parent=None)


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
        """After a measurement."""
        self.next = (now // self.interval + 1) * self.interval

    def is_due(self, now: int) -> bool:
        """After ``learn(reset_num_timesteps=True)`` agent steps count from zero again."""
        self.next = min(self.next, now + self.interval)
        return now >= self.next


def find_batch_size_callback(callback: object) -> BatchSizeCallback | None:
    """The one callback that changes the batch size, among those that ``learn`` got."""
    found = list(_in(callback))
    if len(found) > 1:
        names = " and ".join(type(one).__name__ for one in found)
        raise InvalidValue(f"callback: got {names}, expected one callback that changes the batch size")
    return found[0] if found else None


def _in(callback: object) -> list[BatchSizeCallback]:
    if isinstance(callback, BatchSizeCallback):
        return [callback]
    if isinstance(callback, (list, tuple)):
        return [found for one in callback for found in _in(one)]
    if isinstance(callback, CallbackList):
        return _in(callback.callbacks)
    if isinstance(callback, EventCallback):
        for nested in _in([callback.callback, getattr(callback, "callback_on_new_best", None)]):
            raise InvalidValue(
                f"callback: got {type(nested).__name__} inside {type(callback).__name__}, which calls it at some steps "
                "only; give it to the agent as batch_size_callback, or to learn beside the others"
            )
    return []


def check_bounds(min_size: int | None, max_size: int | None) -> None:
    """The smaller first; either may be left to the agent."""
    if min_size is not None and max_size is not None and max_size < min_size:
        raise InvalidValue(f"max_size: got {max_size}, expected at least min_size = {min_size}")


def sizes_for(callback: BatchSizeCallback, min_size: int | None, max_size: int | None, quantum: int) -> tuple[int, int]:
    """Smallest and largest size; for what the user left out the agent's default, moved to a size it can have."""
    agent, name = callback.agent, type(callback).__name__
    low = -(-agent.batch_scaling.min_size // quantum) * quantum if min_size is None else min_size
    high = max(agent.batch_scaling.max_size // quantum, 1) * quantum if max_size is None else max_size
    if min_size is None:  # one bound given: the other default gives way
        low = min(low, high)
    if max_size is None:
        high = max(low, high)
    for which, size in (("min_size", low), ("max_size", high)):
        if size % quantum:
            raise InvalidValue(f"{name}: {which}: got {size}, expected a multiple of {quantum}")
        agent.check_batch(f"{name}: {which}", size)
    return low, high
