"""
Heads: from features to an estimate of the return of every action.

A head is a module; what it yields is a small object that knows the two things a train step needs, whatever the
representation: its loss against a target (``td_loss``) and the Bellman backup of itself (``backup``). Axis order is
``(batch, actions, atoms)`` everywhere. Hidden and output layers, plain, noisy or dueling, are the same for all heads:
:class:`~sbbatch.networks.action_layers.LayerSpec`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, Protocol

import numpy as np
import torch as th
import torch.nn.functional as F
from torch import nn

from sbbatch.arguments import Count, Positive, Within, checked
from sbbatch.errors import InvalidValue
from sbbatch.functional.distributions import (
    absolute_td_error,
    categorical_projection,
    cosine_features,
    midpoint_taus,
    quantile_huber_loss,
)
from sbbatch.networks.action_layers import LayerSpec
from sbbatch.networks.layers import Stochastic

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

    def td_error(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """
        Distance of the chosen actions from the target, in units of the return: the other thing priorities can be.

        :param actions: int64 ``(batch,)``
        :param target: constant ``(batch,)`` or ``(batch, atoms)``
        :return: ``(batch,)``, not negative
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

    def td_error(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_error`: ``|target - q|``."""
        return (target - _of_actions(self.q_values, actions)).abs()

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

    def td_error(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_error`: summed over own, averaged over target quantiles."""
        return absolute_td_error(_of_actions(self.quantiles, actions), target)

    def backup(self, policy: th.Tensor, bonus: th.Tensor, rewards: th.Tensor, discounts: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.backup`; the result is ``(batch, atoms)``."""
        value = (policy.unsqueeze(2) * (self.quantiles + bonus.unsqueeze(2))).sum(dim=1)  # (batch, atoms)
        return rewards.unsqueeze(1) + discounts.unsqueeze(1) * value


@dataclass(frozen=True)
class CategoricalReturns:
    """Return distributions as probabilities of fixed atoms."""

    logits: th.Tensor  # (batch, actions, atoms)
    support: th.Tensor  # (atoms,)

    @cached_property
    def probabilities(self) -> th.Tensor:
        """``(batch, actions, atoms)``."""
        return self.logits.softmax(dim=2)

    @property
    def q_values(self) -> th.Tensor:
        """Mean of each distribution, ``(batch, actions)``."""
        return self.probabilities @ self.support

    def td_loss(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_loss`: cross-entropy; ``target`` is ``(batch, atoms)``."""
        log_probabilities = _of_actions(self.logits, actions).log_softmax(dim=1)
        assert target.shape == log_probabilities.shape, f"target {target.shape} for {log_probabilities.shape}"
        return -(target * log_probabilities).sum(dim=1)

    def td_error(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_error`: distance of the two means."""
        return (target @ self.support - _of_actions(self.q_values, actions)).abs()

    def backup(self, policy: th.Tensor, bonus: th.Tensor, rewards: th.Tensor, discounts: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.backup`: the mixture over actions, projected onto the support."""
        atoms = rewards[:, None, None] + discounts[:, None, None] * (self.support + bonus.unsqueeze(2))
        mass = policy.unsqueeze(2) * self.probabilities
        return categorical_projection(atoms.flatten(1), mass.flatten(1), self.support)


class ImplicitQuantileReturns:
    """
    Return distributions as quantiles at sampled fractions, drawn when they are asked for: ``q_values``, ``td_loss`` and
    ``backup`` each have their own number of fractions and their own draw (Dabney et al. 2018b, Eq. 3), or share one
    draw if the head has ``n_policy_taus=None``.

    :param features: what the fractions are combined with ``(batch, features)``
    :param head: the head that combines them
    """

    def __init__(self, features: th.Tensor, head: ImplicitQuantileHead) -> None:
        self.features, self.head = features, head
        self._with_gradient = th.is_grad_enabled()

    def at(self, taus: th.Tensor) -> QuantileReturns:
        """
        :param taus: fractions ``(batch, n)``
        :return: the quantiles there
        """
        # Bootstraps ask inside `no_grad`, and may be the first to ask for a draw that the loss will share.
        with th.set_grad_enabled(self._with_gradient):
            return QuantileReturns(self.head.quantiles(self.features, taus), taus, self.head.kappa)

    @cached_property
    def _for_policy(self) -> QuantileReturns:
        n = self.head.n_policy_taus
        return self._for_loss if n is None else self.at(self.head.draw_taus(self.features, n))

    @cached_property
    def _for_loss(self) -> QuantileReturns:
        return self.at(self.head.draw_taus(self.features, self.head.n_taus))

    @cached_property
    def _for_target(self) -> QuantileReturns:
        shared = self.head.n_policy_taus is None
        return self._for_loss if shared else self.at(self.head.draw_taus(self.features, self.head.n_target_taus))

    @property
    def q_values(self) -> th.Tensor:
        """Mean over ``n_policy_taus`` quantiles, ``(batch, actions)``."""
        return self._for_policy.q_values

    def td_loss(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_loss`, at ``n_taus`` fractions."""
        return self._for_loss.td_loss(actions, target)

    def td_error(self, actions: th.Tensor, target: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.td_error`, at the fractions of the loss."""
        return self._for_loss.td_error(actions, target)

    def backup(self, policy: th.Tensor, bonus: th.Tensor, rewards: th.Tensor, discounts: th.Tensor) -> th.Tensor:
        """See :meth:`ReturnEstimate.backup`, at ``n_target_taus`` fractions."""
        return self._for_target.backup(policy, bonus, rewards, discounts)


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

    :param layers: hidden and output layers
    :param loss: ``"huber"`` (SB3, default) or ``"mse"`` (Dopamine)
    :param output_layernorm: a layer norm over the action values of a state, with a weight and a bias for each action:
        PQN-L and PQN-XL as their authors published them. It binds the values: before weight and bias, those of every
        state have mean 0 and variance 1
    """

    @checked
    def __init__(
        self, layers: LayerSpec, loss: Literal["huber", "mse"] = "huber", output_layernorm: bool = False
    ) -> None:
        super().__init__()
        self.elementwise_loss = LOSSES[loss]
        self.layers = layers.build(1)
        self.norm = nn.LayerNorm(layers.n_actions) if output_layernorm else nn.Identity()

    def forward(self, features: th.Tensor) -> ExpectedReturns:
        """
        :param features: ``(batch, features_dim)``
        """
        return ExpectedReturns(self.norm(self.layers(features).squeeze(2)), self.elementwise_loss)


class QuantileHead(nn.Module):
    """
    Quantiles at fixed midpoints (QR-DQN, Dabney et al. 2018a).

    :param layers: hidden and output layers
    :param n_quantiles: number of quantiles
    :param kappa: Huber threshold of the loss
    """

    taus: th.Tensor

    @checked
    def __init__(self, layers: LayerSpec, n_quantiles: Count = 200, kappa: Positive = 1.0) -> None:
        super().__init__()
        self.n_quantiles, self.kappa = n_quantiles, kappa
        self.layers = layers.build(n_quantiles)
        self.register_buffer("taus", midpoint_taus(n_quantiles), persistent=False)

    def forward(self, features: th.Tensor) -> QuantileReturns:
        """
        :param features: ``(batch, features_dim)``
        """
        return QuantileReturns(self.layers(features), self.taus, self.kappa)


class CategoricalHead(nn.Module):
    """
    Probabilities of atoms at equal distances (C51, Bellemare et al. 2017; Rainbow).

    :param layers: hidden and output layers
    :param n_atoms: number of atoms
    :param v_min: lowest atom, in units of the (clipped) return
    :param v_max: highest atom
    :raises InvalidValue: ``v_min`` not below ``v_max``
    """

    support: th.Tensor

    @checked
    def __init__(
        self, layers: LayerSpec, n_atoms: Annotated[int, Within(2)] = 51, v_min: float = -10.0, v_max: float = 10.0
    ) -> None:
        super().__init__()
        if v_min >= v_max:
            raise InvalidValue(f"v_min: got {v_min}, expected less than v_max = {v_max}")
        self.layers = layers.build(n_atoms)
        self.register_buffer("support", th.linspace(v_min, v_max, n_atoms), persistent=False)

    def forward(self, features: th.Tensor) -> CategoricalReturns:
        """
        :param features: ``(batch, features_dim)``
        """
        return CategoricalReturns(self.layers(features), self.support)


class ImplicitQuantileHead(Stochastic, nn.Module):
    """
    Quantiles at fractions drawn from U(0, 1) (IQN, Dabney et al. 2018b): the features are multiplied, before the last
    hidden layer, with a learned embedding of the fraction's cosines.

    Outside :func:`~sbbatch.networks.layers.stochastic` (evaluation, measurement) the fractions are the midpoints
    ``(i + 0.5) / n``, so that action values are deterministic.

    :param layers: hidden and output layers
    :param n_taus: fractions in the loss (the paper's N)
    :param n_target_taus: fractions in the target (N')
    :param n_policy_taus: fractions behind action values (K); None lets all three share one draw, as BTR does
    :param n_cosines: cosines of the embedding
    :param first_cosine: first multiple of pi in the cosines: 1 in Dopamine, 0 in the paper and in BTR; weights of the
        two cannot be exchanged, functions can
    :param kappa: Huber threshold of the loss
    :raises InvalidValue: a shared draw of two sizes
    """

    @checked
    def __init__(
        self,
        layers: LayerSpec,
        n_taus: Count = 64,
        n_target_taus: Count = 64,
        n_policy_taus: Count | None = 32,
        n_cosines: Count = 64,
        first_cosine: Annotated[int, Within(0, 1)] = 1,
        kappa: Positive = 1.0,
    ) -> None:
        super().__init__()
        if n_policy_taus is None and n_taus != n_target_taus:
            raise InvalidValue("n_policy_taus: None shares one draw, for which n_taus and n_target_taus must be equal")
        self.n_taus, self.n_target_taus, self.n_policy_taus = n_taus, n_target_taus, n_policy_taus
        self.first_cosine, self.kappa = first_cosine, kappa
        before, rest = layers.split()
        self.hidden = layers.hidden_layers(before)
        self.embedding = nn.Sequential(nn.Linear(n_cosines, rest.features_dim), nn.ReLU())
        self.layers = rest.build(1)
        self._rng: np.random.Generator | None = None

    def draw(self, rng: np.random.Generator) -> None:
        """See :class:`~sbbatch.networks.layers.Stochastic`."""
        self._rng = rng

    def still(self) -> None:
        """See :class:`~sbbatch.networks.layers.Stochastic`."""
        self._rng = None

    def draw_taus(self, features: th.Tensor, n: int) -> th.Tensor:
        """
        :param features: ``(batch, features)``
        :param n: how many fractions for each sample
        :return: ``(batch, n)``: random inside :func:`~sbbatch.networks.layers.stochastic`, midpoints outside
        """
        if self._rng is None:
            return midpoint_taus(n, features.device).expand(len(features), n)
        return th.from_numpy(self._rng.random((len(features), n), dtype=np.float32)).to(features.device)

    def quantiles(self, features: th.Tensor, taus: th.Tensor) -> th.Tensor:
        """
        :param features: ``(batch, features)``
        :param taus: fractions ``(batch, n)``
        :return: ``(batch, actions, n)``
        """
        n_cosines = self.embedding[0].in_features
        embedding = self.embedding(cosine_features(taus, int(n_cosines), self.first_cosine))  # type: ignore[arg-type]
        return self.layers(features.unsqueeze(1) * embedding).squeeze(3).transpose(1, 2)

    def forward(self, features: th.Tensor) -> ImplicitQuantileReturns:
        """
        :param features: ``(batch, features_dim)``
        """
        return ImplicitQuantileReturns(self.hidden(features), self)


HEADS: dict[str, type[nn.Module]] = {
    "expected": ExpectedHead,
    "categorical": CategoricalHead,
    "quantile": QuantileHead,
    "implicit": ImplicitQuantileHead,
}
