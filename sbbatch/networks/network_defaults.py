"""What a recipe prefers about its network, under what the user says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch as th
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from sbbatch.networks.torsos import NatureCNN
from sbbatch.networks.value_policy import CnnPolicy


@dataclass(frozen=True)
class NetworkDefaults:
    """
    Defaults of ``policy_kwargs``, in groups that fall away together: another head does not know the arguments of the
    recipe's head, another torso not those of its torso, another optimizer not those of Adam.

    :param head: arguments of a head, by its class
    :param layers: ``dueling``, ``noisy_sigma0``, ``initializer``: whatever head and torso
    :param torso: ``features_extractor_class`` and ``features_extractor_kwargs`` for images
    :param optimizer: ``optimizer_kwargs`` of Adam
    """

    head: Mapping[type[nn.Module], Mapping[str, Any]] = field(default_factory=dict)
    layers: Mapping[str, Any] = field(default_factory=dict)
    torso: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)

    def under(self, given: dict[str, Any], policy_class: type[BasePolicy], head: type[nn.Module]) -> dict[str, Any]:
        """
        :param given: the user's ``policy_kwargs``
        :param policy_class: the policy they go to
        :param head: the head of the agent
        :return: all arguments of the policy
        """
        merged: dict[str, Any] = {"head_class": head, **self.layers, **self.head.get(head, {})}
        own_torso = self.torso.get("features_extractor_class", NatureCNN)
        if issubclass(policy_class, CnnPolicy) and given.get("features_extractor_class", own_torso) is own_torso:
            merged |= self.torso
        if self.optimizer and given.get("optimizer_class", th.optim.Adam) is th.optim.Adam:
            merged["optimizer_kwargs"] = dict(self.optimizer)
        for key, value in given.items():
            inner = key in ("features_extractor_kwargs", "optimizer_kwargs") and key in merged
            merged[key] = {**merged[key], **(value or {})} if inner else value
        return merged
