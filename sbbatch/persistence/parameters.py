"""Parameters of networks and optimizers, compared with an agent's own before any of them is overwritten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import recursive_getattr
from torch import nn

from sbbatch.errors import InvalidValue, describe

_COMPILED = "_orig_mod."  # what torch.compile puts before the names of a module


def without_compiler(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of a network or an optimizer under the names that it had before ``torch.compile``."""
    return {str(key).replace(_COMPILED, ""): value for key, value in state.items()}


def fitting_states(agent: BaseAlgorithm, states: Mapping[str, Any], exact_match: bool, where: str) -> dict[str, Any]:
    """
    States under the names of the agent's own, which may be compiled.

    :param states: name -> state of a network or an optimizer, compiled or not
    :param exact_match: whether nothing may be missing
    :param where: they come from, for the message
    """
    missing = [name for name in agent._get_torch_save_params()[0] if name not in states]
    if exact_match and missing:
        raise InvalidValue(f"{where}: '{missing[0]}' is missing")
    fitting = {}
    for name, state in states.items():
        part = recursive_getattr(agent, str(name), None)
        if not isinstance(state, Mapping):
            misfit: str | None = f"holds {describe(state)}, expected a dictionary of tensors"
        elif isinstance(part, nn.Module):
            own = {key.replace(_COMPILED, ""): key for key in part.state_dict()}
            state = {own.get(key, key): value for key, value in without_compiler(state).items()}
            misfit = _misfit_of_module(part.state_dict(), state, exact_match)
        elif isinstance(part, th.optim.Optimizer):
            misfit = _misfit_of_optimizer(part, state)
        else:
            misfit = f"is no part of a {type(agent).__name__}"
        if misfit:
            raise InvalidValue(f"{where}: '{name}' {misfit}")
        fitting[name] = state
    return fitting


def _misfit_of_module(own: Mapping[str, Any], state: Mapping[str, Any], exact_match: bool) -> str | None:
    for key, value in state.items():
        if isinstance(own.get(key), th.Tensor) and getattr(value, "shape", None) != own[key].shape:
            got = f"of shape {tuple(value.shape)}" if isinstance(value, th.Tensor) else f"as {describe(value)}"
            return f"holds {key} {got}, the agent's has shape {tuple(own[key].shape)}"
    if exact_match and own.keys() != state.keys():
        lacking, strange = [key for key in own if key not in state], [key for key in state if key not in own]
        return f"lacks {lacking[0]}" if lacking else f"holds {strange[0]}, which the agent does not have"
    return None


def _misfit_of_optimizer(optimizer: th.optim.Optimizer, state: Mapping[str, Any]) -> str | None:
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    try:
        fits = isinstance(state["state"], Mapping) and sizes == [len(one["params"]) for one in state["param_groups"]]
    except (KeyError, TypeError):
        fits = False
    if not fits:
        return f"is not the state of an optimizer of {sum(sizes)} tensors, as the agent's is"
    # A moment of another shape than its weights would be read beyond its end by a fused optimizer.
    tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
    for index, moments in state["state"].items():
        for name, moment in moments.items() if isinstance(moments, Mapping) else ():
            shape = tensors[index].shape if isinstance(index, int) and 0 <= index < len(tensors) else None
            if isinstance(moment, th.Tensor) and moment.ndim > 0 and moment.shape != shape:
                return f"holds {name} of shape {tuple(moment.shape)} for tensor {index}, which the agent does not have"
    return None
