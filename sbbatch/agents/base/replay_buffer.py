"""From an agent's arguments to its replay buffer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.buffers import ReplayBuffer

from sbbatch.errors import InvalidValue, built
from sbbatch.replay.buffer import FrameReplayBuffer
from sbbatch.replay.samplers import PrioritizedSampler, UniformSampler

if TYPE_CHECKING:
    from sbbatch.agents.base.replay import ReplayAgent


def make_replay_buffer(agent: ReplayAgent, seed: tuple[int, int] | None) -> ReplayBuffer:
    """
    :param agent: whose buffer it is; its arguments decide
    :param seed: seed of the generator that draws batches
    :raises InvalidValue: n-step returns or priorities asked of a buffer of SB3, or arguments that it refuses
    """
    buffer_class = agent.replay_buffer_class or FrameReplayBuffer
    kwargs: dict[str, Any] = {"n_envs": agent.n_envs, "device": agent.device}
    if issubclass(buffer_class, FrameReplayBuffer):
        kwargs |= _frame_replay_kwargs(agent) | {"seed": seed}
    else:
        kwargs |= _sb3_replay_kwargs(agent, buffer_class)
    kwargs |= agent.replay_buffer_kwargs or {}
    place = agent.buffer_size, agent.observation_space, agent.action_space
    return built("replay_buffer_kwargs", buffer_class, *place, **kwargs)


def _frame_replay_kwargs(agent: ReplayAgent) -> dict[str, Any]:
    priorities = {
        "priority_exponent": agent.priority_exponent,
        "importance_exponent": agent.importance_exponent,
        "epsilon": agent.priority_epsilon,
    }
    return {
        "n_steps": agent.n_steps,
        "gamma": agent.gamma,
        "frame_stack": agent.frame_stack,
        "sampler_class": PrioritizedSampler if agent.prioritized else UniformSampler,
        "sampler_kwargs": priorities if agent.prioritized else {},
        # A model loaded to play, on a smaller machine, needs no room for training.
        "check_memory": agent.env is not None,
    }


def _sb3_replay_kwargs(agent: ReplayAgent, buffer_class: type[ReplayBuffer]) -> dict[str, Any]:
    kwargs: dict[str, Any] = {"optimize_memory_usage": agent.optimize_memory_usage}
    known = inspect.signature(buffer_class.__init__).parameters
    if "env" in known:  # hindsight replay asks it for rewards
        kwargs["env"] = agent.env
    if "gamma" in known:  # n-step replay sums rewards itself
        kwargs["gamma"] = agent.gamma
    if agent.prioritized or (agent.n_steps > 1 and "n_steps" not in (agent.replay_buffer_kwargs or {})):
        raise InvalidValue(
            f"n_steps and prioritized need sbbatch's own replay buffer, but replay_buffer_class is "
            f"{buffer_class.__name__}; leave it out, or configure that class by replay_buffer_kwargs"
        )
    return kwargs
