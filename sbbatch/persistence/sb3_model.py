"""Model files of SB3 and sb3-contrib, as agents of ours read them."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch as th
from stable_baselines3.common import buffers
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sbbatch.errors import InvalidValue
from sbbatch.files import PathOrFile
from sbbatch.networks.heads import QuantileHead
from sbbatch.networks.value_policy import ValuePolicy
from sbbatch.persistence.model_file import REQUIRED, ModelFile
from sbbatch.persistence.unpickle import unpickle

_SERIALIZED = ":serialized:"  # SB3's word for what is no JSON
# Attributes that tell SB3's agents apart; the file does not name its class.
_SIGNS = {
    "QRDQN": {"target_update_interval", "exploration_rate", "n_quantiles"},
    "DQN": {"target_update_interval", "exploration_rate"},
    "PPO": {"clip_range", "n_epochs", "target_kl"},
}
# What an agent has besides its arguments, and goes on with.
_PROGRESS = {"num_timesteps", "_total_timesteps", "_num_timesteps_at_start", "_current_progress_remaining"}
_PROGRESS |= {"_episode_num", "_n_updates", "_n_calls", "exploration_rate"}
_POLICY_MODULES = (
    "stable_baselines3.dqn.policies",
    "sb3_contrib.qrdqn.policies",
    "stable_baselines3.common.policies",
)
_POLICIES = {
    "DQNPolicy": "MlpPolicy",
    "QRDQNPolicy": "MlpPolicy",
    "ActorCriticPolicy": "MlpPolicy",
    "ActorCriticCnnPolicy": "CnnPolicy",
    "MultiInputActorCriticPolicy": "MultiInputPolicy",
}
_IMPLEMENTATION = ("foreach", "fused", "capturable", "differentiable")  # how an optimizer computes, not what
# SB3's choice where nobody made one; our replay memory does the same in less room.
_USUAL_BUFFERS = (buffers.ReplayBuffer, buffers.DictReplayBuffer, buffers.NStepReplayBuffer)


def open_model(path: PathOrFile | ModelFile, trust: bool = False) -> ModelFile:
    """
    A model file of ours, or of SB3.

    :param path: file, with or without ``.zip``, or open file; one that this function has opened is returned
    :param trust: whether everything that was pickled may run
    """
    if isinstance(path, ModelFile):
        return path
    model = ModelFile(path)
    is_ours = "algorithm" in model.plain or "policy_class" not in model.plain
    if is_ours or "_stable_baselines3_version" not in model.members:
        return model
    theirs = SB3ModelFile(path)
    theirs.trust = trust
    return theirs


class SB3ModelFile(ModelFile):
    """A model file of SB3 or sb3-contrib, whose pickles are not run (:mod:`sbbatch.persistence.unpickle`)."""

    library = " of Stable-Baselines3"
    trust = False  # True: unpickle as SB3 does, which runs whatever the file says

    @property
    def algorithm(self) -> str | None:
        """The name of the agent it holds, if it is one of those that are here as well."""
        return next((name for name, signs in _SIGNS.items() if signs <= set(self.plain)), None)

    def attributes(self, agent_class: Any, custom_objects: dict[str, Any], replaced: Collection[str]) -> dict[str, Any]:
        """See :meth:`~sbbatch.persistence.model_file.ModelFile.attributes`; only what an agent of ours has."""
        arguments = set(inspect.signature(agent_class).parameters) - {"policy", "env", "device", "_init_setup_model"}
        named = {key: "stats_window_size" if key == "_stats_window_size" else key for key in self.plain}
        known = (arguments | _PROGRESS | set(REQUIRED)) - set(replaced)
        values = self._values([key for key, name in named.items() if name in known], custom_objects)
        found = {named[key]: value for key, value in values.items()}
        found["policy_class"] = self._policy_class(agent_class, found["policy_class"])
        if found.get("replay_buffer_class") in _USUAL_BUFFERS:
            found |= {"replay_buffer_class": None, "replay_buffer_kwargs": {}, "optimize_memory_usage": False}
        if "epoch_reference" in arguments:
            found["epoch_reference"] = None  # the length of its own rollouts
        return agent_class.as_attributes(found)

    def _value(self, name: str) -> dict[str, Any]:
        item = self.plain[name]
        if self.trust or not (isinstance(item, dict) and _SERIALIZED in item):
            return super()._value(name)
        return {name: unpickle(base64.b64decode(item[_SERIALIZED]))}

    def _policy_class(self, agent_class: Any, theirs: type[BasePolicy]) -> type[BasePolicy]:
        """Ours with the same network."""
        ours = agent_class.policy_aliases
        name = _POLICIES.get(theirs.__name__, theirs.__name__)
        if theirs.__module__ not in _POLICY_MODULES or name not in ours:
            got = f"{self.name}: its policy is {theirs.__module__}.{theirs.__name__}"
            raise InvalidValue(f"{got}, whose network may differ from those of {agent_class.__name__}")
        return ours[name]

    def states(self, agent: BaseAlgorithm, device: th.device) -> dict[str, Any]:
        """See :meth:`~sbbatch.persistence.model_file.ModelFile.states`; under our names and in our order."""
        states = super().states(agent, device)
        if isinstance(agent.policy, ValuePolicy) and isinstance(states.get("policy"), Mapping):
            states["policy"] = _as_ours(agent.policy, states["policy"])
        _fit_optimizer(agent.policy, states.get("policy.optimizer"))
        return states


def _as_ours(policy: ValuePolicy, state: Mapping[str, Any]) -> dict[str, Any]:
    """A state of their two networks under our names; what has no counterpart keeps its own, and is then refused."""
    own, renamed = policy.state_dict(), dict(state)
    for network in ("q_net", "q_net_target"):
        theirs = network.replace("q_net", "quantile_net") if isinstance(policy.q_net.head, QuantileHead) else network
        layers = [key for key in state if key.startswith(f"{theirs}.{theirs.removesuffix('_target')}.")]
        ours = [key for key in own if key.startswith(f"{network}.head.")]
        if len(layers) == len(ours):
            renamed |= {new: _in_our_order(policy, renamed.pop(old)) for old, new in zip(layers, ours, strict=True)}
        torso = f"{theirs}.features_extractor."
        renamed = {key.replace(torso, f"{network}.features_extractor."): value for key, value in renamed.items()}
    return renamed


def _in_our_order(policy: ValuePolicy, tensor: th.Tensor) -> th.Tensor:
    """Of the last layer: sb3-contrib's outputs are ``(quantiles, actions)``, ours ``(actions, quantiles)``."""
    head = policy.q_net.head
    if not isinstance(head, QuantileHead):
        return tensor
    n_actions, n_quantiles = int(policy.action_space.n), int(head.n_quantiles)
    if tensor.shape[:1] != (n_actions * n_quantiles,):
        return tensor
    return tensor.unflatten(0, (n_quantiles, n_actions)).transpose(0, 1).flatten(0, 1)


def _fit_optimizer(policy: BasePolicy, state: Any) -> None:
    """Their optimizer's state for ours, in place: our implementation, which needs moments laid out as the weights."""
    own = policy.optimizer
    parameters = [parameter for group in own.param_groups for parameter in group["params"]]
    try:
        for index, parameter in enumerate(parameters):
            moments = state["state"].get(index, {})
            is_last = index >= len(parameters) - 2  # weight or bias of the outputs
            for name, value in moments.items():
                if isinstance(value, th.Tensor) and value.shape == parameter.shape:
                    ordered = _in_our_order(policy, value) if is_last and isinstance(policy, ValuePolicy) else value
                    moments[name] = th.empty_like(parameter).copy_(ordered)
        for group, ours in zip(state["param_groups"], own.param_groups, strict=True):
            group |= {flag: ours[flag] for flag in _IMPLEMENTATION if flag in ours}
    except (AttributeError, KeyError, TypeError, ValueError):
        return  # no such state: it is refused where parameters are compared with the agent's
