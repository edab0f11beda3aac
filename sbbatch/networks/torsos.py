"""Torsos: from observations to features. SB3 calls them features extractors."""

from __future__ import annotations

import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import nn

from sbbatch.errors import InvalidValue, describe_space, did_you_mean
from sbbatch.networks.layers import SameConv2d

PADDINGS = ("valid", "same")


class NatureCNN(SB3NatureCNN):
    """
    The convolutional network of the Nature DQN (Mnih et al. 2015), in two paddings.

    With ``padding="valid"`` it is SB3's ``NatureCNN`` (3,136 features before the linear layer at 84x84); ``"same"`` is
    the torso of Dopamine's JAX agents, which the small-batch paper ran (7,744 features). Weights and maps are kept
    channels-last, which is faster on CPUs; values agree with SB3's to float rounding.

    :param observation_space: images ``(channels, height, width)``, uint8
    :param features_dim: size of the linear layer
    :param normalized_image: skip the check of dtype and bounds; set by ``normalize_images=False``
    :param padding: ``"valid"`` or ``"same"``
    :raises InvalidValue: not an image space, or an unknown padding
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int = 512,
        normalized_image: bool = False,
        padding: str = "valid",
    ) -> None:
        if not is_image_space(observation_space, check_channels=False, normalized_image=normalized_image):
            raise InvalidValue(
                f"CnnPolicy: got observations {describe_space(observation_space)}, expected images (3 dimensions, "
                "uint8, 0 to 255); for vectors use MlpPolicy, for dictionaries MultiInputPolicy, for float images in "
                "[0, 1] pass policy_kwargs=dict(normalize_images=False)"
            )
        if padding not in PADDINGS:
            raise InvalidValue(f"padding: got {padding!r}{did_you_mean(str(padding), PADDINGS)}")
        super().__init__(observation_space, features_dim, normalized_image)
        if padding == "same":
            self._use_same_padding(observation_space)
        self.cnn.to(memory_format=th.channels_last)  # type: ignore[call-overload]

    def _use_same_padding(self, observation_space: spaces.Box) -> None:
        for index, module in enumerate(self.cnn):
            if isinstance(module, nn.Conv2d):
                kernel_size, stride = module.kernel_size[0], module.stride[0]  # all squares
                self.cnn[index] = SameConv2d(module.in_channels, module.out_channels, kernel_size, stride)
        with th.no_grad():
            n_flatten = self.cnn(th.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(n_flatten, self.features_dim), nn.ReLU())

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        :param observations: float images ``(batch, channels, height, width)``
        :return: features ``(batch, features_dim)``
        """
        return super().forward(observations.contiguous(memory_format=th.channels_last))
