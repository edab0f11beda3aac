"""Exploration schedules, all in agent steps (one agent step = four ALE frames)."""

from __future__ import annotations


def dopamine_epsilon(step: int, warmup_steps: int, decay_steps: int, final_eps: float) -> float:
    """
    Linear decay from 1 that starts after the warm-up (Dopamine: ``linearly_decaying_epsilon``).

    :param step: agent steps taken so far
    :param warmup_steps: agent steps before learning starts; epsilon stays 1 until then
    :param decay_steps: agent steps from 1 to ``final_eps``
    :param final_eps: last value
    """
    remaining = (1.0 - final_eps) * (warmup_steps + decay_steps - step) / decay_steps
    return final_eps + min(max(remaining, 0.0), 1.0 - final_eps)


def geometric_epsilon(step: int, decay_steps: int, final_eps: float) -> float:
    """
    Geometric decay from 1 towards ``final_eps``, as BTR's released code does it: after each stored transition the
    distance to ``final_eps`` shrinks by the factor ``1 - 1 / decay_steps``. (BTR's table reads like a linear decay.)

    :param step: transitions stored so far
    :param decay_steps: time constant in agent steps
    :param final_eps: limit
    """
    return final_eps + (1.0 - final_eps) * (1.0 - 1.0 / decay_steps) ** step


def linear_epsilon(progress: float, fraction: float, initial_eps: float, final_eps: float) -> float:
    """
    Linear decay over the first ``fraction`` of training (SB3's ``exploration_fraction``; PQN).

    :param progress: part of the training done, in [0, 1]
    :param fraction: part of the training over which epsilon falls
    :param initial_eps: first value
    :param final_eps: last value
    """
    if progress >= fraction:
        return final_eps
    return initial_eps + (final_eps - initial_eps) * progress / fraction
