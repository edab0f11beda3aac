"""Numbered observations, which may begin at any number in the environment and begin at 0 in a network."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor


class CountsFromZero(BaseModel):
    """
    Subtracts ``start`` from ``Discrete`` and ``MultiDiscrete`` observations before SB3 makes one-hot vectors of them.

    It stands last among the bases of a policy: SB3's policies ask the class behind themselves.
    """

    def extract_features(self, obs: Any, features_extractor: BaseFeaturesExtractor) -> th.Tensor:
        """SB3's, of numbers that begin at 0. Whether these are images is found out once, not for every batch."""
        if self._sees_images:
            return features_extractor(obs.float() / 255.0)
        return super().extract_features(_from_zero(obs, self.observation_space), features_extractor)

    @cached_property
    def _sees_images(self) -> bool:
        return self.normalize_images and is_image_space(self.observation_space)


def starts_elsewhere(space: spaces.Space) -> bool:
    """Whether the numbers of a space begin at others than 0."""
    if isinstance(space, spaces.Dict):
        return any(map(starts_elsewhere, space.spaces.values()))
    return isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) and bool(np.any(space.start))


def _from_zero(obs: Any, space: spaces.Space) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _from_zero(part, space.spaces[key]) for key, part in obs.items()}
    return obs.long() - th.as_tensor(space.start, device=obs.device) if starts_elsewhere(space) else obs  # type: ignore[attr-defined]
