"""What the arguments of a value-based agent may be; checked before anything is built."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from torch import nn

from sbbatch.batch.callback import BatchSizeCallback
from sbbatch.envs.checks import SIMPLE_SPACES
from sbbatch.errors import (
    InvalidType,
    InvalidValue,
    check_bool,
    check_int,
    check_keywords,
    check_number,
    check_schedule,
    describe,
    describe_space,
    did_you_mean,
)
from sbbatch.networks.checks import OF_POLICIES
from sbbatch.replay.buffer import FrameReplayBuffer

if TYPE_CHECKING:
    from sbbatch.agents.base.replay import ReplayAgent

PolicyT = TypeVar("PolicyT")
EXPLORATION_DECAYS = ("linear", "geometric")
PRIORITIES_FROM = ("td_loss", "td_error")
_SMALLEST = {  # allowed value of each count
    "buffer_size": 1,
    "batch_size": 1,
    "n_steps": 1,
    "target_update_interval": 1,
    "learning_starts": 0,
    "gradient_steps": -1,
    "batch_divisor": 1,
}
_FRACTIONS = ("gamma", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """
    :param arguments: constructor arguments by name, or the attributes of an agent they became
    :raises InvalidValue: a value that is not allowed
    :raises InvalidType: a value of the wrong type
    """
    for name, low in _SMALLEST.items():
        check_int(name, arguments[name], low)
    check_fractions(arguments, _FRACTIONS)
    for name in ("prioritized", "random_warmup", "optimize_memory_usage"):
        check_bool(name, arguments[name])
    check_learning_rate(arguments["learning_rate"])
    check_positive_or_none("max_grad_norm", arguments["max_grad_norm"])
    as_train_freq(arguments["train_freq"])
    _check_exploration(arguments)
    _check_priorities(arguments)
    _check_parts(arguments)
    check_batch_size(arguments["batch_size"], arguments["buffer_size"], arguments["batch_divisor"])
    check_surroundings(arguments)


def check_fractions(arguments: Mapping[str, Any], names: Iterable[str]) -> None:
    """
    :param arguments: constructor arguments by name
    :param names: those that lie between 0 and 1
    :raises InvalidValue: one that does not
    :raises InvalidType: one that is no number
    """
    for name in names:
        check_number(name, arguments[name], 0.0, 1.0)


def check_learning_rate(learning_rate: object) -> None:
    """
    :param learning_rate: a number, or a function of the progress remaining; a warm-up or decay may touch 0
    :raises InvalidValue: outside [0, 1] somewhere, or 0 throughout
    :raises InvalidType: something else
    """
    if not any(check_schedule("learning_rate", learning_rate, 0.0, 1.0)):
        raise InvalidValue("learning_rate: got 0 from beginning to end, expected a number in (0, 1]")


def check_positive_or_none(name: str, value: object) -> None:
    """
    :param name: the argument's name, as the user writes it
    :param value: what was given; None switches off what it limits
    :raises InvalidValue: not above 0
    :raises InvalidType: no number
    """
    if value is not None:
        check_number(name, value, 0.0, open_low=True)


def _check_exploration(arguments: Mapping[str, Any]) -> None:
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


def _check_priorities(arguments: Mapping[str, Any]) -> None:
    """Also where they are not used: what is nonsense now would be found when somebody switches them on."""
    check_schedule("importance_exponent", arguments["importance_exponent"], 0.0, 1.0)
    check_number("priority_exponent", arguments["priority_exponent"], 0.0, 10.0)
    check_number("priority_epsilon", arguments["priority_epsilon"], 0.0, open_low=True)
    source = arguments["priority_from"]
    if source not in PRIORITIES_FROM:
        raise InvalidValue(f"priority_from: got {source!r}{did_you_mean(str(source), PRIORITIES_FROM)}")


def _check_parts(arguments: Mapping[str, Any]) -> None:
    check_number("target_noise", arguments["target_noise"], 0.0)
    check_batch_size_callback(arguments["batch_size_callback"])
    if arguments["samples_per_step"] is not None:
        check_number("samples_per_step", arguments["samples_per_step"], 0.0, 1e6, open_low=True)
        if arguments["gradient_steps"] == 0:
            raise InvalidValue("gradient_steps: got 0, with which samples_per_step has no effect; leave it out")
        if as_train_freq(arguments["train_freq"]).unit is TrainFrequencyUnit.EPISODE:
            raise InvalidValue("samples_per_step: needs train_freq in vector steps, not in episodes")
    head, bootstrap = arguments["head"], arguments["bootstrap"]
    if not (isinstance(head, type) and issubclass(head, nn.Module)):
        raise InvalidType(f"head: got {describe(head)}, expected a class such as QuantileHead")
    if isinstance(bootstrap, type) or not callable(bootstrap):
        raise InvalidType(f"bootstrap: got {describe(bootstrap)}, expected an object such as Greedy()")
    policy_kwargs, replay_kwargs = arguments["policy_kwargs"], arguments["replay_buffer_kwargs"]
    check_policy_kwargs(policy_kwargs, {"head_class"})
    buffer_class = arguments["replay_buffer_class"] or FrameReplayBuffer
    if not (isinstance(buffer_class, type) and issubclass(buffer_class, ReplayBuffer)):
        raise InvalidType(
            f"replay_buffer_class: got {describe(buffer_class)}, expected a subclass of SB3's ReplayBuffer"
        )
    if replay_kwargs is not None:
        check_keywords("replay_buffer_kwargs", replay_kwargs, buffer_class, _taken(buffer_class, replay_kwargs))


def check_policy_kwargs(policy_kwargs: Any, taken: Collection[str] = ()) -> None:
    """
    :param policy_kwargs: what was given; the policy itself knows which names there are
    :param taken: names that the agent passes itself
    :raises InvalidType: no dictionary, or a name that SB3 or the agent passes
    """
    if policy_kwargs is not None:
        check_keywords("policy_kwargs", policy_kwargs, None, {*OF_POLICIES, *taken})
        for name in ("features_extractor_kwargs", "optimizer_kwargs"):
            check_keywords(f"policy_kwargs: {name}", policy_kwargs.get(name) or {}, None)


def _taken(buffer_class: type[ReplayBuffer], given: Any) -> set[str]:
    """What a replay buffer gets from its agent; SB3's know n-step returns only from their own arguments."""
    taken = {"buffer_size", "observation_space", "action_space", "device", "n_envs", "optimize_memory_usage", "env"}
    if issubclass(buffer_class, FrameReplayBuffer):
        taken |= {"n_steps", "gamma"}
        if (
            isinstance(given, Mapping) and "sampler_class" not in given
        ):  # those of our samplers are arguments of the agent
            taken.add("sampler_kwargs")
    return taken


