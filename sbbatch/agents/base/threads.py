"""How many threads an agent's gradient steps are worth, by timing them."""

from __future__ import annotations

import time
from typing import Any

import torch as th

from sbbatch.agents.base.agent import Agent
from sbbatch.agents.base.measuring import buffers_kept, streams_kept, undisturbed
from sbbatch.agents.base.smoke_test import sampled_observations

AS_FAST = 1.1  # times as long as the fastest: less is noise, and more threads take cores from somebody else


def fastest_threads(agent: Agent, seconds: float = 1.0) -> int:
    """
    The fewest of PyTorch's threads with which a gradient of a made-up minibatch, as large as the agent's own, takes at
    most a tenth longer than with the fastest number: 1, 2, 4, ... up to the present one. The agent stays as it is, and
    so do PyTorch's threads.

    :param seconds: to measure for, in all; one gradient with each number is timed in any case
    :return: the present number where the agent does not compute on the CPU
    """
    most = th.get_num_threads()
    counts = [2**i for i in range(most.bit_length()) if 2**i < most] + [most]
    if len(counts) == 1 or agent.device.type != "cpu":
        return most
    policy: Any = agent.policy
    observations = sampled_observations(agent.observation_space, agent.device, agent.batch_size)  # type: ignore[attr-defined]
    times = {}
    try:
        with undisturbed(policy), buffers_kept(policy), streams_kept(agent.device), th.enable_grad():
            for count in counts:
                th.set_num_threads(count)
                _gradient(policy, observations)  # the first one also allocates
                began, n, times[count] = time.perf_counter(), 0, 0.0
                while n == 0 or n * times[count] < seconds / len(counts):
                    _gradient(policy, observations)
                    n += 1
                    times[count] = (time.perf_counter() - began) / n
    finally:
        th.set_num_threads(most)
    return next(count for count in counts if times[count] <= AS_FAST * min(times.values()))


def _gradient(policy: Any, observations: Any) -> None:
    if hasattr(policy, "q_net"):
        loss = policy.q_net(observations).mean()
    else:
        actions = policy.get_distribution(observations)
        loss = policy.predict_values(observations).mean() + actions.log_prob(actions.get_actions()).mean()
    loss.backward()
    policy.zero_grad()
