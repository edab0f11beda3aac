"""Torsos: from observations to features. SB3 calls them features extractors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from torch import nn

from sbbatch.arguments import Count, checked
from sbbatch.errors import InvalidValue, describe_space
from sbbatch.networks.layer_norm import LAYER_NORMS, LayerNorm, normalized_convolutions
from sbbatch.networks.layers import PatchConv2d, SameConv2d

_SMALLEST_IMAGE = 36  # pixels of a side, for the convolutions of the Nature DQN


class ConvTorso(BaseFeaturesExtractor):
    """
    Convolutions, and a linear layer with ReLU after them unless ``features_dim`` is None; then the features are the
    flattened maps, and the hidden layer belongs to the head (``net_arch``), where it can be noisy, be split by dueling,
    or see the fractions of implicit quantiles.

    Weights and maps are kept channels-last, which is faster on CPUs; values stay the same up to float rounding.

    :param observation_space: images ``(channels, height, width)``, uint8
    :param cnn: the convolutions, flattened at the end
    :param features_dim: size of the linear layer, None for none
    :param layer_norm: mode of the :class:`~sbbatch.networks.layer_norm.ImageLayerNorm` after each convolution, and
        whether the linear layer has a layer norm; None for none
    :param dense: from the size of the flattened maps to other layers in place of the linear one
    :raises InvalidValue: images too small for the convolutions, or an unknown mode
    """

    hidden_size: int | None = 512  # of the linear layer, wherever it is; None if it cannot move into the head

    @checked
    def __init__(
        self,
        observation_space: spaces.Space,
        cnn: nn.Sequential,
        features_dim: Count | None,
        layer_norm: LayerNorm | None = None,
        dense: Callable[[int], nn.Module] | None = None,
    ) -> None:
        assert observation_space.shape is not None
        image = th.zeros(1, *observation_space.shape)
        with th.no_grad():
            try:
                cnn = cnn if layer_norm is None else normalized_convolutions(cnn, image, layer_norm)
                n_flatten = cnn(image).shape[1]
            except RuntimeError:
                raise InvalidValue(
                    f"{type(self).__name__}: images of {describe_space(observation_space)} are too small for its "
                    "convolutions; give another features_extractor_class, e.g. MinAtarCNN"
                ) from None
        super().__init__(observation_space, n_flatten if features_dim is None else features_dim)
        self.cnn = cnn.to(memory_format=th.channels_last)  # type: ignore[call-overload]
        self.linear = _dense(n_flatten, features_dim, layer_norm) if dense is None else dense(n_flatten)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: float images ``(batch, channels, height, width)``
        :return: features ``(batch, features_dim)``
        """
        return self.linear(self.cnn(observations.contiguous(memory_format=th.channels_last)))

    def apply(self, fn: Callable[[nn.Module], None]) -> ConvTorso:
        """As any module's, but on plain weights: PyTorch's orthogonal initializer, SB3's, cannot write to others."""
        self.cnn.to(memory_format=th.contiguous_format)
        super().apply(fn)
        self.cnn.to(memory_format=th.channels_last)
        return self


def _dense(n_flatten: int, features_dim: int | None, layer_norm: LayerNorm | None) -> nn.Module:
    if features_dim is None:
        return nn.Identity()
    norm = [] if layer_norm is None else [nn.LayerNorm(features_dim, eps=LAYER_NORMS[layer_norm])]
    return nn.Sequential(nn.Linear(n_flatten, features_dim), *norm, nn.ReLU())


def check_images(observation_space: spaces.Space, normalized_image: bool) -> int:
    """The number of channels of an image space; ``normalized_image`` skips the check of dtype and bounds."""
    if not is_image_space(observation_space, check_channels=False, normalized_image=normalized_image):
        raise InvalidValue(
            f"CnnPolicy: got observations {describe_space(observation_space)}, expected images (3 dimensions, "
            "uint8, 0 to 255); for vectors use MlpPolicy, for dictionaries MultiInputPolicy, for float images in "
            "[0, 1] pass policy_kwargs=dict(normalize_images=False)"
        )
    assert observation_space.shape is not None
    return observation_space.shape[0]


def nature_convolutions(n_channels: int, width: int, conv: type[nn.Conv2d] = nn.Conv2d) -> nn.Sequential:
    """The convolutions of the Nature DQN, flattened, with ``width`` times the channels."""
    first, second = 32 * width, 64 * width
    sizes = [(n_channels, first, 8, 4), (first, second, 4, 2), (second, second, 3, 1)]
    return nn.Sequential(*(layer for size in sizes for layer in (conv(*size), nn.ReLU())), nn.Flatten())


def renormalized(latents: th.Tensor) -> th.Tensor:
    """Features ``(batch, features)`` scaled to [0, 1) in each sample: ``(x - min) / (max - min + 1e-5)``."""
    low, high = latents.aminmax(dim=1, keepdim=True)
    return (latents - low) / (high - low + 1e-5)


class Renormalize(nn.Module):
    """:func:`renormalized` as a layer."""

    def forward(self, latents: th.Tensor) -> th.Tensor:
        """
        :param latents: ``(batch, features)``
        """
        return renormalized(latents)