def check_surroundings(arguments: Mapping[str, Any]) -> None:
    """
    What has nothing to do with learning.

    :param arguments: constructor arguments of any agent
    :raises InvalidValue: one that is not allowed
    :raises InvalidType: one of the wrong type
    """
    window = "_stats_window_size" if "_stats_window_size" in arguments else "stats_window_size"  # SB3's attribute
    check_int("stats_window_size", arguments[window], 1, 2**31 - 1)
    check_int("verbose", arguments["verbose"], 0)
    if arguments["seed"] is not None:
        check_int("seed", arguments["seed"], 0, 2**32 - 1)
    folder = arguments["tensorboard_log"]
    if not (folder is None or isinstance(folder, (str, os.PathLike))):
        raise InvalidType(f"tensorboard_log: got {describe(folder)}, expected a folder")
    check_device("device", arguments["device"])


def check_device(name: str, device: object) -> None:
    """
    :param name: as the user writes it
    :param device: what was given
    :raises InvalidValue: PyTorch knows no such device
    """
    if device == "auto":
        return
    try:
        kind = th.device(device).type  # type: ignore[call-overload]
    except (RuntimeError, TypeError):
        raise InvalidValue(f"{name}: got {device!r}, expected auto, cpu, cuda or the like") from None
    missing = kind == "cuda" and not th.cuda.is_available()  # SB3 would silently take the processor
    if missing or not _can_compute(device):
        raise InvalidValue(f"{name}: got {str(device)!r}, but PyTorch finds no such device here; expected auto or cpu")


