"""An agent that is made anew from a model file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch as th
from stable_baselines3.common.save_util import recursive_setattr
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.envs.checks import check_same_spaces
from sbbatch.errors import InvalidType, InvalidValue, describe, did_you_mean
from sbbatch.persistence.model_file import ModelFile

# What the file and the environment decide; another value would contradict the network or the replay buffer.
_FIXED = {"policy", "policy_class", "_init_setup_model", "n_envs", "observation_space", "action_space"}
_FIXED |= {"batch_scaling_state"}


def check_holds(model: ModelFile, cls: Any) -> None:
    """Refuse a file that holds another agent, or none that is known here."""
    held = f"{model.algorithm}{model.library}"
    if model.algorithm is None:
        held = "model that was not written by sbbatch, nor by SB3's DQN, QRDQN or PPO"
    if model.algorithm != cls.own_name():
        raise InvalidValue(f"{model.name}: holds a {held}, but {cls.__name__} was asked to load it")


def load_agent(
    cls: Any,
    model: ModelFile,
    env: GymEnv | str | None,
    device: th.device | str,
    custom_objects: dict[str, Any] | None,
    force_reset: bool,
    changes: dict[str, Any],
) -> Any:
    """
    What ``Agent.load`` does with an open file: SB3's ``load``, except that each step can say what is wrong.

    :param changes: attributes to change, by name
    """
    if not (custom_objects is None or isinstance(custom_objects, dict)):
        raise InvalidType(f"custom_objects: got {describe(custom_objects)}, expected a dictionary of objects")
    attributes = model.attributes(cls, custom_objects or {}, changes)
    _check_changes(cls, attributes, changes)
    attributes |= cls.as_attributes(changes)
    if "seed" in changes:  # the states the generators were saved in belong to the old one
        attributes["_generator_states"] = None
    saved_env = attributes.pop("env", None)  # which `save` was told to include
    wrapped: VecEnv | None = None
    if env is not None or saved_env is not None:
        env = cls._make_env(saved_env if env is None else env, attributes.get("trained_protocol"))
        wrapped = cls._wrap_env(env)
        check_same_spaces("load", attributes, wrapped)
        attributes["n_envs"] = wrapped.num_envs
        if force_reset:
            attributes["_last_obs"] = None
    agent = cls(policy=attributes["policy_class"], env=wrapped, device=device, _init_setup_model=False)
    vars(agent).update(attributes)
    agent._setup_model()
    agent.set_parameters(model, device=agent.device)
    for name, value in model.variables(agent.device).items():
        recursive_setattr(agent, f"{name}.data", value.data)  # the optimizer knows the object
    return agent


def _check_changes(cls: Any, saved: dict[str, Any], given: dict[str, Any]) -> None:
    known = (set(saved) | set(inspect.signature(cls).parameters)) - _FIXED
    for name in given:
        if name not in known:
            raise InvalidType(f"load: unknown attribute '{name}'{did_you_mean(name, known)}")
    for name in {"head", "policy_kwargs"} & given.keys():
        if given[name] != saved.get(name):
            raise InvalidValue(f"load: {name}: a trained agent keeps its network; leave it out")
    cls._check_changes(saved, given)


def trained_environment(path: Path) -> tuple[str | None, str | None]:
    """Id of the environment a model was trained in, and the Atari protocol; ``None`` for what it does not tell."""
    saved = ModelFile(path).plain
    return saved.get("env_id"), saved.get("trained_protocol")
