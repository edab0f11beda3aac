"""n-step returns with termination and truncation, computed when a batch is drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class NStepReturns(NamedTuple):
    """n-step sums and what is needed to bootstrap from where they end."""

    rewards: np.ndarray  # (batch,) float32: sum over i < k of gamma^i r_i
    discounts: np.ndarray  # (batch,) float32: gamma^k, 0 if terminated at step k - 1
    n_rewards: np.ndarray  # (batch,) int64: k, between 1 and n


def n_step_returns(rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, gamma: float) -> NStepReturns:
    """
    Sum rewards up to the first termination, the first truncation or the end of the window, whichever is first.

    A truncated window bootstraps with ``gamma^k`` of the rewards it really summed, never with the constant
    ``gamma^n`` (as BTR's code does), and is not thrown away (as in Dopamine).

    :param rewards: rewards of consecutive steps ``(batch, n)``
    :param terminated: whether the episode terminated at that step, bool ``(batch, n)``
    :param truncated: whether it was cut there for another reason, bool ``(batch, n)``
    :param gamma: discount factor
    """
    ended = terminated | truncated
    n = rewards.shape[1]
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), n - 1)  # (batch,)
    powers = gamma ** np.arange(n + 1)
    summed = np.arange(n) <= last[:, None]
    sums = (rewards * summed) @ powers[:n]
    bootstraps = ~terminated[np.arange(len(last)), last]
    return NStepReturns(sums.astype(np.float32), (powers[last + 1] * bootstraps).astype(np.float32), last + 1)
