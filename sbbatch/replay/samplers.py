"""Samplers: which transitions of the replay memory are drawn, and with which importance weights."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import numpy as np

from sbbatch.arguments import Count, FractionSchedule, Positive, Within, checked
from sbbatch.errors import NumericalError
from sbbatch.replay.sum_tree import SumTree


class Sampler(Protocol):
    """
    Chooses transitions by index; the buffer tells it which indices exist.

    ``progress_remaining`` falls from 1 to 0 over the training and drives schedules.
    """

    progress_remaining: float

    def add(self, indices: np.ndarray) -> None:
        """
        :param indices: transitions that have just been stored ``(n,)``
        """

    def remove(self, indices: np.ndarray) -> None:
        """
        :param indices: transitions that are about to be overwritten ``(n,)``
        """

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """
        :param n: how many
        :param rng: generator owned by the buffer
        :return: indices int64 ``(n,)`` and importance weights float32 ``(n,)``
        """

    def update_priorities(self, indices: np.ndarray, td_losses: np.ndarray) -> None:
        """
        :param indices: transitions of the last batch ``(n,)``
        :param td_losses: their losses ``(n,)``
        """

    def get_state(self) -> dict[str, Any]:
        """Plain arrays and numbers."""

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`get_state` returned."""


class UniformSampler:
    """
    Every stored transition is equally likely; weights are one.

    Indices are written in rising order around a ring, so that the stored ones are a range: no list is kept.

    :param n_indices: size of the ring
    """

    def __init__(self, n_indices: int) -> None:
        self.n_indices = n_indices
        self.progress_remaining = 1.0
        self._first = 0
        self._n_stored = 0

    def add(self, indices: np.ndarray) -> None:
        """See :class:`Sampler`."""
        self._n_stored += len(indices)

    def remove(self, indices: np.ndarray) -> None:
        """See :class:`Sampler`."""
        self._first = (self._first + len(indices)) % self.n_indices
        self._n_stored -= len(indices)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Sampler`."""
        indices = (self._first + rng.integers(self._n_stored, size=n)) % self.n_indices
        return indices, np.ones(n, dtype=np.float32)

    def update_priorities(self, indices: np.ndarray, td_losses: np.ndarray) -> None:
        """Uniform replay has no priorities."""

    def get_state(self) -> dict[str, Any]:
        """See :class:`Sampler`."""
        return {"first": self._first, "n_stored": self._n_stored}

    def set_state(self, state: dict[str, Any]) -> None:
        """See :class:`Sampler`."""
        self._first, self._n_stored = int(state["first"]), int(state["n_stored"])


class PrioritizedSampler:
    """
    Proportional prioritized replay (Schaul et al. 2016)::

        P(i) = p_i^alpha / sum_j p_j^alpha,    w_i = (M P(i))^-beta / max over the batch

    with ``p_i`` the loss of transition ``i`` when it was last trained on, and for a new transition the largest priority
    ever seen (1 at the start). Draws are stratified: one from each of ``n`` equal parts of the total mass.

    Dividing by the largest weight *of the batch* is what the papers do, and it ties the effective step size to the
    batch size: a larger batch contains a larger weight. The mean weight is therefore logged by the algorithms.

    :param n_indices: size of the ring
    :param priority_exponent: alpha; 0 is uniform, 0.5 is Dopamine's square root of the loss
    :param importance_exponent: beta, a number or a function of the progress remaining (1 to 0); 0 leaves the
        gradient uncorrected (the small-batch paper's QR-DQN)
    :param epsilon: added to the losses, so that none is never drawn again
    """

    @checked
    def __init__(
        self,
        n_indices: Count,
        priority_exponent: Annotated[float, Within(0.0, 10.0)] = 0.5,
        importance_exponent: FractionSchedule = 0.5,
        epsilon: Positive = 1e-10,
    ) -> None:
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        self.epsilon = epsilon
        self.progress_remaining = 1.0
        self.tree = SumTree(n_indices)
        self._largest = 1.0  # already raised to alpha
        self._n_stored = 0

    def add(self, indices: np.ndarray) -> None:
        """See :class:`Sampler`."""
        self.tree.set(indices, self._largest)
        self._n_stored += len(indices)

    def remove(self, indices: np.ndarray) -> None:
        """See :class:`Sampler`."""
        self.tree.set(indices, 0.0)
        self._n_stored -= len(indices)

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Sampler`."""
        total = self.tree.total
        masses = (np.arange(n) + rng.random(n)) * (total / n)
        indices = self.tree.find(masses)
        return indices, self.weights(self.tree.leaves[indices] / total)

    def weights(self, probabilities: np.ndarray) -> np.ndarray:
        """
        Importance weights, normalised by the largest of the batch.

        :param probabilities: probability of each drawn transition ``(n,)``
        :return: float32 ``(n,)``, at most 1
        """
        beta = self.importance_exponent
        exponent = float(beta(self.progress_remaining) if callable(beta) else beta)
        weights = (self._n_stored * probabilities) ** -exponent
        return (weights / weights.max()).astype(np.float32)

    def update_priorities(self, indices: np.ndarray, td_losses: np.ndarray) -> None:
        """
        See :class:`Sampler`.

        :raises NumericalError: a loss is negative, NaN or infinite
        """
        if not (np.isfinite(td_losses).all() and (td_losses >= 0).all()):
            worst = td_losses[~np.isfinite(td_losses) | (td_losses < 0)][0]
            raise NumericalError(f"a priority must be finite and >= 0, but a loss is {worst}")
        priorities = (td_losses.astype(np.float64) + self.epsilon) ** self.priority_exponent
        self._largest = max(self._largest, float(priorities.max()))
        # A transition drawn just before it was overwritten must not come back to life.
        alive = self.tree.leaves[indices] > 0
        self.tree.set(indices[alive], priorities[alive])

    def get_state(self) -> dict[str, Any]:
        """See :class:`Sampler`."""
        return {"priorities": self.tree.leaves.copy(), "largest": self._largest, "n_stored": self._n_stored}

    def set_state(self, state: dict[str, Any]) -> None:
        """See :class:`Sampler`."""
        self.tree.restore(np.asarray(state["priorities"]))
        self._largest, self._n_stored = float(state["largest"]), int(state["n_stored"])
