"""A sum tree for drawing indices in proportion to their priorities."""

from __future__ import annotations

import numpy as np

# Children per node. A wide tree is shallow, and NumPy handles 128 children of many nodes as fast as two.
FANOUT = 128


class SumTree:
    """
    Priorities of ``capacity`` leaves with fast total, update and search, all vectorised.

    Every inner node holds the sum of its children, recomputed from them at each update, so that rounding errors do not
    pile up over millions of updates.

    :param capacity: number of leaves
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._levels: list[np.ndarray] = []  # leaves first, root block last; each (blocks, FANOUT) float64
        n_blocks = capacity
        while n_blocks > 1 or not self._levels:
            n_blocks = -(-n_blocks // FANOUT)
            self._levels.append(np.zeros((n_blocks, FANOUT)))

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._levels[-1].sum())

    @property
    def leaves(self) -> np.ndarray:
        """Priorities of all leaves, a view ``(capacity,)``."""
        return self._levels[0].reshape(-1)[: self.capacity]

    def set(self, indices: np.ndarray, priorities: np.ndarray | float) -> None:
        """
        Give leaves a priority.

        :param indices: leaves ``(n,)``; where one occurs twice, the last priority stays
        :param priorities: finite values >= 0, ``(n,)`` or one for all
        """
        self._levels[0].reshape(-1)[indices] = priorities
        self._refresh(indices)

    def _refresh(self, indices: np.ndarray) -> None:
        blocks = indices
        for level, parents in zip(self._levels[:-1], self._levels[1:], strict=True):
            # `level[blocks]` is a copy: with very many indices every block is cheaper than one block for each of them.
            blocks = blocks // FANOUT if len(blocks) < len(level) else np.arange(len(level))
            parents.reshape(-1)[blocks] = level[blocks].sum(axis=1)

    def find(self, masses: np.ndarray) -> np.ndarray:
        """
        Leaves at which the running sum of priorities passes each mass.

        :param masses: values in ``[0, total)``, ``(n,)``
        :return: leaves ``(n,)``, never one of priority 0 as long as ``total > 0``
        """
        rest = np.asarray(masses, dtype=np.float64)
        blocks = np.zeros(len(rest), dtype=np.int64)
        for level in reversed(self._levels):
            running = level[blocks].cumsum(axis=1)  # (n, FANOUT)
            # Rounding may put a mass at or beyond the last running sum; then it belongs to the last child that counts.
            rest = np.minimum(rest, np.nextafter(running[:, -1], 0))
            children = (running <= rest[:, None]).sum(axis=1)
            rows = np.arange(len(rest))
            rest = rest - np.where(children > 0, running[rows, children - 1], 0.0)
            blocks = blocks * FANOUT + children
        return blocks

    def restore(self, leaves: np.ndarray) -> None:
        """Replace all priorities by what was read from :attr:`leaves`."""
        self._levels[0].reshape(-1)[: self.capacity] = leaves
        self._refresh(np.arange(self.capacity))
