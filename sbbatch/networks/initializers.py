"""
First weights of the papers' networks. Each function takes a whole network and changes its convolutions and plain linear
layers; noisy layers keep their own initialisation (Fortunato et al. 2018). Without one of them, PyTorch's defaults
stay, as in SB3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch as th
from torch import nn
from torch.nn.utils import parametrize

Initializer = Callable[[nn.Module], None]


def glorot_uniform(network: nn.Module) -> None:
    """Uniform within ``sqrt(6 / (fan_in + fan_out))``, zero biases: Dopamine's DQN, full Rainbow, DrQ and SPR."""
    _initialize(network, nn.init.xavier_uniform_)


def variance_scaling(network: nn.Module) -> None:
    """
    Uniform within ``3^(1/4) / sqrt(fan_in)``, zero biases: Dopamine's C51, compact Rainbow, QR-DQN and IQN (Flax's
    variance scaling with scale ``1 / sqrt(3)``).
    """

    def fill(weight: th.Tensor) -> th.Tensor:
        bound = 3**0.25 / weight[0].numel() ** 0.5
        return nn.init.uniform_(weight, -bound, bound)

    _initialize(network, fill)


def orthogonal(network: nn.Module) -> None:
    """Orthogonal with gain ``sqrt(2)`` on every layer, the output included, zero biases: PQN in CleanRL and ABS."""

    def fill(weight: th.Tensor) -> th.Tensor:
        # PyTorch's function needs contiguous memory, and convolutions are kept channels-last.
        contiguous = th.empty_like(weight, memory_format=th.contiguous_format)
        with th.no_grad():
            return weight.copy_(nn.init.orthogonal_(contiguous, gain=2**0.5))

    _initialize(network, fill)


def impala(network: nn.Module) -> None:
    """
    Dopamine's Impala agents: :func:`glorot_uniform`, but LeCun normal (truncated at two standard deviations) in the
    residual blocks.
    """
    glorot_uniform(network)
    for module in network.modules():
        if getattr(module, "is_residual_block", False):
            _initialize(module, _lecun_normal)


def _lecun_normal(weight: th.Tensor) -> th.Tensor:
    # 0.8796 is the standard deviation of a normal cut off at two: Flax divides by it, too.
    deviation = weight[0].numel() ** -0.5 / 0.87962566103423978
    return nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)


def _initialize(network: nn.Module, fill: Callable[[th.Tensor], th.Tensor]) -> None:
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            if parametrize.is_parametrized(module, "weight"):  # spectral norm
                fill(module.parametrizations.weight.original)  # type: ignore[union-attr, arg-type]
            else:
                fill(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


INITIALIZERS: dict[str, Initializer] = {
    function.__name__: function for function in (glorot_uniform, variance_scaling, orthogonal, impala)
}
