"""Batch size from the noise of the gradient: the baseline of the Adaptive Batch Scaling paper."""

from __future__ import annotations

from typing import Annotated, Any

from sbbatch.arguments import Count, Within, checked
from sbbatch.batch.callback import BatchSizeCallback, Timer, Verbosity, check_bounds, sizes_for
from sbbatch.batch.protocol import HasGradientParts
from sbbatch.errors import InvalidValue
from sbbatch.functional.noise_scale import gradient_noise_scale

_NO_SIGNAL = 1e-8  # the authors'


class GradientNoiseScale(BatchSizeCallback):
    """
    The batch has as many samples as the simple noise scale of McCandlish et al. (2018) says, within bounds: the rival
    of :class:`~sbbatch.batch.abs.ABS` in its paper.

    After an update the batch is cut into ``n_parts`` parts; from their gradients come noise and signal
    (:func:`~sbbatch.functional.noise_scale.gradient_noise_scale`), and ``noise / signal`` is the batch size. Rollout
    agents divide it by the number of environments, which gives rollout steps. Without a positive signal the size is
    the smallest. There is no smoothing: the sizes jump. The agent starts with its own size, or the bound next to it.

    As in the authors' code, the parts of a rollout are contiguous in time, so that they are not independent samples.
    Their script holds the epochs and lets the learning rate fall; here rollout agents scale the epochs with the rollout
    (``scale_epochs=False`` holds them), and the learning rate is the agent's own argument.

    Measuring draws nothing from the agent's random streams. Agents without a gradient to look at (PPO) refuse it.

    :param min_size: smallest size, of what the agent scales; None: the agent's default
    :param max_size: largest size; None: the agent's default
    :param check_every: rollouts (PQN) or agent steps (replay) between measurements; None: the agent's default
    :param n_parts: parts of the batch, at least 2
    :param verbose: as in SB3
    :raises InvalidValue: a number out of range; when training starts also: a bound that the agent cannot have
    """

    @checked
    def __init__(
        self,
        min_size: Count | None = None,
        max_size: Count | None = None,
        check_every: Count | None = None,
        n_parts: Annotated[int, Within(2)] = 8,
        verbose: Verbosity = 0,
    ) -> None:
        super().__init__(verbose)
        check_bounds(min_size, max_size)
        self.min_size, self.max_size, self._check_every, self.n_parts = min_size, max_size, check_every, n_parts

    def config(self) -> dict[str, Any]:
        """See :meth:`BatchSizeCallback.config`."""
        own = {"check_every": self._check_every, "n_parts": self.n_parts}
        return {"min_size": self.min_size, "max_size": self.max_size, **own}

    def _start(self) -> None:
        scaling = self.agent.batch_scaling
        self.sizes = sizes_for(self, self.min_size, self.max_size, self.agent.size_multiple)
        if not isinstance(self.model, HasGradientParts):
            raise InvalidValue(
                f"GradientNoiseScale: {type(self.model).__name__} has no fixed targets to measure it on; use ABS"
            )
        n_samples = self.sizes[0] * self.agent.samples_per_unit
        if self.n_parts > n_samples:
            raise InvalidValue(
                f"n_parts: got {self.n_parts}, expected at most {n_samples}, the samples of the smallest batch"
            )
        self._timer = Timer(self._check_every or scaling.check_every, self.agent.batch_time)
        self.resize(self._within(getattr(self.model, scaling.size_name)))

    def after_update(self) -> None:
        """Measure, if it is time to, and set the size."""
        now = self.agent.batch_time
        if not self._timer.is_due(now):
            return
        self._timer.restart(now)
        assert isinstance(self.model, HasGradientParts)
        gradients, part_size = self.model.gradient_parts(self.n_parts)
        noise, signal = gradient_noise_scale(gradients, part_size)
        scale = 0.0 if signal <= _NO_SIGNAL else noise / signal
        self.resize(self._within(int(min(scale, 2**62)) // self.agent.samples_per_unit))
        self.note(noise_scale=scale, gradient_noise=noise, gradient_signal=signal)

    def _within(self, size: int) -> int:
        quantum, (low, high) = self.agent.size_multiple, self.sizes
        return min(max(size // quantum * quantum, low), high)

    def get_state(self) -> dict[str, Any]:
        """See :meth:`BatchSizeCallback.get_state`."""
        return super().get_state() | {"next_check": self._timer.next}

    def set_state(self, state: dict[str, Any]) -> None:
        """See :meth:`BatchSizeCallback.set_state`."""
        super().set_state(state)
        self._timer.next = int(state["next_check"])
