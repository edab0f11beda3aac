"""Bootstraps: which action weights of the next state enter the target, and what is added to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Protocol, runtime_checkable

import torch as th

from sbbatch.arguments import Fraction, Positive, Within, checked
from sbbatch.functional.returns import scaled_log_policy
from sbbatch.networks.heads import ReturnEstimate
from sbbatch.replay.batch import Observations, ReplayBatch

ReturnsFunction = Callable[[Observations], ReturnEstimate]


class BootstrapTarget(NamedTuple):
    """The ingredients of :meth:`~sbbatch.networks.heads.ReturnEstimate.backup`."""

    estimate: ReturnEstimate  # of the next observations
    policy: th.Tensor  # (batch, actions)
    bonus: th.Tensor  # (batch, actions)
    rewards: th.Tensor  # (batch,)


@runtime_checkable
class Bootstrap(Protocol):
    """Anything that turns two networks and a batch into the ingredients of a backup."""

    def __call__(
        self, current: ReturnEstimate, online: ReturnsFunction, target: ReturnsFunction, batch: ReplayBatch
    ) -> BootstrapTarget:
        """
        :param current: the online network's estimate of ``batch.observations``, which the loss has made already
        :param online: observations -> estimate of the online network
        :param target: observations -> estimate of the target network
        :param batch: the replay batch
        """


def _select(estimate: ReturnEstimate, selector: ReturnEstimate, batch: ReplayBatch) -> BootstrapTarget:
    """``estimate`` of the action that ``selector`` likes best."""
    q_values = selector.q_values
    nothing = th.zeros_like(q_values)
    best = nothing.scatter(1, q_values.argmax(dim=1, keepdim=True), 1.0)
    return BootstrapTarget(estimate, best, nothing, batch.rewards)


@dataclass(frozen=True)
class Greedy:
    """Q-learning: the target network selects the next action and evaluates it (Mnih et al. 2015)."""

    def __call__(
        self, current: ReturnEstimate, online: ReturnsFunction, target: ReturnsFunction, batch: ReplayBatch
    ) -> BootstrapTarget:
        """See :class:`Bootstrap`."""
        estimate = target(batch.next_observations)
        return _select(estimate, estimate, batch)


@dataclass(frozen=True)
class Double:
    """Double Q-learning: the online network selects, the target network evaluates (van Hasselt et al. 2016)."""

    def __call__(
        self, current: ReturnEstimate, online: ReturnsFunction, target: ReturnsFunction, batch: ReplayBatch
    ) -> BootstrapTarget:
        """See :class:`Bootstrap`."""
        return _select(target(batch.next_observations), online(batch.next_observations), batch)


@checked
@dataclass(frozen=True)
class Munchausen:
    """
    Munchausen reinforcement learning (Vieillard et al. 2020, Eq. 3)::

        rewards + alpha * clip(t log pi(a|s), clip, 0) + discounts * sum_a' pi(a'|s') (Z(s', a') - t log pi(a'|s'))

    with ``pi = softmax(q / t)``. The bonus is added once, undiscounted, also to n-step returns, as in BTR.

    :param alpha: weight of the log-policy that is added to the reward
    :param temperature: t, in units of the return
    :param clip: lower bound of ``t log pi(a|s)``
    :param log_policy: the network behind ``pi(a|s)``: ``"online"`` (BTR's released code, default), or ``"target"`` (the
        Munchausen paper, and BTR's Eq. E1). The next state's policy is always the target network's
    :raises InvalidValue: a number out of range, or another name
    """

    alpha: Fraction = 0.9
    temperature: Positive = 0.03
    clip: Annotated[float, Within(high=0.0)] = -1.0
    log_policy: Literal["online", "target"] = "online"

    def __call__(
        self, current: ReturnEstimate, online: ReturnsFunction, target: ReturnsFunction, batch: ReplayBatch
    ) -> BootstrapTarget:
        """See :class:`Bootstrap`."""
        behind = current if self.log_policy == "online" else target(batch.observations)
        log_policy = scaled_log_policy(behind.q_values, self.temperature)
        bonus = log_policy.gather(1, batch.actions.unsqueeze(1)).squeeze(1).clamp(self.clip, 0.0)

        estimate = target(batch.next_observations)
        next_log_policy = scaled_log_policy(estimate.q_values, self.temperature)
        policy = (next_log_policy / self.temperature).exp()
        return BootstrapTarget(estimate, policy, -next_log_policy, batch.rewards + self.alpha * bonus)


BOOTSTRAPS: dict[str, type[Bootstrap]] = {"greedy": Greedy, "double": Double, "munchausen": Munchausen}