def _can_compute(device: Any) -> bool:
    """PyTorch knows the names of devices it was not built for, of a GPU too many, and of one without numbers (meta)."""
    try:
        th.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):
        return False
    return True


def check_policy(policy: object, aliases: Mapping[str, type[Any]], base: type[PolicyT]) -> type[PolicyT]:
    """
    :param policy: a name, or a class
    :param aliases: the names an agent knows
    :param base: what the class must extend
    :return: the class
    :raises InvalidValue: an unknown name
    :raises InvalidType: something else than a policy of ours
    """
    if isinstance(policy, str) and policy not in aliases:
        raise InvalidValue(f"policy: got {policy!r}{did_you_mean(policy, aliases)}")
    policy_class: Any = aliases[policy] if isinstance(policy, str) else policy
    fits = isinstance(policy_class, type) and issubclass(policy_class, base)
    if fits and getattr(policy_class, "has_target", None) == getattr(base, "has_target", None):
        return policy_class
    got = f"class {policy_class.__name__}" if isinstance(policy_class, type) else describe(policy_class)
    names = ", ".join(f"'{name}'" for name in aliases)
    raise InvalidType(f"policy: got {got}, expected {names} or a subclass of {base.__module__}.{base.__name__}")


def check_batch_size(batch_size: object, buffer_size: int, batch_divisor: int = 1, name: str = "batch_size") -> int:
    """
    :param batch_size: samples per gradient step
    :param buffer_size: transitions the replay buffer holds
    :param batch_divisor: parts that a batch is split into
    :param name: what the user calls it
    :raises InvalidValue: below 1, more than the buffer holds, or not divisible
    """
    checked = check_int(name, batch_size, 1)
    if checked > buffer_size:
        raise InvalidValue(f"{name}: got {checked}, expected at most buffer_size = {buffer_size}")
    if checked % batch_divisor:
        raise InvalidValue(f"{name}: got {checked}, expected a multiple of batch_divisor = {batch_divisor}")
    return checked


def check_batch_size_callback(callback: object) -> None:
    """
    :param callback: what was given as ``batch_size_callback``
    :raises InvalidType: something else than a callback that changes the batch size
    """
    if not (callback is None or isinstance(callback, BatchSizeCallback)):
        raise InvalidType(f"batch_size_callback: got {describe(callback)}, expected an object such as ABS(8, 64)")


def as_train_freq(train_freq: object) -> TrainFreq:
    """
    :param train_freq: vector steps between updates, or ``(n, "step")``, or ``(n, "episode")``
    :return: in SB3's form
    :raises InvalidValue: the frequency is below 1, or the unit is unknown
    """
    if isinstance(train_freq, TrainFreq):
        return train_freq
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    hint = "" if isinstance(frequency, float) else " or a tuple such as (1, 'episode')"
    checked = check_int("train_freq", frequency, 1, hint=hint)
    if unit not in ("step", "episode"):
        raise InvalidValue(f"train_freq: got unit {unit!r}, expected 'step' or 'episode'")
    return TrainFreq(checked, TrainFrequencyUnit(unit))


