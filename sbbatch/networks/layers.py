"""Small building blocks shared by torsos and heads."""

from __future__ import annotations

from itertools import pairwise

import torch as th
import torch.nn.functional as F
from torch import nn


class SameConv2d(nn.Conv2d):
    """
    Convolution with the SAME padding of Flax and TensorFlow: the output has ``ceil(size / stride)`` pixels, and an odd
    total padding puts the extra pixel at the right and at the bottom. PyTorch's own ``padding="same"`` knows no stride.
    """

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: maps ``(batch, channels, height, width)``
        :return: maps ``(batch, out_channels, ceil(height / stride), ceil(width / stride))``
        """
        pads: list[int] = []
        for size, kernel, stride in zip(inputs.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]  # F.pad wants the last dimension first
        return super().forward(F.pad(inputs, pads))


def mlp(sizes: list[int], activation_fn: type[nn.Module]) -> nn.Sequential:
    """
    Linear layers with an activation after each of them.

    :param sizes: input size, then the size of each layer
    :param activation_fn: activation class
    """
    modules: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        modules += [nn.Linear(n_in, n_out), activation_fn()]
    return nn.Sequential(*modules)
