"""The multi-skip residual network: the torso of PQN-L and PQN-XL."""

from __future__ import annotations

import torch as th
from gymnasium import spaces
from torch import nn

from sbbatch.arguments import Count, Natural, checked
from sbbatch.networks.torsos import ConvTorso, check_images, nature_convolutions


class SkipBlock(nn.Module):
    """
    ``relu(h + LN(W2 relu(LN(W1 h)))) + g``: a residual block, after whose activation the features ``g`` from before
    the first block are added once more.

    :param size: number of features, in and out
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, size), nn.LayerNorm(size), nn.ReLU(), nn.Linear(size, size), nn.LayerNorm(size)
        )

    def forward(self, hidden: th.Tensor, first: th.Tensor) -> th.Tensor:
        """
        :param hidden: features of the block before ``(batch, size)``
        :param first: features from before the first block ``(batch, size)``
        :return: ``(batch, size)``
        """
        return th.relu(hidden + self.layers(hidden)) + first


class MultiSkip(nn.Module):
    """
    A linear layer with layer norm and no activation, and blocks that each see its output again.

    :param in_features: size of the input
    :param size: number of features
    :param n_blocks: number of blocks
    """

    def __init__(self, in_features: int, size: int, n_blocks: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(in_features, size), nn.LayerNorm(size))
        self.blocks = nn.ModuleList(SkipBlock(size) for _ in range(n_blocks))

    def forward(self, inputs: th.Tensor) -> th.Tensor:
        """
        :param inputs: ``(batch, in_features)``
        :return: ``(batch, size)``
        """
        hidden = first = self.first(inputs)
        for block in self.blocks:
            hidden = block(hidden, first)
        return hidden


class MultiSkipCNN(ConvTorso):
    """
    The larger networks of Adaptive Batch Scaling's authors: the Nature convolutions at twice the width, each with a
    layer norm over its whole maps (:class:`~sbbatch.networks.layer_norm.ImageLayerNorm`, ``"chw"``), and
    :class:`MultiSkip` on the flattened maps (6,272 numbers at 84x84). Five blocks are PQN-L, ten PQN-XL.

    Its layers never move into the head (see :class:`~sbbatch.networks.value_policy.ValuePolicy`): in noisy networks
    only what ``net_arch`` adds and the output are noisy.

    :param observation_space: images ``(channels, height, width)``, uint8
    :param features_dim: number of features, of every block too
    :param normalized_image: skip the check of dtype and bounds; set by ``normalize_images=False``
    :param n_blocks: number of blocks, 0 for none
    :raises InvalidValue: not an image space, or a size that is too small
    """

    hidden_size = None

    @checked
    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: Count = 512,
        normalized_image: bool = False,
        n_blocks: Natural = 5,
    ) -> None:
        n_channels, size = check_images(observation_space, normalized_image), features_dim
        cnn = nature_convolutions(n_channels, width=2)
        super().__init__(observation_space, cnn, size, "chw", lambda n_flatten: MultiSkip(n_flatten, size, n_blocks))
