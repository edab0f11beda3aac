"""Bootstraps: which action weights of the next state enter the target, and what is added to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch as th
import torch.nn.functional as F

from sbbatch.networks.heads import ReturnEstimate
from sbbatch.replay.batch import Observations, ReplayBatch

ReturnsFunction = Callable[[Observations], ReturnEstimate]


class BootstrapTarget(NamedTuple):
    """The ingredients of :meth:`~sbbatch.networks.heads.ReturnEstimate.backup`."""

    estimate: ReturnEstimate  # of the next observations
    policy: th.Tensor  # (batch, actions)
    bonus: th.Tensor  # (batch, actions)
    rewards: th.Tensor  # (batch,)


class Bootstrap(Protocol):
    """Anything that turns two networks and a batch into the ingredients of a backup."""

    def __call__(self, online: ReturnsFunction, target: ReturnsFunction, batch: ReplayBatch) -> BootstrapTarget:
        """
        :param online: observations -> estimate of the online network
        :param target: observations -> estimate of the target network
        :param batch: the replay batch
        """


def _one_hot_of_best(q_values: th.Tensor) -> th.Tensor:
    return F.one_hot(q_values.argmax(dim=1), q_values.shape[1]).to(q_values.dtype)


@dataclass(frozen=True)
class Greedy:
    """Q-learning: the target network selects the next action and evaluates it (Mnih et al. 2015)."""

    def __call__(self, online: ReturnsFunction, target: ReturnsFunction, batch: ReplayBatch) -> BootstrapTarget:
        """See :class:`Bootstrap`."""
        estimate = target(batch.next_observations)
        q_values = estimate.q_values
        return BootstrapTarget(estimate, _one_hot_of_best(q_values), th.zeros_like(q_values), batch.rewards)
