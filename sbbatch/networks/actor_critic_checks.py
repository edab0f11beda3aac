"""What the arguments of SB3's actor-critic policies may be; they themselves find out late, and in many words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from sbbatch.arguments import check_arguments, declared
from sbbatch.errors import built, check_int, check_keywords, check_names
from sbbatch.networks.checks import OF_POLICIES, check_activation, check_net_arch, check_parts
from sbbatch.networks.torsos import check_images


def check_actor_critic_kwargs(
    policy_class: type[BasePolicy], policy_kwargs: Mapping[str, Any] | None, observation_space: spaces.Space
) -> None:
    """
    :param policy_class: the policy
    :param policy_kwargs: what the user gives it
    :param observation_space: what the environment shows
    :raises InvalidValue: a value that is not allowed, or observations that the torso is not for
    :raises InvalidType: a value of the wrong type, or an argument that the policy does not know
    """
    given = dict(policy_kwargs or {})
    check_keywords("policy_kwargs", given, policy_class, {*OF_POLICIES, "use_sde"})
    net_arch, activation = given.pop("net_arch", None), given.pop("activation_fn", nn.ReLU)
    check_arguments(ActorCriticPolicy, given, "policy_kwargs: ")
    check_activation("policy_kwargs: activation_fn", activation)
    _check_net_arch("policy_kwargs: net_arch", net_arch)
    known = {**declared(ActorCriticPolicy), **declared(policy_class)}
    arguments = {**{name: one.default for name, one in known.items()}, **given, "observation_space": observation_space}
    check_parts(arguments)
    torso_kwargs, optimizer_kwargs = (arguments[f"{part}_kwargs"] or {} for part in ("features_extractor", "optimizer"))
    # Of a weight and a bias, as the policy's: what the optimizer refuses, it would refuse in its own words.
    weights = [nn.Parameter(th.zeros(1, 1)), nn.Parameter(th.zeros(1))]
    built("policy_kwargs: optimizer_kwargs", arguments["optimizer_class"], weights, lr=1e-3, **optimizer_kwargs)
    if issubclass(arguments["features_extractor_class"], NatureCNN):
        normalized = torso_kwargs.get("normalized_image", not arguments["normalize_images"])
        check_images(observation_space, normalized)
        check_int("policy_kwargs: features_dim", torso_kwargs.get("features_dim", 512), 1)


def _check_net_arch(name: str, net_arch: Any) -> None:
    """One list for both, or one for the policy and one for the values."""
    parts = {"": net_arch}
    if isinstance(net_arch, Mapping):
        check_names(name, net_arch, ("pi", "vf"))
        parts = {f"['{part}']": layers for part, layers in net_arch.items()}
    for part, layers in parts.items():
        check_net_arch(name + part, layers)
