"""What is in a model file, and one sentence where something is missing or does not fit."""

from __future__ import annotations

import io
import json
import zipfile
from collections import deque
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import json_to_data, recursive_getattr, recursive_setattr
from torch import nn

from sbbatch.errors import InvalidValue, describe
from sbbatch.files import PathOrFile, check_zip, find_file

_COMPILED = "_orig_mod."  # what torch.compile puts before the names of a module
_VARIABLES = "pytorch_variables.pth"
# Without these no agent can be built; any other attribute may have been left out by `save(exclude=...)`.
REQUIRED = {
    "policy_class": type,
    "policy_kwargs": dict,
    "observation_space": spaces.Space,
    "action_space": spaces.Space,
    "n_envs": int,
}
# What an agent would not stumble over before it learns. These are numbers:
_NUMBERS = {
    "num_timesteps",
    "exploration_rate",
    "_total_timesteps",
    "_num_timesteps_at_start",
    "_current_progress_remaining",
    "_episode_num",
    "_n_updates",
    "_n_rollouts",
    "_n_gradient_steps",
    "_n_calls",
    "_n_samples",
    "_sample_credit",
}
# These are of a kind, or None: what an agent has not got, or starts anew.
_STATES: dict[str, tuple[type, ...]] = {
    "_network_kwargs": (dict,),
    "_generator_states": (dict,),
    "batch_scaling_state": (dict,),
    "ep_info_buffer": (deque,),
    "ep_success_buffer": (deque,),
    "action_noise": (),  # SB3's, of agents for continuous actions
    "_last_obs": (np.ndarray, dict),
    "_last_original_obs": (np.ndarray, dict),
    "_last_episode_starts": (np.ndarray,),
}


class ModelFile:
    """
    A model file: an archive with SB3's layout, whose checksums have been compared.

    :param path: file, with or without ``.zip``, or open file
    :raises FileNotFoundError: no such file
    :raises InvalidValue: a damaged file, or one that holds no model
    """

    library = ""  # the other one that wrote it, for messages

    def __init__(self, path: PathOrFile) -> None:
        self._file = path if isinstance(path, io.BufferedIOBase) else find_file(path, ".zip", "model")
        self.name = "the model file" if isinstance(path, io.BufferedIOBase) else str(path)
        check_zip(self._file, "model")
        with zipfile.ZipFile(self._file) as archive:
            self.members = archive.namelist()
        self.plain = self._json("data")

    def _incomplete(self, what: str) -> InvalidValue:
        return InvalidValue(f"{self.name}: not a complete model file, {what}")

    def unusable(self, key: str) -> InvalidValue:
        """
        :param key: an attribute that no agent can have
        :return: the error about it
        """
        return self._incomplete(f"its member 'data' has no usable '{key}'")

    def _read(self, member: str) -> bytes:
        if member not in self.members:
            raise self._incomplete(f"it has no member '{member}'")
        with zipfile.ZipFile(self._file) as archive:
            return archive.read(member)

    def _json(self, member: str) -> dict[str, Any]:
        data = self._read(member)
        try:
            content = json.loads(data)
        except (ValueError, RecursionError):  # not UTF-8, or not JSON
            content = None
        if not isinstance(content, dict):
            raise self._incomplete(f"its member '{member}' cannot be read")
        return content

    def system_info(self) -> str:
        """The system the model was saved on, for people."""
        present = "system_info.txt" in self.members
        return self._read("system_info.txt").decode(errors="replace") if present else "unknown"

    @property
    def algorithm(self) -> str | None:
        """The name of the agent it holds; ``None`` if nothing says so."""
        return self.plain.get("algorithm")

    def attributes(self, agent_class: Any, custom_objects: dict[str, Any], replaced: Iterable[str]) -> dict[str, Any]:
        """
        The attributes of the agent. Some were pickled: only for files you trust.

        :param agent_class: the class that is to have them
        :param custom_objects: objects that replace the saved ones, by name
        :param replaced: names of arguments that get another value afterwards, and need not be read
        :raises InvalidValue: one cannot be read, or one that every agent needs is missing
        """
        attributes: dict[str, Any] = {}
        for key, item in self.plain.items():
            try:
                attributes |= json_to_data(json.dumps({key: item}), custom_objects)
            except Exception as error:  # a pickle may raise anything
                raise self._incomplete(f"'{key}' in its member 'data' cannot be read; see custom_objects") from error
        self._require(attributes)
        return attributes

    def _require(self, attributes: dict[str, Any]) -> None:
        for key, kind in REQUIRED.items():
            if not isinstance(attributes.get(key), kind):
                raise self.unusable(key)
        if attributes["n_envs"] is True or attributes["n_envs"] < 1:
            raise self.unusable("n_envs")

    def states(self, agent: BaseAlgorithm, device: th.device) -> dict[str, Any]:
        """
        The parameters of networks and optimizer, as ``get_parameters`` gives them.

        :param agent: the agent that is to have them
        :param device: where they go
        :raises InvalidValue: a member cannot be read
        """
        members = [member for member in self.members if member.endswith(".pth") and member != _VARIABLES]
        return {member.removesuffix(".pth"): self._tensors(member, device) for member in members}

    def _tensors(self, member: str, device: th.device) -> Any:
        data = io.BytesIO(self._read(member))
        try:
            return th.load(data, map_location=device, weights_only=True)
        except Exception as error:  # PyTorch has a dozen words for bytes it did not write
            raise self._incomplete(f"its member '{member}' cannot be read") from error

    def restore(self, agent: BaseAlgorithm) -> None:
        """
        Put everything that is no attribute into an agent.

        :param agent: built from the attributes
        :raises InvalidValue: a member is missing, cannot be read or does not fit
        """
        states, variables = self.states(agent, agent.device), self._tensors(_VARIABLES, agent.device)
        states = in_names_of(agent, states)
        check_states(f"{self.name}: not a complete model file, ", ".pth", agent, states, exact_match=True)
        agent.set_parameters(states, exact_match=True, device=agent.device)
        for name, value in (variables or {}).items():
            recursive_setattr(agent, f"{name}.data", value.data)  # the optimizer knows the object


