"""What the arguments of an agent may be, beyond type and limits."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule, TrainFreq, TrainFrequencyUnit

from sbbatch.arguments import Within, in_python
from sbbatch.envs.checks import SIMPLE_SPACES
from sbbatch.errors import (
    InvalidType,
    InvalidValue,
    check_int,
    check_keywords,
    check_schedule,
    describe,
    describe_space,
    did_you_mean,
)
from sbbatch.networks.checks import OF_POLICIES
from sbbatch.replay.buffer import FrameReplayBuffer

PolicyT = TypeVar("PolicyT")


def _learning_rate(name: str, value: Any) -> Any:
    """A warm-up or decay may touch 0."""
    if not any(check_schedule(name, value, 0.0, 1.0)):
        raise InvalidValue(f"{name}: got 0 from beginning to end, expected a number in (0, 1]")
    return value


def _device(name: str, device: Any) -> Any:
    """A GPU that is not there becomes the CPU, as in SB3, with a warning; PyTorch knows more names than it can use."""
    try:
        if not th.cuda.is_available() and th.device("cpu" if device == "auto" else device).type == "cuda":
            warnings.warn(f"{name}: got {str(device)!r}, but there is no GPU here; using the CPU", stacklevel=6)
            return "cpu"
        th.zeros(1, device="cpu" if device == "auto" else device).item()
    except (RuntimeError, AssertionError, TypeError):
        raise InvalidValue(
            f"{name}: got {str(device)!r}, on which PyTorch cannot compute here; expected auto, cpu, cuda or the like"
        ) from None
    return device


def _policy_kwargs(name: str, given: Any) -> Any:
    """The policy itself knows which names there are."""
    if given is not None:
        check_keywords(name, given, None, {*OF_POLICIES, "head_class", "auxiliary", "use_sde"})
        for part in ("features_extractor_kwargs", "optimizer_kwargs"):
            check_keywords(f"{name}: {part}", given.get(part) or {}, None)
    return in_python(given)


def as_train_freq(name: str, train_freq: Any) -> TrainFreq:
    """Vector steps between updates, ``(n, "step")`` or ``(n, "episode")`` in SB3's form."""
    if isinstance(train_freq, TrainFreq):
        return train_freq
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    checked = check_int(name, frequency, 1, hint=" or a tuple such as (1, 'episode')")
    if unit not in ("step", "episode"):
        raise InvalidValue(f"{name}: got unit {unit!r}, expected 'step' or 'episode'")
    return TrainFreq(checked, TrainFrequencyUnit(unit))


def _folder(name: str, folder: Any) -> str | None:
    if not (folder is None or isinstance(folder, (str, os.PathLike))):
        raise InvalidType(f"{name}: got {describe(folder)}, expected a folder")
    return None if folder is None else os.fspath(folder)


def as_steps(name: str, steps: Any) -> int:
    """A whole float such as 1e6 is a habit, not a mistake."""
    return check_int(name, int(steps) if isinstance(steps, float) and steps.is_integer() else steps, 1)


def check_callbacks(name: str, given: Any) -> Any:
    """``None``, a callback, a function, or a list of callbacks and functions."""
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, type) or not (one is None or callable(one) or isinstance(one, BaseCallback)):
            raise InvalidType(f"{name}: got {describe(one)}, expected a callback, a function or a list of them")
    return given


# Arguments that several agents have.
Policy = str | type[BasePolicy]
Environment = Annotated[GymEnv | str | None, lambda _, env: env]  # checked where it is wrapped
LearningRate = Annotated[float | Schedule, Within(0.0, 1.0), _learning_rate]
PolicyKwargs = Annotated[dict[str, Any] | None, _policy_kwargs]
Device = Annotated[th.device | str, _device]
Seed = Annotated[int, Within(0, 2**32 - 1)] | None
Window = Annotated[int, Within(1, 2**31 - 1)]
Folder = Annotated[str | None, _folder]