def check_agent(agent: ReplayAgent) -> None:
    """
    What can only be judged once the environment is known.

    :param agent: with its arguments and, unless it has none, its environment
    :raises InvalidType: no environment
    :raises InvalidValue: actions that are not discrete or do not start at 0, or episodes counted in several games
    """
    check_discrete_actions(agent)
    if agent.n_envs > 1 and as_train_freq(agent.train_freq).unit is TrainFrequencyUnit.EPISODE:
        raise InvalidValue(
            f"train_freq: got episodes with {agent.n_envs} environments, whose episodes end at different times; count "
            "vector steps, such as train_freq=4, or use one environment"
        )
    if agent.env is not None and agent.n_envs > agent.target_update_interval:
        warnings.warn(
            f"The number of environments used is greater than the target_update_interval ({agent.n_envs} > "
            f"{agent.target_update_interval}): the target network is updated at every vector step",
            stacklevel=5,
        )


def check_has_spaces(agent: BaseAlgorithm) -> None:
    """
    :param agent: with its arguments and, unless it has none, its environment
    :raises InvalidType: no environment
    """
    if not hasattr(agent, "observation_space"):
        name = type(agent).__name__
        raise InvalidType(f"env: got None, expected an environment or its id; {name}.load(path) loads a trained agent")


def check_discrete_actions(agent: BaseAlgorithm) -> None:
    """
    :param agent: with its arguments and, unless it has none, its environment
    :raises InvalidType: no environment
    :raises InvalidValue: actions that are not discrete or do not start at 0
    """
    check_has_spaces(agent)
    space: spaces.Space = agent.action_space
    if not isinstance(space, spaces.Discrete):
        raise InvalidValue(
            f"{type(agent).__name__} needs a Discrete action space, but the environment has {describe_space(space)}; "
            "discretise it, or use an agent for continuous actions such as PPO"
        )
    if space.start != 0:
        raise InvalidValue(f"action space: got actions that start at {space.start}, expected them to start at 0")


def check_any_actions(space: spaces.Space) -> None:
    """
    :param space: actions of an agent that is not bound to discrete ones
    :raises InvalidValue: of a kind that no policy is for, without bounds, or numbers that do not start at 0
    """
    got = f"action space: got {describe_space(space)}"
    if not isinstance(space, SIMPLE_SPACES):
        raise InvalidValue(f"{got}, expected Box, Discrete, MultiDiscrete or MultiBinary; change it with a wrapper")
    if isinstance(space, spaces.Box) and not space.is_bounded():
        raise InvalidValue(f"{got} without bounds, expected finite ones; change it with a wrapper")
    if isinstance(space, (spaces.MultiBinary, spaces.MultiDiscrete)) and len(space.shape) != 1:
        raise InvalidValue(f"{got}, expected one dimension; change it with a wrapper")
    if isinstance(space, spaces.Box) and not np.prod(space.shape):
        raise InvalidValue(f"{got}, expected at least one number")
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)) and np.any(space.start):
        raise InvalidValue(f"action space: got actions that start at {space.start}, expected them to start at 0")


def check_learn(agent: BaseAlgorithm, total_timesteps: Any, callback: Any, log_interval: Any) -> int:
    """
    :param agent: what shall learn
    :param total_timesteps: for how long; a whole float such as 1e6 is a habit, not a mistake
    :param callback: ``None``, a callback, a function, or a list of callbacks
    :param log_interval: episodes between log entries, ``None`` for none
    :return: the agent steps
    :raises InvalidValue: a number below 1, or an agent without an environment
    :raises InvalidType: something else
    """
    if agent.env is None:
        raise InvalidValue("learn: the agent has no environment; call set_env(env), or load it by load(path, env=env)")
    if log_interval is not None:
        check_int("log_interval", log_interval, 1)
    for one in callback if isinstance(callback, list) else [callback]:
        is_function = callable(one) and not isinstance(one, type) and one is callback
        if not (isinstance(one, BaseCallback) or is_function or callback is None):
            raise InvalidType(f"callback: got {describe(one)}, expected a callback, a function or a list of callbacks")
    whole = isinstance(total_timesteps, float) and total_timesteps.is_integer()
    return check_int("total_timesteps", int(total_timesteps) if whole else total_timesteps, 1)
