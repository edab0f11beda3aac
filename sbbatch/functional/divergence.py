"""How much a policy changed: the signals behind the adaptive batch size."""

from __future__ import annotations

import torch as th


def behavioral_divergence(before: th.Tensor, after: th.Tensor) -> float:
    """
    Part of the states whose greedy action changed (Park 2026, "Behavioral Divergence").

    :param before: greedy actions before an update ``(states,)``
    :param after: greedy actions after it, in the same states ``(states,)``
    :return: in [0, 1]
    """
    assert before.shape == after.shape, f"{before.shape} actions before, {after.shape} after"
    return (before != after).double().mean().item()


def gaussian_kl(new_mean: th.Tensor, new_std: th.Tensor, old_mean: th.Tensor, old_std: th.Tensor) -> th.Tensor:
    """
    ``KL(new || old)`` of diagonal Gaussians, summed over dimensions: ABS's signal for continuous actions.

    :param new_mean: ``(states, dimensions)``
    :param new_std: the same shape, or one that broadcasts to it
    :param old_mean: ``(states, dimensions)``
    :param old_std: as ``new_std``
    :return: ``(states,)``
    """
    ratio = (new_std.square() + (new_mean - old_mean).square()) / (2 * old_std.square())
    return (th.log(old_std / new_std) + ratio - 0.5).sum(dim=-1)


def categorical_kl(new_logits: th.Tensor, old_logits: th.Tensor) -> th.Tensor:
    """
    ``KL(new || old)`` of categorical policies.

    :param new_logits: ``(states, actions)``
    :param old_logits: ``(states, actions)``
    :return: ``(states,)``
    """
    new, old = new_logits.log_softmax(dim=-1), old_logits.log_softmax(dim=-1)
    return (new.exp() * (new - old)).sum(dim=-1)