def of_sb3(algorithm: type[BaseAlgorithm], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an agent's constructor that SB3's takes as they are."""
    names = inspect.signature(algorithm).parameters.keys() - {"policy", "env", "_init_setup_model"}
    return {name: value for name, value in given.items() if name in names}


def check_policy(policy: Any, aliases: Mapping[str, type[Any]], base: type[PolicyT]) -> type[PolicyT]:
    """The class that a name stands for, or the class itself if it extends ``base``."""
    if isinstance(policy, str) and policy not in aliases:
        raise InvalidValue(f"policy: got {policy!r}{did_you_mean(policy, aliases)}")
    policy_class: Any = aliases[policy] if isinstance(policy, str) else policy
    fits = isinstance(policy_class, type) and issubclass(policy_class, base)
    if fits and getattr(policy_class, "has_target", None) == getattr(base, "has_target", None):
        return policy_class
    names = ", ".join(f"'{name}'" for name in aliases)
    raise InvalidType(
        f"policy: got {describe(policy)}, expected {names} or a subclass of {base.__module__}.{base.__name__}"
    )


def check_batch_size(batch_size: object, buffer_size: int, batch_divisor: int = 1, name: str = "batch_size") -> int:
    """A batch must fit in the buffer and split into ``batch_divisor`` parts."""
    checked = check_int(name, batch_size, 1)
    if checked > buffer_size:
        raise InvalidValue(f"{name}: got {checked}, expected at most buffer_size = {buffer_size}")
    if checked % batch_divisor:
        raise InvalidValue(f"{name}: got {checked}, expected a multiple of batch_divisor = {batch_divisor}")
    return checked


def check_replay_arguments(arguments: Mapping[str, Any]) -> None:
    """What the arguments of a replay agent must be together; each of them has been checked."""
    check_batch_size(arguments["batch_size"], arguments["buffer_size"], arguments["batch_divisor"])
    if arguments["exploration_decay_steps"] is not None:
        if arguments["exploration_initial_eps"] != 1.0:
            raise InvalidValue(
                "exploration_initial_eps: must be 1 with exploration_decay_steps, whose schedule starts there"
            )
    elif arguments["exploration_decay"] == "geometric":
        raise InvalidValue("exploration_decay: 'geometric' needs exploration_decay_steps, its time constant")
    if arguments["samples_per_step"] is not None:
        if arguments["gradient_steps"] == 0:
            raise InvalidValue("gradient_steps: got 0, with which samples_per_step has no effect; leave it out")
        if arguments["train_freq"].unit is TrainFrequencyUnit.EPISODE:
            raise InvalidValue("samples_per_step: needs train_freq in vector steps, not in episodes")
    # SB3's buffers know n-step returns only from their own arguments; those of our samplers are the agent's.
    buffer_class: type[ReplayBuffer] = arguments["replay_buffer_class"] or FrameReplayBuffer
    given = arguments["replay_buffer_kwargs"] or {}
    taken = {"buffer_size", "observation_space", "action_space", "device", "n_envs", "optimize_memory_usage", "env"}
    if issubclass(buffer_class, FrameReplayBuffer):
        taken |= {"n_steps", "gamma", "n_following"} | (set() if "sampler_class" in given else {"sampler_kwargs"})
    elif arguments["prioritized"] or (arguments["n_steps"] > 1 and "n_steps" not in given):
        neutral = {"prioritized": False, "n_steps": 1}
        cure = ", ".join(f"{name}={value}" for name, value in neutral.items() if arguments[name] != value)
        raise InvalidValue(
            f"replay_buffer_class: got {buffer_class.__name__}, but n-step returns and priorities need sbbatch's own "
            f"replay buffer; give {cure}"
        )
    elif arguments["auxiliary"].n_following:
        raise InvalidValue(f"auxiliary: got {arguments['auxiliary']}, which needs sbbatch's own replay buffer")
    check_keywords("replay_buffer_kwargs", given, buffer_class, taken)


def check_discrete_actions(agent: str, space: spaces.Space) -> None:
    """Numbered actions."""
    if not isinstance(space, spaces.Discrete):
        raise InvalidValue(
            f"{agent} needs a Discrete action space, but the environment has {describe_space(space)}; "
            "discretise it, or use an agent for continuous actions such as PPO"
        )


def check_number_of_environments(n_envs: int, train_freq: TrainFreq, target_update_interval: int) -> None:
    """Refuses episodes counted in several environments, and warns as SB3 does."""
    if n_envs > 1 and train_freq.unit is TrainFrequencyUnit.EPISODE:
        raise InvalidValue(
            f"train_freq: got episodes with {n_envs} environments, whose episodes end at different times; count "
            "vector steps, such as train_freq=4, or use one environment"
        )
    if n_envs > target_update_interval:
        warnings.warn(
            f"The number of environments used is greater than the target_update_interval ({n_envs} > "
            f"{target_update_interval}): the target network is updated at every vector step",
            stacklevel=6,
        )


def check_any_actions(space: spaces.Space) -> None:
    """Of a kind that SB3's policies play."""
    got = f"action space: got {describe_space(space)}"
    if not isinstance(space, SIMPLE_SPACES):
        raise InvalidValue(f"{got}, expected Box, Discrete, MultiDiscrete or MultiBinary; change it with a wrapper")
    if isinstance(space, (spaces.MultiBinary, spaces.MultiDiscrete)) and len(space.shape) != 1:
        raise InvalidValue(f"{got}, expected one dimension; change it with a wrapper")
