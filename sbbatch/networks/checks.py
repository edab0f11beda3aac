"""What the arguments of a policy may be, beyond type and limits: its layers, its torso, its head and its optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from sbbatch.arguments import check_arguments, declared
from sbbatch.errors import (
    InvalidType,
    InvalidValue,
    built,
    check_int,
    check_keywords,
    check_names,
    describe,
    describe_space,
)
from sbbatch.networks.torsos import check_images

# What every policy gets from its agent.
OF_POLICIES = ("observation_space", "action_space", "lr_schedule")


def check_net_arch(name: str, net_arch: Any) -> list[int] | None:
    """Sizes of the hidden layers as Python's ints."""
    if net_arch is None:
        return None
    if not isinstance(net_arch, (list, tuple)):
        raise InvalidType(f"{name}: got {describe(net_arch)}, expected a list of ints, e.g. [64, 64]")
    return [check_int(f"{name}[{layer}]", size, 1) for layer, size in enumerate(net_arch)]


def check_activation(name: str, activation_fn: Any) -> Any:
    """A class, or anything else that makes a module when it is called, such as a partial."""
    try:
        module = activation_fn()
    except Exception:  # whatever calling the wrong thing leads to
        module = None
    if not isinstance(module, nn.Module):
        got = f"{name}: got {describe(activation_fn)}"
        raise InvalidType(f"{got}, expected a class without arguments such as torch.nn.ReLU")
    return activation_fn


NetArch = Annotated[list[int] | None, check_net_arch]
Activation = Annotated[Callable[[], nn.Module], check_activation]


def check_parts(arguments: Mapping[str, Any]) -> None:
    """
    :param arguments: of a policy's constructor by name, each of them checked
    :raises InvalidValue: observations that the torso is not for
    :raises InvalidType: a keyword argument that torso or optimizer do not have
    """
    torso, space = arguments["features_extractor_class"], arguments["observation_space"]
    # SB3's torsos for vectors and dictionaries do not look at what they get; ours for images do.
    is_dict, got = isinstance(space, spaces.Dict), f"got observations {describe_space(space)}"
    if is_dict and issubclass(torso, FlattenExtractor):
        raise InvalidValue(f"MlpPolicy: {got}, expected no dictionary; use MultiInputPolicy")
    if not is_dict and issubclass(torso, CombinedExtractor):
        raise InvalidValue(f"MultiInputPolicy: {got}, expected a Dict; use CnnPolicy for images, MlpPolicy otherwise")
    for part, taken in (("features_extractor", {"observation_space"}), ("optimizer", {"params", "lr"})):
        name, given = f"policy_kwargs: {part}_kwargs", arguments[f"{part}_kwargs"] or {}
        check_keywords(name, given, arguments[f"{part}_class"], taken)


def check_head_kwargs(arguments: Mapping[str, Any]) -> None:
    """What a policy does not know goes to its head; the nearest name may be one of the policy's own."""
    own = set(arguments) - {"self", "__class__", "head_kwargs", *OF_POLICIES}
    known = set(inspect.signature(arguments["head_class"]).parameters) - {"layers"}
    check_names("policy_kwargs", arguments["head_kwargs"], known | own)


def check_actor_critic_kwargs(
    policy_class: type[BasePolicy], policy_kwargs: Mapping[str, Any] | None, observation_space: spaces.Space
) -> None:
    """The arguments of SB3's actor-critic policies, which find out late and in many words."""
    given, prefix = dict(policy_kwargs or {}), "policy_kwargs: "
    check_keywords("policy_kwargs", given, policy_class, {*OF_POLICIES, "use_sde"})
    net_arch = given.pop("net_arch", None)
    if isinstance(net_arch, list) and len(net_arch) == 1 and isinstance(net_arch[0], Mapping):
        net_arch = net_arch[0]  # the form of old versions, of which SB3 warns
    check_activation(f"{prefix}activation_fn", given.pop("activation_fn", nn.ReLU))
    check_arguments(ActorCriticPolicy, given, prefix)
    if isinstance(net_arch, Mapping):
        check_names(f"{prefix}net_arch", net_arch, ("pi", "vf"))
    for part, layers in net_arch.items() if isinstance(net_arch, Mapping) else [("", net_arch)]:
        check_net_arch(f"{prefix}net_arch" + (f"['{part}']" if part else ""), layers)
    known = {**declared(ActorCriticPolicy), **declared(policy_class)}
    arguments = {**{name: one.default for name, one in known.items()}, **given, "observation_space": observation_space}
    check_parts(arguments)
    # Of a weight and a bias, as the policy's: what the optimizer refuses, it would refuse in its own words.
    weights = [nn.Parameter(th.zeros(1, 1)), nn.Parameter(th.zeros(1))]
    optimizer_kwargs = {"lr": 1e-3, **(arguments["optimizer_kwargs"] or {})}
    built(f"{prefix}optimizer_kwargs", arguments["optimizer_class"], weights, **optimizer_kwargs)
    if issubclass(arguments["features_extractor_class"], NatureCNN):
        torso_kwargs = arguments["features_extractor_kwargs"] or {}
        check_images(observation_space, torso_kwargs.get("normalized_image", not arguments["normalize_images"]))
        check_int(f"{prefix}features_dim", torso_kwargs.get("features_dim", 512), 1)


@contextmanager
def fits_in_memory() -> Iterator[None]:
    """Around the making of a network, which may be too large."""
    try:
        yield
    except RuntimeError as error:  # on a GPU OutOfMemoryError, which is one
        if "memory" not in str(error):
            raise
        raise InvalidValue("policy_kwargs: the network does not fit in the memory; make it smaller") from error
