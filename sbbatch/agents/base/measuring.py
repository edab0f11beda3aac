"""Looking at an agent without changing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

CHUNK = 256  # states that go through the network at once


@contextmanager
def undisturbed(policy: BasePolicy) -> Iterator[None]:
    """Evaluation mode, without gradients, and afterwards as it was."""
    training = policy.training
    policy.set_training_mode(False)
    try:
        with th.no_grad():
            yield
    finally:
        policy.set_training_mode(training)


@contextmanager
def streams_kept(device: th.device, generators: Sequence[np.random.Generator] = ()) -> Iterator[None]:
    """What PyTorch, NumPy and further generators draw inside, they draw again afterwards."""
    states, state_of_numpy = [one.bit_generator.state for one in generators], np.random.get_state()
    try:
        with th.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(state_of_numpy)
        for generator, state in zip(generators, states, strict=True):
            generator.bit_generator.state = state


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """What a torso counts inside, such as batch norm's running means, it has not seen afterwards."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with th.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)


def at(stored: Any, where: Any) -> Any:
    """What is there, in an array or in each of a dictionary of them."""
    return {key: part[where] for key, part in stored.items()} if isinstance(stored, dict) else stored[where]


def in_parts(observations: PyTorchObs, size: int = CHUNK) -> Iterator[PyTorchObs]:
    """A batch of observations, ``size`` at a time."""
    if not isinstance(observations, dict):
        yield from observations.split(size)
        return
    parts = {key: value.split(size) for key, value in observations.items()}
    for values in zip(*parts.values(), strict=True):
        yield dict(zip(parts, values, strict=True))


def flat_gradient(loss: th.Tensor, network: nn.Module) -> th.Tensor:
    """The gradient ``(parameters,)`` of a loss; that of the last update stays where it is."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return th.cat([part.reshape(-1) for part in th.autograd.grad(loss, parameters)])
