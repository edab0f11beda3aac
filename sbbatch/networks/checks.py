"""What the arguments of a policy may be, beyond type and limits: its layers, its torso, its head and its optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from torch import nn

from sbbatch.errors import InvalidType, InvalidValue, check_int, check_keywords, check_names, describe, describe_space

# What every policy gets from its agent.
OF_POLICIES = ("observation_space", "action_space", "lr_schedule")


def check_net_arch(name: str, net_arch: Any) -> list[int] | None:
    """
    :param name: as the user writes it
    :param net_arch: sizes of the hidden layers
    :return: a list of ints, or None
    :raises InvalidType: something else
    :raises InvalidValue: a layer without units
    """
    if net_arch is None:
        return None
    if not isinstance(net_arch, (list, tuple)):
        raise InvalidType(f"{name}: got {describe(net_arch)}, expected a list of ints, e.g. [64, 64]")
    return [check_int(f"{name}[{layer}]", size, 1) for layer, size in enumerate(net_arch)]


def check_activation(name: str, activation_fn: Any) -> Any:
    """
    :param name: as the user writes it
    :param activation_fn: a class, or anything else that makes a module when it is called, such as a partial
    :return: the same
    :raises InvalidType: something else
    """
    try:
        module = activation_fn()
    except Exception:  # whatever calling the wrong thing leads to
        module = None
    if not isinstance(module, nn.Module):
        raise InvalidType(
            f"{name}: got {describe(activation_fn)}, expected a class without arguments such as torch.nn.ReLU"
        )
    return activation_fn


NetArch = Annotated[list[int] | None, check_net_arch]
Activation = Annotated[Callable[[], nn.Module], check_activation]


def check_parts(arguments: Mapping[str, Any]) -> None:
    """
    :param arguments: of a policy's constructor by name, each of them checked
    :raises InvalidValue: observations that the torso is not for
    :raises InvalidType: a keyword argument that torso or optimizer do not have
    """
    check_torso(arguments["features_extractor_class"], arguments["observation_space"])
    for part, taken in (("features_extractor", {"observation_space"}), ("optimizer", {"params", "lr"})):
        name, given = f"policy_kwargs: {part}_kwargs", arguments[f"{part}_kwargs"] or {}
        check_keywords(name, given, arguments[f"{part}_class"], taken)


def check_head_kwargs(arguments: Mapping[str, Any]) -> None:
    """
    What a policy does not know goes to its head; the nearest name may be one of the policy's own.

    :param arguments: of a policy's constructor by name, with its ``head_kwargs`` under that name
    :raises InvalidType: an argument that neither has
    """
    own = set(arguments) - {"self", "__class__", "head_kwargs", *OF_POLICIES}
    known = set(inspect.signature(arguments["head_class"]).parameters) - {"layers"}
    check_names("policy_kwargs", arguments["head_kwargs"], known | own)


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
