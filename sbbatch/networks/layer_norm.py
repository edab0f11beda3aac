"""Layer normalisation of images (Ba et al. 2016), between every linear map and its activation, as in PQN."""

from __future__ import annotations

from typing import Literal

import torch as th
from torch import nn

from sbbatch.arguments import checked

LayerNorm = Literal["chw", "channel"]  # what is normalised together
LAYER_NORMS: dict[LayerNorm, float] = {"chw": 1e-5, "channel": 1e-6}  # epsilon of the source


class ImageLayerNorm(nn.LayerNorm):
    """
    Layer normalisation of maps, in the two forms that PQN is published with. They are different functions, not two
    parameterisations of one:

    - ``"chw"``: every map of a sample together, with a weight and a bias for each of its numbers and eps 1e-5, as
      ``nn.LayerNorm([channels, height, width])`` (CleanRL's ``pqn_atari_envpool.py``, the authors of Adaptive Batch
      Scaling);
    - ``"channel"``: the channels of each pixel apart, with a weight and a bias for each channel and eps 1e-6, as Flax
      does (purejaxql, Gallici et al. 2025).

    It runs on ``(batch, height, width, channels)``, which is how channels-last maps lie in memory, and so copies
    nothing; PyTorch's own layer would copy such maps, and takes three to five times as long. For ``"chw"`` weight and
    bias therefore have the shape ``(height, width, channels)``.

    :param shape: channels, height and width of the maps
    :param mode: ``"chw"`` or ``"channel"``
    """

    @checked
    def __init__(self, shape: tuple[int, int, int], mode: LayerNorm) -> None:
        channels, height, width = shape
        super().__init__((height, width, channels) if mode == "chw" else (channels,), eps=LAYER_NORMS[mode])

    def forward(self, maps: th.Tensor) -> th.Tensor:
        """
        :param maps: ``(batch, channels, height, width)``, fastest in channels-last memory
        :return: the same shape, in channels-last memory
        """
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@th.no_grad()
def normalized_convolutions(cnn: nn.Sequential, maps: th.Tensor, mode: LayerNorm) -> nn.Sequential:
    """Convolutions with a layer norm after each, whose size an example of the input ``maps`` tells."""
    layers: list[nn.Module] = []
    for layer in cnn:
        layers.append(layer)
        maps = layer(maps)
        if isinstance(layer, nn.Conv2d):
            _, channels, height, width = maps.shape
            layers.append(ImageLayerNorm((channels, height, width), mode))
    return nn.Sequential(*layers)
