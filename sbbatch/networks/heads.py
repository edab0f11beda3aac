"""
Heads: from features to an estimate of the return of every action.

A head is a module; what it yields is a small object that knows the two things a train step needs, whatever the
representation: its loss against a target (``td_loss``) and the Bellman backup of itself (``backup``). Axis order is
``(batch, actions, atoms)`` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch as th
import torch.nn.functional as F
from torch import nn

from sbbatch.errors import InvalidValue, check_int, check_number, did_you_mean
from sbbatch.functional.distributions import midpoint_taus, quantile_huber_loss
from sbbatch.networks.layers import mlp

ElementwiseLoss = Callable[[th.Tensor, th.Tensor], th.Tensor]


class ReturnEstimate(Protocol):
    """What every head yields for a batch of observations."""

    @property
    def q_values(self) -> th.Tensor:
        """Expected return of every action, ``(batch, actions)``."""

    def td_loss(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        Loss of the chosen actions against a target made by :meth:`backup` of the same kind of estimate.

        :param actions: int64 ``(batch,)``
        :param target: constant ``(batch,)`` or ``(batch, atoms)``
        :return: loss per sample ``(batch,)``
        """

    def backup(self, policy: th.Tensor, bonus: th.Tensor, rewards: th.Tensor, discounts: th.Tensor) -> th.Tensor:
        """
        Bellman backup ``rewards + discounts * sum_a policy(a) * (returns(a) + bonus(a))``.

        :param policy: action weights of the next state ``(batch, actions)``, rows sum to one
        :param bonus: added to the return of each next action ``(batch, actions)``
        :param rewards: n-step rewards ``(batch,)``
        :param discounts: bootstrap factor per sample ``(batch,)``, 0 where the episode terminated
        :return: the target for :meth:`td_loss`
        """


def _of_actions(values: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """``(batch, actions, ...)`` at ``actions (batch,)`` -> ``(batch, ...)``."""
    assert actions.shape == values.shape[:1], f"actions {actions.shape} for values {values.shape}"
    index = actions.reshape(-1, *[1] * (values.ndim - 1)).expand(-1, 1, *values.shape[2:])
    return values.gather(1, index).squeeze(1)


@dataclass(frozen=True)
class ExpectedReturns:
    """Scalar action values and the loss they are trained with."""

    q_values: th.Tensor  # (batch, actions)
    elementwise_loss: ElementwiseLoss

    def td_loss(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_loss`; ``target`` is ``(batch,)``."""
        assert target.shape == actions.shape, f"target {target.shape} for actions {actions.shape}"
        return self.elementwise_loss(_of_actions(self.q_values, actions), target)

    def backup(self, policy: th.Tensor, bonus: th.Tensor, rewards: th.Tensor, discounts: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.backup`; the result is ``(batch,)``."""
        return rewards + discounts * (policy * (self.q_values + bonus)).sum(dim=1)


@dataclass(frozen=True)
class QuantileReturns:
    """Return distributions as quantiles at given fractions (fixed midpoints, or sampled)."""

    quantiles: th.Tensor  # (batch, actions, atoms)
    taus: th.Tensor  # (atoms,) or (batch, atoms)
    kappa: float

    @property
    def q_values(self) -> th.Tensor:
        """Mean over the quantiles, ``(batch, actions)``."""
        return self.quantiles.mean(dim=2)

    def td_loss(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_loss`; ``target`` is ``(batch, atoms)``."""
        return quantile_huber_loss(_of_actions(self.quantiles, actions), target, self.taus, self.kappa)

    def backup(self, policy: th.Tensor, bonus: th.Tensor, rewards: th.Tensor, discounts: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.backup`; the result is ``(batch, atoms)``."""
        value = (policy.unsqueeze(2) * (self.quantiles + bonus.unsqueeze(2))).sum(dim=1)  # (batch, atoms)
        return rewards.unsqueeze(1) + discounts.unsqueeze(1) * value


def squared_error(prediction: th.Tensor, target: th.Tensor) -> th.Tensor:
    """``(target - prediction)^2`` per element: Dopamine's DQN loss, without the factor 1/2."""
    return F.mse_loss(prediction, target, reduction="none")


def huber(prediction: th.Tensor, target: th.Tensor) -> th.Tensor:
    """Huber loss with delta 1 per element: SB3's DQN loss."""
    return F.smooth_l1_loss(prediction, target, reduction="none")


LOSSES: dict[str, ElementwiseLoss] = {"huber": huber, "mse": squared_error}


class ExpectedHead(nn.Module):
    """
    Scalar action values (DQN).

    :param features_dim: size of the features
    :param n_actions: number of actions
    :param net_arch: hidden layer sizes, may be empty
    :param activation_fn: activation of the hidden layers
    :param loss: ``"huber"`` (SB3, default) or ``"mse"`` (Dopamine)
    :raises InvalidValue: unknown loss
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        loss: str = "huber",
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise InvalidValue(f"loss: got {loss!r}{did_you_mean(str(loss), LOSSES)}")
        self.elementwise_loss = LOSSES[loss]
        self.hidden = mlp([features_dim, *net_arch], activation_fn)
        self.output = nn.Linear([features_dim, *net_arch][-1], n_actions)

    def forward(self, features: th.Tensor) -> ExpectedReturns:
        """
        :param features: ``(batch, features_dim)``
        """
        return ExpectedReturns(self.output(self.hidden(features)), self.elementwise_loss)


class QuantileHead(nn.Module):
    """
    Quantiles at fixed midpoints (QR-DQN, Dabney et al. 2018a).

    :param features_dim: size of the features
    :param n_actions: number of actions
    :param net_arch: hidden layer sizes, may be empty
    :param activation_fn: activation of the hidden layers
    :param n_quantiles: number of quantiles
    :param kappa: Huber threshold of the loss
    :raises InvalidValue: fewer than one quantile, or kappa not positive
    """

    taus: th.Tensor

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        net_arch: list[int],
        activation_fn: type[nn.Module] = nn.ReLU,
        n_quantiles: int = 200,
        kappa: float = 1.0,
    ) -> None:
        super().__init__()
        self.n_quantiles = check_int("n_quantiles", n_quantiles, 1)
        self.kappa = check_number("kappa", kappa, 0.0, open_low=True)
        self.n_actions = n_actions
        self.hidden = mlp([features_dim, *net_arch], activation_fn)
        self.output = nn.Linear([features_dim, *net_arch][-1], n_actions * n_quantiles)
        self.register_buffer("taus", midpoint_taus(n_quantiles), persistent=False)

    def forward(self, features: th.Tensor) -> QuantileReturns:
        """
        :param features: ``(batch, features_dim)``
        """
        quantiles = self.output(self.hidden(features)).view(-1, self.n_actions, self.n_quantiles)
        return QuantileReturns(quantiles, self.taus, self.kappa)