class NatureCNN(ConvTorso):
    """
    The convolutional network of the Nature DQN (Mnih et al. 2015), in two paddings and at any width.

    With ``padding="valid"`` it is SB3's ``NatureCNN`` (3,136 features before the linear layer at 84x84); ``"same"`` is
    the torso of Dopamine's JAX agents, which the small-batch paper ran (7,744 features). ``width=4`` is that paper's
    CNNx4 (Fig. 2): four times the channels, the hidden layer unchanged. (The paper does not say whether it widened the
    hidden layer as well.)

    :param observation_space: images ``(channels, height, width)``, uint8
    :param features_dim: size of the linear layer; None for none, see :class:`ConvTorso`
    :param normalized_image: skip the check of dtype and bounds; set by ``normalize_images=False``
    :param padding: ``"valid"`` or ``"same"``
    :param width: factor of the channels 32, 64, 64
    :param layer_norm: None; ``"chw"`` or ``"channel"`` for a layer norm between every linear map and its ReLU, see
        :class:`~sbbatch.networks.layer_norm.ImageLayerNorm`: the networks of PQN. Where ``features_dim`` is None, the
        hidden layer has one if the policy says so (``layer_norm=True``)
    :param renormalize: scale the flattened maps of each image to [0, 1] (SPR)
    :raises InvalidValue: not an image space, an unknown padding or layer norm, or a size below 1
    """

    @checked
    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: Count | None = 512,
        normalized_image: bool = False,
        padding: Literal["valid", "same"] = "valid",
        width: Count = 1,
        layer_norm: LayerNorm | None = None,
        renormalize: bool = False,
    ) -> None:
        n_channels = check_images(observation_space, normalized_image)
        cnn = nature_convolutions(n_channels, width, nn.Conv2d if padding == "valid" else SameConv2d)
        if renormalize:
            cnn.append(Renormalize())
        super().__init__(observation_space, cnn, features_dim, layer_norm)


class MinAtarCNN(ConvTorso):
    """
    The network of MinAtar (Young and Tian 2019): one convolution 3x3 with 16 channels and a linear layer of 128, for
    images of 10x10 pixels.

    :param observation_space: images ``(channels, height, width)``, uint8
    :param features_dim: size of the linear layer; None for none, see :class:`ConvTorso`
    :param normalized_image: skip the check of dtype and bounds; set by ``normalize_images=False``
    :param layer_norm: see :class:`NatureCNN`
    :raises InvalidValue: not an image space, or an unknown layer norm
    """

    hidden_size = 128

    @checked
    def __init__(
        self,
        observation_space: spaces.Space,
        features_dim: Count | None = 128,
        normalized_image: bool = False,
        layer_norm: LayerNorm | None = None,
    ) -> None:
        n_channels = check_images(observation_space, normalized_image)
        cnn = nn.Sequential(PatchConv2d(n_channels, 16, 3, 1), nn.ReLU(), nn.Flatten())
        super().__init__(observation_space, cnn, features_dim, layer_norm)


class DataEfficientCNN(ConvTorso):
    """
    The convolutions of data-efficient Rainbow (van Hasselt et al. 2019): twice 5x5 with stride 5, 32 and 64 channels,
    which leave 576 features of 84x84 pixels; hidden layers have 256 units.

    :param observation_space: images ``(channels, height, width)``, uint8
    :param features_dim: size of the linear layer; None for none, see :class:`ConvTorso`
    :param normalized_image: skip the check of dtype and bounds; set by ``normalize_images=False``
    :raises InvalidValue: not an image space
    """

    hidden_size = 256

    @checked
    def __init__(
        self, observation_space: spaces.Space, features_dim: Count | None = 256, normalized_image: bool = False
    ) -> None:
        n_channels = check_images(observation_space, normalized_image)
        first, second = nn.Conv2d(n_channels, 32, 5, 5), nn.Conv2d(32, 64, 5, 5)
        super().__init__(
            observation_space, nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten()), features_dim
        )


class DictTorso(CombinedExtractor):
    """
    SB3's ``CombinedExtractor``, which makes a Nature CNN for every image of a dictionary; an image that is too small
    for its convolutions (below 36 pixels) is read as a vector instead.

    :param observation_space: dictionary
    :param cnn_output_dim: features of each CNN
    :param normalized_image: skip the check of dtype and bounds; set by ``normalize_images=False``
    """

    def __init__(
        self, observation_space: spaces.Dict, cnn_output_dim: int = 256, normalized_image: bool = False
    ) -> None:
        parts = {key: _as_vector_if_small(part, normalized_image) for key, part in observation_space.spaces.items()}
        super().__init__(spaces.Dict(parts), cnn_output_dim, normalized_image)


def _as_vector_if_small(space: spaces.Space, normalized_image: bool) -> spaces.Space:
    is_image = is_image_space(space, check_channels=False, normalized_image=normalized_image)
    if is_image and space.shape is not None and min(space.shape[1:]) < _SMALLEST_IMAGE:
        return spaces.Box(-np.inf, np.inf, (math.prod(space.shape),))
    return space
