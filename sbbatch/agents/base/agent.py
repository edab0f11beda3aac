"""What all agents share, however they learn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, TypeVar
from weakref import WeakSet

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sbbatch.agents.base.arguments import check_learn
from sbbatch.arguments import check_arguments, declared
from sbbatch.batch.callback import BatchSizeCallback, find_batch_size_callback
from sbbatch.batch.protocol import BatchScaling, UpdateHook
from sbbatch.errors import InvalidType, InvalidValue, NumericalError
from sbbatch.persistence.saved_agent import SafeFiles
from sbbatch.recipe import with_defaults

_learning: WeakSet[BaseAlgorithm] = WeakSet()  # no attribute: a copy made meanwhile does not learn

SelfAgent = TypeVar("SelfAgent", bound="Agent")


class Agent(SafeFiles, BaseAlgorithm):
    """
    The part of :class:`~sbbatch.batch.protocol.BatchScalable` that does not depend on how an agent learns.

    ``update_hooks`` are called around each update; besides the callbacks that change the batch size a user's own may
    be among them. They are not saved.

    ``batch_size_callback`` may be set to another callback, or to None, at any time. :meth:`learn` asks for it when it
    begins: what is set while the agent learns has an effect from the next :meth:`learn` on.
    """

    scaling_defaults: ClassVar[BatchScaling]
    batch_size_callback: BatchSizeCallback | None = None
    batch_scaling_state: dict[str, Any] | None = None
    _update_hooks: list[UpdateHook]
    _generator_states: dict[str, Any] | None = None  # of a loaded model

    def __init_subclass__(cls, defaults: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """
        :param defaults: constructor defaults in which the recipe differs from its base class
        """
        super().__init_subclass__(**kwargs)
        if defaults is not None:
            cls.__init__ = with_defaults(cls.__init__, defaults)  # type: ignore[method-assign]

    def _check_attributes(self, agent_class: type[Agent]) -> dict[str, Any]:
        """
        What became of the constructor's arguments, which `load` may have changed: checked by the same declarations.

        :param agent_class: whose constructor declares them
        :return: arguments by name
        """
        if not hasattr(self, "observation_space"):
            name = type(self).__name__
            raise InvalidType(
                f"env: got None, expected an environment or its id; {name}.load(path) loads a trained agent"
            )
        attributes = {name: self.kept_as.get(name, name) for name in declared(agent_class) if name != "policy"}
        present = {name: vars(self)[attribute] for name, attribute in attributes.items() if attribute in vars(self)}
        arguments = check_arguments(agent_class, present)
        vars(self).update({attributes[name]: value for name, value in arguments.items()})
        return arguments

    @property
    def batch_scaling(self) -> BatchScaling:
        """What is scaled, and the numbers it is adapted with unless the user says otherwise."""
        return self.scaling_defaults

    @property
    def update_hooks(self) -> list[UpdateHook]:
        """See :class:`~sbbatch.batch.protocol.UpdateHook`."""
        return self.__dict__.setdefault("_update_hooks", [])

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Around each update; who was told of its beginning is told of its end, even if it fails."""
        hooks = list(self.update_hooks)
        for hook in hooks:
            hook.before_update()
        try:
            yield
        except BaseException:
            for hook in hooks:
                with suppress(Exception):  # the failure of the update is the one to tell
                    hook.after_update()
            raise
        for hook in hooks:
            hook.after_update()

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        given = find_batch_size_callback(callback)
        own = self.batch_size_callback
        if own is None:
            return super()._init_callback(callback, progress_bar)
        if given is not None:
            raise InvalidValue(
                f"callback: got {type(given).__name__}, but the agent has a batch_size_callback "
                f"({type(own).__name__}); give one of them, or set agent.batch_size_callback = None"
            )
        others = callback if isinstance(callback, list) else [] if callback is None else [callback]
        callbacks = [one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in others]
        return super()._init_callback([own, *callbacks], progress_bar)

    def learn(
        self: SelfAgent,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfAgent:
        """
        Train the agent. However it ends, the callback that changed the batch size has nothing to say afterwards.

        :param total_timesteps: agent steps, summed over environments; a lower bound, as in SB3
        :param callback: callbacks, called at every vector step
        :param log_interval: episodes (replay) or rollouts between log entries
        :param tb_log_name: name of the run for TensorBoard; the class name by default
        :param reset_num_timesteps: count steps from zero; False continues the count and the schedules
        :param progress_bar: SB3's progress bar
        :return: the agent itself
        :raises InvalidValue: a number below 1, or an agent without an environment, or one that is learning already
        :raises InvalidType: something else than a number or a callback
        """
        if self.env is None:
            raise InvalidValue(
                "learn: the agent has no environment; call set_env(env), or load it by load(path, env=env)"
            )
        total_timesteps = check_learn(total_timesteps, callback, log_interval)
        self._require_idle("learn")
        self._end_scaling()  # of an agent that was copied while it learned
        name = tb_log_name or type(self).__name__
        _learning.add(self)
        try:
            return super().learn(  # type: ignore[safe-super]  # of SB3's class for replay or for rollouts
                total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar
            )
        finally:
            _learning.discard(self)
            self._end_scaling()

    def set_env(self, env: GymEnv | str, force_reset: bool = True) -> None:
        """
        See :meth:`SafeFiles.set_env`. While the agent learns only without a reset: the observation that its last step
        started from would be lost before that step is stored.
        """
        if force_reset:
            self._require_idle("set_env")
        super().set_env(env, force_reset)

    def _require_idle(self, method: str) -> None:
        if self in _learning:
            raise InvalidValue(f"{method}: the agent is learning; call it when its learn() has returned")

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Never below 0, where schedules end: the last steps of a run may go beyond its length."""
        super()._update_current_progress_remaining(min(num_timesteps, total_timesteps), total_timesteps)

    def _require_finite_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise NumericalError(f"step {self.num_timesteps}: the loss became {loss} after {self._n_updates} updates")

    def _end_scaling(self) -> None:
        """Unsubscribe the callback that changed the batch size, and keep what it knows."""
        self._note_scaling()
        self.update_hooks[:] = [hook for hook in self.update_hooks if not isinstance(hook, BatchSizeCallback)]

    def _note_scaling(self) -> None:
        for hook in self.update_hooks:
            if isinstance(hook, BatchSizeCallback):
                self.batch_scaling_state = hook.saved_state()

    def _note_state(self) -> None:
        super()._note_state()
        self._note_scaling()

    @classmethod
    def _check_changes(cls, saved: dict[str, Any], given: dict[str, Any]) -> None:
        super()._check_changes(saved, given)
        name = cls.scaling_defaults.size_name
        callback = given.get("batch_size_callback", saved.get("batch_size_callback"))
        if name in given and callback is not None:
            raise InvalidValue(
                f"load: {name}: {type(callback).__name__} decides it; leave it out, or give batch_size_callback=None "
                "as well"
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_update_hooks"]
