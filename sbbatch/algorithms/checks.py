"""What the arguments of a value-based agent may be; checked before anything is built."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq
from torch import nn

from sbbatch.errors import InvalidType, InvalidValue, check_int, check_number, describe_space, did_you_mean
from sbbatch.policies import ValuePolicy

if TYPE_CHECKING:
    from sbbatch.algorithms.value import ValueAlgorithm

EXPLORATION_DECAYS = ("linear", "geometric")
PRIORITIES_FROM = ("td_loss", "td_error")


def check_arguments(arguments: dict[str, Any]) -> None:
    """
    :param arguments: constructor arguments by name, agent steps unless their docstring says otherwise
    :raises InvalidValue: a value that is not allowed
    :raises InvalidType: a value of the wrong type
    """
    for name in ("buffer_size", "batch_size", "n_steps", "target_update_interval"):
        check_int(name, arguments[name], 1)
    check_int("learning_starts", arguments["learning_starts"], 0)
    check_int("gradient_steps", arguments["gradient_steps"], -1)
    check_number("gamma", arguments["gamma"], 0.0, 1.0)
    check_number("tau", arguments["tau"], 0.0, 1.0)
    if not callable(arguments["learning_rate"]):
        check_number("learning_rate", arguments["learning_rate"], 0.0, 1.0, open_low=True)
    if arguments["max_grad_norm"] is not None:
        check_number("max_grad_norm", arguments["max_grad_norm"], 0.0, open_low=True)
    if arguments["seed"] is not None:
        check_int("seed", arguments["seed"], 0, 2**32 - 1)
    check_train_freq(arguments["train_freq"])
    _check_exploration(arguments)
    _check_parts(arguments)
    check_batch_size(arguments["batch_size"], arguments["buffer_size"], arguments["batch_divisor"])


def _check_exploration(arguments: dict[str, Any]) -> None:
    for name in ("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"):
        check_number(name, arguments[name], 0.0, 1.0)
    decay, decay_steps = arguments["exploration_decay"], arguments["exploration_decay_steps"]
    if decay not in EXPLORATION_DECAYS:
        raise InvalidValue(f"exploration_decay: got {decay!r}{did_you_mean(str(decay), EXPLORATION_DECAYS)}")
    if decay_steps is not None:
        check_int("exploration_decay_steps", decay_steps, 1)
        if arguments["exploration_initial_eps"] != 1.0:
            raise InvalidValue(
                "exploration_initial_eps: must be 1 with exploration_decay_steps, whose schedule starts there"
            )
    elif decay == "geometric":
        raise InvalidValue("exploration_decay: 'geometric' needs exploration_decay_steps, its time constant")
    if arguments["exploration_stop"] is not None:
        check_number("exploration_stop", arguments["exploration_stop"], 0.0, 1.0)


def _check_parts(arguments: dict[str, Any]) -> None:
    for name in ("prioritized", "random_warmup"):
        if not isinstance(arguments[name], bool):
            raise InvalidType(f"{name}: got {arguments[name]!r}, expected True or False")
    source = arguments["priority_from"]
    if source not in PRIORITIES_FROM:
        raise InvalidValue(f"priority_from: got {source!r}{did_you_mean(str(source), PRIORITIES_FROM)}")
    check_number("priority_epsilon", arguments["priority_epsilon"], 0.0, open_low=True)
    check_int("batch_divisor", arguments["batch_divisor"], 1)
    check_number("target_noise", arguments["target_noise"], 0.0)
    head = arguments["head"]
    if not (isinstance(head, type) and issubclass(head, nn.Module)):
        raise InvalidType(f"head: got {head!r}, expected a class such as QuantileHead")
    if isinstance(arguments["bootstrap"], type) or not callable(arguments["bootstrap"]):
        raise InvalidType(f"bootstrap: got {arguments['bootstrap']!r}, expected an object such as Greedy()")


def check_agent(agent: ValueAlgorithm) -> None:
    """
    What can only be judged once the environment is known.

    :param agent: an agent with an environment
    :raises InvalidValue: actions that are not discrete, or do not start at 0
    :raises InvalidType: a policy of another library
    """
    space = agent.action_space
    if not isinstance(space, spaces.Discrete):
        raise InvalidValue(
            f"{type(agent).__name__} needs a Discrete action space, but the environment has {describe_space(space)}; "
            "discretise it, or use an agent for continuous actions such as PPO"
        )
    if space.start != 0:
        raise InvalidValue(f"action space: got actions that start at {space.start}, expected them to start at 0")
    if not issubclass(agent.policy_class, ValuePolicy):
        raise InvalidType(
            f"policy: got class {agent.policy_class.__name__}, expected 'MlpPolicy', 'CnnPolicy', 'MultiInputPolicy' "
            "or a subclass of sbbatch.policies.ValuePolicy"
        )
    if agent.n_envs > agent.target_update_interval:
        warnings.warn(
            f"The number of environments used is greater than the target_update_interval ({agent.n_envs} > "
            f"{agent.target_update_interval}): the target network is updated at every vector step",
            stacklevel=4,
        )


def check_batch_size(batch_size: object, buffer_size: int, batch_divisor: int = 1) -> int:
    """
    :param batch_size: samples per gradient step
    :param buffer_size: transitions the replay buffer holds
    :param batch_divisor: parts that a batch is split into
    :raises InvalidValue: below 1, more than the buffer holds, or not divisible
    """
    checked = check_int("batch_size", batch_size, 1)
    if checked > buffer_size:
        raise InvalidValue(f"batch_size: got {checked}, expected at most buffer_size = {buffer_size}")
    if checked % batch_divisor:
        raise InvalidValue(f"batch_size: got {checked}, expected a multiple of batch_divisor = {batch_divisor}")
    return checked


def check_train_freq(train_freq: object) -> None:
    """
    :param train_freq: vector steps between updates, or ``(n, "step")``, or ``(n, "episode")``
    :raises InvalidValue: the frequency is below 1, or the unit is unknown
    """
    if isinstance(train_freq, TrainFreq):
        return
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    check_int("train_freq", frequency, 1)
    if unit not in ("step", "episode"):
        raise InvalidValue(f"train_freq: got unit {unit!r}, expected 'step' or 'episode'")