def first_unusable(attributes: Mapping[str, Any]) -> str | None:
    """
    :param attributes: of an agent, with its policy class
    :return: the first that no agent can have, of those that it does not check itself
    """
    can_explore_by_state = hasattr(attributes["policy_class"], "reset_noise")
    for key, value in attributes.items():
        is_number = key not in _NUMBERS or isinstance(value, Real)
        is_state = key not in _STATES or value is None or isinstance(value, _STATES[key])
        is_possible = key != "use_sde" or value is False or can_explore_by_state
        if not (is_number and is_state and is_possible):
            return key
    return None


def without_compiler(state: Any) -> Any:
    """
    :param state: of a network or an optimizer
    :return: the same under the names that it had before ``torch.compile``
    """
    if not (isinstance(state, Mapping) and any(_COMPILED in str(key) for key in state)):
        return state
    return {str(key).replace(_COMPILED, ""): value for key, value in state.items()}


def in_names_of(agent: BaseAlgorithm, states: Mapping[str, Any]) -> dict[str, Any]:
    """
    :param agent: who is to have the states
    :param states: name -> state, as it was saved, compiled or not
    :return: the same under the names of the agent's own, which may be compiled
    """
    return {name: _in_names_of(getattr(agent, str(name), None), state) for name, state in states.items()}


def _in_names_of(part: Any, state: Any) -> Any:
    state = without_compiler(state)
    own = part.state_dict() if isinstance(part, nn.Module) else {}
    compiled = {key.replace(_COMPILED, ""): key for key in own if _COMPILED in key}
    return (
        {compiled.get(key, key): value for key, value in state.items()}
        if compiled and isinstance(state, Mapping)
        else state
    )


def check_states(where: str, suffix: str, agent: BaseAlgorithm, states: Mapping[str, Any], exact_match: bool) -> None:
    """
    Compare parameters with the agent's own before any of them is overwritten.

    :param where: the beginning of the message
    :param suffix: what the names end in where they come from
    :param agent: the agent
    :param states: name -> state
    :param exact_match: whether nothing may be missing
    :raises InvalidValue: names or shapes differ
    """
    for name, state in states.items():
        try:
            part = recursive_getattr(agent, name)
        except (AttributeError, TypeError) as error:
            raise InvalidValue(f"{where}'{name}{suffix}' is no part of a {type(agent).__name__}") from error
        this = f"{where}'{name}{suffix}'"
        if not isinstance(state, Mapping):
            raise InvalidValue(f"{this} holds {describe(state)}, expected a dictionary of tensors")
        if isinstance(part, th.optim.Optimizer):
            _check_optimizer(this, state, part)
        elif isinstance(part, nn.Module):
            _check_module(this, state, part.state_dict(), exact_match)
    missing = [name for name in agent._get_torch_save_params()[0] if name not in states]
    if exact_match and missing:
        raise InvalidValue(f"{where}'{missing[0]}{suffix}' is missing")


def _check_module(this: str, state: Mapping[str, Any], own: Mapping[str, Any], exact_match: bool) -> None:
    for key, value in state.items():
        if key in own and isinstance(own[key], th.Tensor) and getattr(value, "shape", None) != own[key].shape:
            got = f"of shape {tuple(value.shape)}" if isinstance(value, th.Tensor) else f"as {describe(value)}"
            raise InvalidValue(f"{this} holds {key} {got}, the agent's has shape {tuple(own[key].shape)}")
    lacking, strange = [key for key in own if key not in state], [key for key in state if key not in own]
    if exact_match and lacking:
        raise InvalidValue(f"{this} lacks {lacking[0]}")
    if exact_match and strange:
        raise InvalidValue(f"{this} holds {strange[0]}, which the agent does not have")


def _check_optimizer(this: str, state: Mapping[str, Any], optimizer: th.optim.Optimizer) -> None:
    own = [len(group["params"]) for group in optimizer.param_groups]
    try:
        saved = [len(group["params"]) for group in state["param_groups"]]
        fits = saved == own and isinstance(state["state"], Mapping)
    except (KeyError, TypeError):
        fits = False
    if not fits:
        raise InvalidValue(f"{this} is not the state of an optimizer of {sum(own)} tensors, as the agent's is")
