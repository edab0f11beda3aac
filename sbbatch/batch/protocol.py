"""What an agent offers so that its batch size can be adapted, and what a callback that adapts it offers in return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

# What an agent does in some states: its greedy actions ``(states,)``, or the parameters of its distributions.
Behavior = tuple[th.Tensor, ...]


@dataclass(frozen=True)
class BatchScaling:
    """
    What of an agent grows and shrinks, and the numbers it is adapted with unless the user says otherwise.

    :param size_name: the argument that is scaled: ``"batch_size"``, samples per gradient step, of agents that learn
        from replay; ``"n_steps"``, steps per environment and rollout, of agents that learn from rollouts
    :param min_size: smallest size
    :param max_size: largest size
    :param low: divergence at and below which the size grows towards the largest
    :param high: divergence at and above which it falls towards the smallest
    :param check_every: time between measurements: rollouts (``"n_steps"``) or agent steps (``"batch_size"``)
    :param updates: updates that one measurement spans: gradient steps on replay, or updates on a rollout
    :param quantum: sizes are multiples of it
    """

    size_name: str
    min_size: int
    max_size: int
    low: float = 0.05
    high: float = 0.95
    check_every: int = 1
    updates: int = 1
    quantum: int = 1


class UpdateHook(Protocol):
    """What an agent calls around each update: a gradient step on replay, or all epochs on one rollout."""

    def before_update(self) -> None:
        """The parameters are about to change."""

    def after_update(self) -> None:
        """They have changed."""


@runtime_checkable
class BatchScalable(Protocol):
    """An agent whose batch size can be adapted. All measurements leave the agent as it was, random streams included."""

    batch_scaling_state: dict[str, Any] | None  # of the callback that adapted it last; saved with the model

    @property
    def batch_scaling(self) -> BatchScaling:
        """What is scaled, and its defaults."""

    @property
    def update_hooks(self) -> list[UpdateHook]:
        """Called around each update."""

    @property
    def batch_time(self) -> int:
        """Rollouts, or agent steps, until now; the unit of ``BatchScaling.check_every``."""

    @property
    def size_multiple(self) -> int:
        """Sizes must be multiples of it."""

    @property
    def samples_per_unit(self) -> int:
        """Samples that a size of one stands for: the environments of a rollout, 1 on replay."""

    def check_batch(self, name: str, size: object) -> int:
        """The size, or an InvalidValue under the user's name for it if the agent cannot have it."""

    def resize_batch(self, size: int) -> int:
        """Give the next update (replay) or rollout another size, and return it; see :meth:`check_batch`."""

    def probe_observations(self, n_states: int, rng: np.random.Generator) -> PyTorchObs:
        """
        Choose states to look at: of the present rollout, or of the newest transitions.

        :param n_states: how many; fewer if there are not so many
        :param rng: the caller's
        :return: observations ``(states, *shape)``, a copy: what is stored goes on changing
        """

    def behavior(self, observations: PyTorchObs) -> Behavior:
        """What the agent does in the states of :meth:`probe_observations`, without noise and exploration."""

    def divergence(self, before: Behavior, after: Behavior) -> float:
        """How far behavior moved across some updates in the same states, >= 0."""


@runtime_checkable
class HasGradientParts(Protocol):
    """An agent with one loss on fixed targets, whose gradient has a noise to measure."""

    def gradient_parts(self, n_parts: int, part_size: int | None = None) -> tuple[th.Tensor, int]:
        """
        Gradients ``(n_parts, parameters)`` of the parts of one batch, and the samples in each part.

        :param n_parts: how many
        :param part_size: samples in each, whatever the batch size; None: all parts together are one batch
        """
