"""What the arguments of SB3's actor-critic policies may be; they themselves find out late, and in many words."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN
from torch import nn

from sbbatch.errors import built, check_bool, check_keywords, check_names, check_number
from sbbatch.networks.checks import (
    OF_POLICIES,
    check_activation,
    check_class,
    check_net_arch,
    check_torso,
)
from sbbatch.networks.torsos import check_images

_SWITCHES = ("ortho_init", "full_std", "use_expln", "squash_output", "share_features_extractor", "normalize_images")


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
    defaults = {name: parameter.default for name, parameter in inspect.signature(ActorCriticPolicy).parameters.items()}
    defaults |= {name: parameter.default for name, parameter in inspect.signature(policy_class).parameters.items()}
    arguments = defaults | given
    for name in _SWITCHES:
        check_bool(f"policy_kwargs: {name}", arguments[name])
    check_number("policy_kwargs: log_std_init", arguments["log_std_init"])
    torso, optimizer = arguments["features_extractor_class"], arguments["optimizer_class"]
    check_class(
        "policy_kwargs: features_extractor_class", torso, BaseFeaturesExtractor, "sbbatch.networks.torsos.MinAtarCNN"
    )
    check_class("policy_kwargs: optimizer_class", optimizer, th.optim.Optimizer, "torch.optim.Adam")
    check_activation(arguments["activation_fn"])
    _check_net_arch(arguments["net_arch"])
    torso_kwargs, optimizer_kwargs = (arguments[f"{part}_kwargs"] or {} for part in ("features_extractor", "optimizer"))
    check_keywords("policy_kwargs: features_extractor_kwargs", torso_kwargs, torso, {"observation_space"})
    check_keywords("policy_kwargs: optimizer_kwargs", optimizer_kwargs, optimizer, {"params", "lr"})
    # Of a weight and a bias, as the policy's: what the optimizer refuses, it would refuse in its own words.
    weights = [nn.Parameter(th.zeros(1, 1)), nn.Parameter(th.zeros(1))]
    built("policy_kwargs: optimizer_kwargs", optimizer, weights, lr=1e-3, **optimizer_kwargs)
    check_torso(torso, observation_space)
    if issubclass(torso, NatureCNN):
        normalized = torso_kwargs.get("normalized_image", not arguments["normalize_images"])
        check_images(observation_space, normalized, torso_kwargs.get("features_dim"))


def _check_net_arch(net_arch: Any) -> None:
    """One list for both, or one for the policy and one for the values."""
    if not isinstance(net_arch, Mapping):
        check_net_arch(net_arch)
        return
    check_names("policy_kwargs: net_arch", net_arch, ("pi", "vf"))
    for part, layers in net_arch.items():
        check_net_arch(layers, f"net_arch['{part}']")
