"""
What a network, its losses and its gradients look like: the quantities of the small-batch paper's Figure 11 and their
relatives, as functions of tensors. Two more are where adaptive batch sizes need them:
:func:`~sbbatch.functional.noise_scale.gradient_noise_scale` and
:func:`~sbbatch.functional.divergence.behavioral_divergence`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch as th

from sbbatch.functional.divergence import behavioral_divergence


def loss_variance(losses: th.Tensor) -> float:
    """
    Variance across updates of the mean loss of a batch. At fixed parameters it is the variance of single losses divided
    by the batch size; over a window of training it also holds the drift of the mean.

    :param losses: mean loss of each update ``(updates,)``, or the losses of its samples ``(updates, batch)``
    :return: unbiased (one degree of freedom less); NaN for fewer than two updates
    """
    means = losses if losses.ndim == 1 else losses.mean(dim=1)
    return means.double().var().item() if len(means) > 1 else float("nan")


def loss_sample_variance(losses: th.Tensor) -> float:
    """
    Variance of the losses within a batch, averaged over updates: what of the loss variance no batch size changes.

    :param losses: ``(updates, batch)``, at least two samples each
    """
    return losses.double().var(dim=1).mean().item()


def global_norm(tensors: Iterable[th.Tensor]) -> float:
    """
    Euclidean norm of several tensors as one vector, e.g. of the gradients of all parameters.

    :param tensors: of any shapes
    """
    return sum(tensor.detach().double().square().sum().item() for tensor in tensors) ** 0.5


def representation_norm(features: th.Tensor) -> float:
    """
    Mean over states of the Euclidean norm of their features.

    :param features: ``(states, ...)``
    """
    return features.flatten(1).norm(dim=1).mean().item()


def srank(features: th.Tensor, delta: float = 0.01) -> int:
    """
    Effective rank (Kumar et al. 2021): the least number of singular values, the largest first, whose share of the sum
    of all is at least ``1 - delta``. Features are not centered.

    :param features: ``(states, features)``
    :param delta: share that may be missing
    :return: 0 if all features are 0
    """
    values = th.linalg.svdvals(features)
    total = values.sum()
    return 0 if total == 0 else int((values.cumsum(dim=0) / total < 1 - delta).sum()) + 1


def mean_activations(activations: th.Tensor) -> th.Tensor:
    """
    Mean absolute activation of each unit. A channel of a convolution is one unit.

    :param activations: of a layer: ``(states, units)``, ``(states, channels, height, width)``, or
        ``(states, fractions, units)``, as behind implicit quantiles
    :return: ``(units,)``
    """
    last = activations.movedim(1, -1) if activations.ndim == 4 else activations
    return last.abs().flatten(0, -2).mean(dim=0)


def dormancy_scores(means: th.Tensor) -> th.Tensor:
    """
    How active each unit is beside the average one of its layer (Sokar et al. 2023).

    :param means: see :func:`mean_activations`
    :return: ``(units,)``, with mean 1
    """
    return means / (means.mean() + 1e-9)


def dormant_fraction(scores: Sequence[th.Tensor], tau: float = 0.0) -> float:
    """
    Share of the units of all layers together whose score is at most ``tau``.

    :param scores: of each layer, see :func:`dormancy_scores`
    :param tau: threshold
    :return: in [0, 1]
    """
    return (th.cat(list(scores)) <= tau).double().mean().item()


def greedy_disagreement(q_values: th.Tensor, others: th.Tensor) -> float:
    """
    Share of the states in which the greedy actions of two networks differ; of equal values the first counts. Before and
    after one gradient step it is the policy churn of Schaul et al. (2022).

    :param q_values: ``(states, actions)``
    :param others: likewise
    :return: in [0, 1]
    """
    return behavioral_divergence(q_values.argmax(dim=1), others.argmax(dim=1))


def parameter_distance(parameters: Iterable[th.Tensor], others: Iterable[th.Tensor]) -> float:
    """
    Euclidean distance of two networks in units of the norm of the second.

    :param parameters: of a network
    :param others: of the other, in the same order
    """
    pairs = list(zip(parameters, others, strict=True))
    return global_norm(one - other for one, other in pairs) / global_norm(other for _, other in pairs)
