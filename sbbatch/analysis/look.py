"""Looking into the network of an agent of ours, or of SB3's DQN and sb3-contrib's QR-DQN, without changing anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
import torch.nn.functional as F
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn
from torch.overrides import TorchFunctionMode

from sbbatch.agents.base.measuring import CHUNK, in_parts, undisturbed
from sbbatch.analysis.diagnostics import dormancy_scores, mean_activations, representation_norm
from sbbatch.batch.protocol import BatchScalable
from sbbatch.errors import InvalidType
from sbbatch.functional.divergence import behavioral_divergence
from sbbatch.replay.newest import newest_transitions, observations_at

_RECENT = 8192  # transitions that states are drawn from, as for agents of ours
_ACTIVATIONS = {
    *(F.relu, F.leaky_relu, F.elu, F.selu, F.gelu, F.silu, F.softplus),
    *(th.relu, th.tanh, th.sigmoid, th.Tensor.relu, th.Tensor.tanh, th.Tensor.sigmoid),
}


class Activations(TorchFunctionMode):
    """
    Keeps what every activation function returns inside of the block, wherever a network calls it: in modules and in
    plain functions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[th.Tensor] = []  # in the order of the calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in _ACTIVATIONS:
            self.outputs.append(output.detach().clone())  # a later layer may work in place
        return output


@dataclass(frozen=True)
class Features:
    """
    What a network makes of some states.

    :param norm: mean over states of the norm of their representation: the output of the last convolution, after its
        activation, or of the last hidden layer where there is no convolution
    :param last_hidden: output of the last hidden layer ``(states, units)``; behind implicit quantiles the mean over
        their fractions
    :param dormancy: scores of each layer that has an activation, see
        :func:`~sbbatch.analysis.diagnostics.dormancy_scores`
    """

    norm: float
    last_hidden: th.Tensor
    dormancy: list[th.Tensor]


def features_of(model: BaseAlgorithm, observations: PyTorchObs) -> Features | None:
    """
    :param model: the agent
    :param observations: states, as its networks take them
    :return: None if the network has no activations
    """
    hidden: list[th.Tensor] = []
    sums: list[th.Tensor] = []  # of the activations of each layer
    norm, n_states = 0.0, 0
    for part in in_parts(observations):
        with Activations() as seen:
            behavior_of(model, part)
        if not seen.outputs:
            return None
        convolved = [output for output in seen.outputs if output.ndim == 4]
        last = seen.outputs[-1]
        last = last.mean(dim=1) if last.ndim == 3 else last.flatten(1)
        hidden.append(last)
        norm += len(last) * representation_norm(convolved[-1] if convolved else last)
        means = [len(last) * mean_activations(output) for output in seen.outputs]
        sums = [old + new for old, new in zip(sums, means, strict=True)] if sums else means
        n_states += len(last)
    return Features(norm / n_states, th.cat(hidden), [dormancy_scores(one / n_states) for one in sums])


def behavior_of(model: Any, observations: PyTorchObs) -> tuple[th.Tensor, ...]:
    """What the agent does in some states, without noise: greedy actions ``(states,)``, or PPO's distributions."""
    if isinstance(model, BatchScalable):
        return model.behavior(observations)
    return (q_values(model, observations).argmax(dim=1),)


def divergence_of(model: Any, before: tuple[th.Tensor, ...], after: tuple[th.Tensor, ...]) -> float:
    """Part of the states whose greedy action changed, or for PPO the KL divergence of the new policy from the old."""
    if isinstance(model, BatchScalable):
        return model.divergence(before, after)
    return behavioral_divergence(before[0], after[0])


def network_of(model: Any, target: bool = False) -> nn.Module | None:
    """The network of action values, or its target network; None if there is none."""
    suffix = "_target" if target else ""
    networks = (getattr(model, name + suffix, None) for name in ("q_net", "quantile_net"))
    return next((network for network in networks if isinstance(network, nn.Module)), None)


def q_values(model: BaseAlgorithm, observations: PyTorchObs, target: bool = False) -> th.Tensor:
    """
    Action values in evaluation mode, without noise.

    :param model: an agent that has them
    :param observations: states
    :param target: those of the target network
    :return: ``(states, actions)``
    """
    network = network_of(model, target)
    assert network is not None
    with undisturbed(model.policy):
        values = th.cat([network(part) for part in in_parts(observations, CHUNK)])
    return values.mean(dim=1) if values.ndim == 3 else values  # quantiles of sb3-contrib: (states, quantiles, actions)


def some_states(model: Any, n_states: int, rng: np.random.Generator) -> PyTorchObs:
    """
    States without replacement from the newest transitions, or from the present rollout.

    :param model: the agent
    :param n_states: how many, or as many as there are
    :param rng: to draw with
    :raises InvalidType: neither an agent of ours nor one with action values and a replay buffer
    """
    if isinstance(model, BatchScalable):
        return model.probe_observations(n_states, rng)
    buffer = getattr(model, "replay_buffer", None)
    if network_of(model) is None or buffer is None:
        raise InvalidType(f"analysis metrics: {type(model).__name__} has no action values; use an agent of sbbatch")
    newest = newest_transitions(buffer, min(buffer.size(), -(-_RECENT // model.n_envs)))
    chosen = rng.choice(newest, size=min(n_states, len(newest)), replace=False)
    return observations_at(buffer, chosen, model._vec_normalize_env)


def before_sync(model: Any) -> bool:
    """Whether the target network is synchronised right after the present vector step; False if there is none."""
    if network_of(model, target=True) is None:
        return False
    interval = max(model.target_update_interval // model.n_envs, 1)
    return (model._n_calls + 1) % interval == 0


class GradientNorm:
    """
    Norm of the gradient of the next backward pass over all parameters, as it is before clipping: taken when the
    gradients are made.

    :param parameters: of the optimizer
    """

    def __init__(self, parameters: Iterable[th.Tensor]) -> None:
        self._norms: list[th.Tensor] = []
        self._handles = [one.register_post_accumulate_grad_hook(self.note) for one in parameters]

    def note(self, parameter: th.Tensor) -> None:
        """Called when the gradient of a parameter is there."""
        if parameter.grad is not None:
            self._norms.append(th.linalg.vector_norm(parameter.grad))

    def take(self) -> float:
        """The norm; NaN if there was no backward pass."""
        for handle in self._handles:
            handle.remove()
        return th.linalg.vector_norm(th.stack(self._norms)).item() if self._norms else float("nan")
