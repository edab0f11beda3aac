"""Exploration by epsilon-greedy actions."""

from __future__ import annotations

from typing import Any

import numpy as np


class EpsilonGreedy:
    """
    Decides which environments explore, with a coin for each of them, and with which action.

    SB3's DQN throws one coin for the whole vector of environments, so that with 64 of them all explore or none does.
    The generator belongs to this object; nothing here touches NumPy's global state.

    :param n_actions: number of discrete actions
    :param seed: seed of the generator, ``None`` for a random one
    """

    def __init__(self, n_actions: int, seed: int | tuple[int, ...] | None = None) -> None:
        self.n_actions = n_actions
        self.rng = np.random.default_rng(seed)

    def explorers(self, n_envs: int, epsilon: float) -> np.ndarray:
        """
        :param n_envs: number of environments
        :param epsilon: probability to explore, in [0, 1]
        :return: bool ``(n_envs,)``
        """
        return self.rng.random(n_envs) < epsilon

    def random_actions(self, n_envs: int) -> np.ndarray:
        """
        :param n_envs: number of environments
        :return: uniformly random actions, int64 ``(n_envs,)``
        """
        return self.rng.integers(self.n_actions, size=n_envs)

    def get_state(self) -> dict[str, Any]:
        """The generator's state, plain numbers only."""
        return dict(self.rng.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """
        :param state: what :meth:`get_state` returned
        """
        self.rng.bit_generator.state = state
