"""The Impala residual network as a torso."""

from __future__ import annotations

import torch as th
from gymnasium import spaces
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm as add_spectral_norm

from sbbatch.arguments import Count, checked
from sbbatch.networks.torsos import ConvTorso, check_images

CHANNELS = (16, 32, 32)


class ResidualBlock(nn.Module):
    """
    ``x + conv(relu(conv(relu(x))))`` with two 3x3 convolutions.

    :param n_channels: channels in and out
    :param spectral_norm: divide both kernels by their largest singular value; its power iteration runs in forwards in
        training mode only
    """

    is_residual_block = True

    def __init__(self, n_channels: int, spectral_norm: bool = False) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(n_channels, n_channels, 3, padding=1) for _ in range(2))
        if spectral_norm:
            add_spectral_norm(self.first)
            add_spectral_norm(self.second)

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: maps ``(batch, channels, height, width)``
        """
        return inputs + self.second(th.relu(self.first(th.relu(inputs))))


class ImpalaCNN(ConvTorso):
    """
    Impala's residual network (Espeholt et al. 2018): three stacks of a 3x3 convolution, a 3x3 max-pool of stride 2 and
    two residual blocks, with 16, 32 and 32 channels times ``width``. ``width=1`` is the larger network of the
    small-batch paper (Fig. 2); ``width=2, pool=6, spectral_norm=True`` is BTR's torso.

    Deviation from Dopamine: the max-pools of even maps pad one pixel on the left and the top, Flax on the right and the
    bottom; a shift by one pixel.

    :param observation_space: images ``(channels, height, width)``, uint8
    :param features_dim: size of the linear layer; None (default) for none, see
        :class:`~sbbatch.networks.torsos.ConvTorso`
    :param normalized_image: skip the check of dtype and bounds; set by ``normalize_images=False``
    :param width: factor of the channels
    :param pool: side of an adaptive max-pool after the last stack, None for none
    :param spectral_norm: normalise the convolutions of the residual blocks, and no others (Clark et al. 2025)
    :raises InvalidValue: not an image space, or a size below 1
    """

    @checked
    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: Count | None = None,
        normalized_image: bool = False,
        width: Count = 1,
        pool: Count | None = None,
        spectral_norm: bool = False,
    ) -> None:
        n_channels = check_images(observation_space, normalized_image)
        layers: list[nn.Module] = []
        for channels in CHANNELS:
            layers += [nn.Conv2d(n_channels, channels * width, 3, padding=1), nn.MaxPool2d(3, 2, padding=1)]
            layers += [ResidualBlock(channels * width, spectral_norm) for _ in range(2)]
            n_channels = channels * width
        layers.append(nn.ReLU())
        if pool is not None:
            layers.append(nn.AdaptiveMaxPool2d(pool))
        super().__init__(observation_space, nn.Sequential(*layers, nn.Flatten()), features_dim)
