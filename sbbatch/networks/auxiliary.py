"""Auxiliary losses: what a network learns beside the returns, from the same batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Protocol, runtime_checkable

import torch as th
import torch.nn.functional as F
from torch import nn

from sbbatch.arguments import Count, Within, checked
from sbbatch.networks.layers import NoisyLinear
from sbbatch.networks.torsos import ConvTorso, renormalized
from sbbatch.replay.batch import Observations, ReplayBatch


@runtime_checkable
class Auxiliary(Protocol):
    """A loss of each sample, and the module behind it, which is a part of the network: saved, trained and copied."""

    @property
    def n_following(self) -> int:
        """Steps after each transition that the replay buffer has to hand out."""

    def build(self, torso: nn.Module, head: nn.Module, n_actions: int) -> nn.Module | None:
        """The module of a network, which finds it as ``network.auxiliary``; None for none."""

    def __call__(self, online: Any, target: Any, batch: ReplayBatch) -> th.Tensor | float:
        """
        :param online: the network that learns
        :param target: the target network; no gradient may reach it
        :param batch: the replay batch, with ``n_following`` steps
        :return: ``(batch,)``; importance weights multiply it, priorities do not know it
        """


@dataclass(frozen=True)
class NoAuxiliary:
    """No auxiliary loss."""

    n_following = 0

    def build(self, torso: nn.Module, head: nn.Module, n_actions: int) -> None:
        """See :class:`Auxiliary`."""

    def __call__(self, online: Any, target: Any, batch: ReplayBatch) -> float:
        """See :class:`Auxiliary`."""
        return 0.0


@checked
@dataclass(frozen=True)
class SelfPrediction:
    """
    Self-predictive representations (Schwarzer et al. 2021): from the features of an observation and the next actions a
    transition model tells the features of the observations that follow. Both are compared after a projection, the first
    layer of the head without its noise and activation, by the squared distance of unit vectors::

        weight / steps * sum_k mask_k |p_k / |p_k| - y_k / |y_k||^2,    |...|^2 = 2 - 2 cos(p_k, y_k)

    with ``p_k`` from the online network and a linear prediction head, ``y_k`` from the target network. The mask is 0
    from the end of the episode on; the sum is divided by ``steps`` all the same.

    :param steps: k, observations that are predicted
    :param weight: of the loss; 5 over the mean of five steps is the paper's 2 over the sum of ``1 - cos``. 0 for none
    """

    steps: Count = 5
    weight: Annotated[float, Within(0.0)] = 5.0

    @property
    def n_following(self) -> int:
        """See :class:`Auxiliary`."""
        return self.steps if self.weight else 0

    def build(self, torso: nn.Module, head: nn.Module, n_actions: int) -> nn.Module | None:
        """See :class:`Auxiliary`."""
        return SelfPredictor(torso, _projection(torso, head).weight.shape[0], n_actions) if self.weight else None

    def __call__(self, online: Any, target: Any, batch: ReplayBatch) -> th.Tensor | float:
        """See :class:`Auxiliary`."""
        if not self.weight:
            return 0.0
        following = batch.following
        assert following is not None
        latents, predictions = _features(online, batch.observations), []
        for actions in following.actions.unbind(1):
            latents = online.auxiliary.transition(latents, actions)
            predictions.append(online.auxiliary.predictor(_projected(online, latents)))
        with th.no_grad():
            later = following.observations
            flat = {k: v.flatten(0, 1) for k, v in later.items()} if isinstance(later, dict) else later.flatten(0, 1)
            goals = _projected(target, _features(target, flat)).unflatten(0, following.mask.shape)
        distances = unit_distances(th.stack(predictions, dim=1), goals)  # (batch, steps)
        return self.weight * (following.mask * distances).mean(dim=1)


class SelfPredictor(nn.Module):
    """
    The transition model and the prediction head of :class:`SelfPrediction`.

    Maps are followed by two 3x3 convolutions, which see the action as one more map for each of them; features that are
    no maps by two linear layers as wide as they are.

    :param torso: the torso of the network
    :param projection_size: numbers in a projection
    :param n_actions: number of actions
    """

    def __init__(self, torso: nn.Module, projection_size: int, n_actions: int) -> None:
        super().__init__()
        self.n_actions, self.shape = n_actions, _shape_of_maps(torso)
        channels = self.shape[0]
        is_maps = len(self.shape) == 3

        def layer(n_in: int) -> nn.Module:
            return nn.Conv2d(n_in, channels, 3, padding=1) if is_maps else nn.Linear(n_in, channels)

        self.layers = nn.Sequential(layer(channels + n_actions), nn.ReLU(), layer(channels), nn.ReLU())
        self.predictor = nn.Linear(projection_size, projection_size)

    def transition(self, latents: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """
        :param latents: ``(batch, features)``
        :param actions: ``(batch,)`` int64
        :return: the latents after these actions ``(batch, features)``
        """
        one_hot = F.one_hot(actions, self.n_actions).to(latents.dtype)
        maps, size = latents.unflatten(1, self.shape), self.shape[1:]
        planes = one_hot.view(*one_hot.shape, *(1 for _ in size)).expand(*one_hot.shape, *size)
        return renormalized(self.layers(th.cat([maps, planes], dim=1)).flatten(1))


def unit_distances(first: th.Tensor, second: th.Tensor) -> th.Tensor:
    """Squared distances ``2 - 2 cos`` of vectors ``(..., n)`` made as long as one: ``(...,)`` in [0, 4]."""
    return (F.normalize(first, dim=-1) - F.normalize(second, dim=-1)).square().sum(dim=-1)


def _shape_of_maps(torso: nn.Module) -> tuple[int, ...]:
    """``(channels, height, width)`` of the last maps of a convolutional torso, or ``(features,)``."""
    if not (isinstance(torso, ConvTorso) and isinstance(torso.linear, nn.Identity)):
        return (int(torso.features_dim),)  # type: ignore[arg-type]
    maps = th.zeros(1, *torso._observation_space.shape)  # type: ignore[misc]
    with th.no_grad():
        for module in torso.cnn:
            if isinstance(module, nn.Flatten):
                break
            maps = module(maps)
    return tuple(maps.shape[1:])


def _projection(torso: nn.Module, head: nn.Module) -> nn.Linear | NoisyLinear:
    """The first layer of a head that sees the features."""
    layers = (layer for layer in head.modules() if isinstance(layer, (nn.Linear, NoisyLinear)))
    return next(layer for layer in layers if layer.weight.shape[1] == torso.features_dim)


def _projected(network: Any, latents: th.Tensor) -> th.Tensor:
    layer = _projection(network.features_extractor, network.head)
    return F.linear(latents, layer.weight, layer.bias)


def _features(network: Any, observations: Observations) -> th.Tensor:
    return network.extract_features(observations, network.features_extractor)


AUXILIARIES: dict[str, type[Auxiliary]] = {"none": NoAuxiliary, "self_prediction": SelfPrediction}
