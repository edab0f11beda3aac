"""What the arguments of a policy may be: its layers, its torso, its head and its optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from torch import nn

from sbbatch.errors import (
    InvalidType,
    InvalidValue,
    check_bool,
    check_int,
    check_keywords,
    check_names,
    check_number,
    describe,
    describe_space,
    did_you_mean,
)
from sbbatch.networks.initializers import INITIALIZERS

# What every policy gets from its agent.
OF_POLICIES = ("observation_space", "action_space", "lr_schedule")


def check_policy_arguments(arguments: Mapping[str, Any]) -> None:
    """
    :param arguments: the arguments of a policy's constructor by name, with its ``head_kwargs`` under that name
    :raises InvalidValue: a value that is not allowed
    :raises InvalidType: a value of the wrong type, or a keyword argument that does not exist
    """
    check_bool("policy_kwargs: normalize_images", arguments["normalize_images"])
    for name, base, example in (
        ("features_extractor_class", BaseFeaturesExtractor, "sbbatch.networks.torsos.NatureCNN"),
        ("optimizer_class", th.optim.Optimizer, "torch.optim.Adam"),
        ("head_class", nn.Module, "sbbatch.networks.heads.QuantileHead"),
    ):
        check_class(f"policy_kwargs: {name}", arguments[name], base, example)
    check_number("noisy_sigma0", arguments["noisy_sigma0"], 0.0)  # before anybody asks whether it is 0
    check_bool("policy_kwargs: layer_norm", arguments["layer_norm"])
    check_net_arch(arguments["net_arch"])
    check_activation(arguments["activation_fn"])
    initializer = arguments["initializer"]
    if not (initializer is None or callable(initializer)):
        known = {f"sbbatch.networks.initializers.{name}" for name in INITIALIZERS}
        hint = did_you_mean(f"sbbatch.networks.initializers.{initializer}", known)
        raise InvalidType(f"policy_kwargs: initializer: got {describe(initializer)}, expected a function{hint}")
    check_torso(arguments["features_extractor_class"], arguments["observation_space"])
    for part, taken in (("features_extractor", {"observation_space"}), ("optimizer", {"params", "lr"})):
        kwargs = arguments[f"{part}_kwargs"]
        if kwargs is not None:
            check_keywords(f"policy_kwargs: {part}_kwargs", kwargs, arguments[f"{part}_class"], taken)
    _check_head_kwargs(arguments)


def _check_head_kwargs(arguments: Mapping[str, Any]) -> None:
    """What the policy does not know goes to the head; the nearest name may be one of the policy's own."""
    own = set(arguments) - {"self", "__class__", "head_kwargs", *OF_POLICIES}
    known = set(inspect.signature(arguments["head_class"]).parameters) - {"layers"}
    check_names("policy_kwargs", arguments["head_kwargs"], known | own)


def check_class(name: str, value: object, base: type, example: str) -> None:
    """
    :param name: as the user writes it
    :param value: what was given
    :param base: what it must extend
    :param example: one that does
    :raises InvalidType: no such class
    """
    if isinstance(value, type) and issubclass(value, base):
        return
    got = f"class {value.__name__}" if isinstance(value, type) else describe(value)
    near = isinstance(value, str) and hasattr(th.optim, value) and base is th.optim.Optimizer
    hint = f"; did you mean torch.optim.{value}?" if near else f", such as {example}"
    raise InvalidType(f"{name}: got {got}, expected a subclass of {base.__name__}{hint}")


def check_net_arch(net_arch: object, name: str = "net_arch") -> None:
    """
    :param net_arch: what was given
    :param name: as the user writes it
    :raises InvalidType: no list of ints
    :raises InvalidValue: a layer without units
    """
    if net_arch is None:
        return
    if not isinstance(net_arch, (list, tuple)):
        raise InvalidType(f"policy_kwargs: {name}: got {describe(net_arch)}, expected a list of ints, e.g. [64, 64]")
    for layer, size in enumerate(net_arch):
        check_int(f"policy_kwargs: {name}[{layer}]", size, 1)


def check_activation(activation_fn: Any) -> None:
    """
    :param activation_fn: a class, or anything else that makes a module when it is called, such as a partial
    :raises InvalidType: something else
    """
    try:
        module = activation_fn()
    except Exception:  # whatever calling the wrong thing leads to
        module = None
    if not isinstance(module, nn.Module):
        names = {f"nn.{name}" for name in nn.modules.activation.__all__}
        hint = did_you_mean(f"nn.{activation_fn.removeprefix('nn.')}", names) if isinstance(activation_fn, str) else ""
        expected = "a class without arguments such as torch.nn.ReLU" + (hint if "did you mean" in hint else "")
        raise InvalidType(f"policy_kwargs: activation_fn: got {describe(activation_fn)}, expected {expected}")


def check_torso(torso: type[BaseFeaturesExtractor], space: spaces.Space) -> None:
    """
    SB3's torsos for vectors and dictionaries do not look at what they get; the one for images says it itself.

    :param torso: the class
    :param space: what the environment shows
    :raises InvalidValue: a torso for other observations
    """
    is_dict, got = isinstance(space, spaces.Dict), f"got observations {describe_space(space)}"
    if is_dict and issubclass(torso, FlattenExtractor):
        raise InvalidValue(f"MlpPolicy: {got}, expected no dictionary; use MultiInputPolicy")
    if not is_dict and issubclass(torso, CombinedExtractor):
        raise InvalidValue(f"MultiInputPolicy: {got}, expected a Dict; use CnnPolicy for images, MlpPolicy otherwise")


@contextmanager
def fits_in_memory() -> Iterator[None]:
    """
    Around the making of a network.

    :raises InvalidValue: it is too large for the memory
    """
    try:
        yield
    except RuntimeError as error:  # on a GPU OutOfMemoryError, which is one
        if "memory" not in str(error):
            raise
        raise InvalidValue("policy_kwargs: the network does not fit in the memory; make it smaller") from error
