"""What agents with action values have in common, from replay or from rollouts: how they act and optimize."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from sbbatch.agents.base.agent import Agent
from sbbatch.agents.base.measuring import in_parts, undisturbed
from sbbatch.batch.protocol import Behavior
from sbbatch.components.exploration import EpsilonGreedy
from sbbatch.functional.divergence import behavioral_divergence
from sbbatch.networks.layers import stochastic
from sbbatch.networks.value_policy import ValueNetwork, ValuePolicy


class QLearningAgent(Agent):
    """
    Base of agents that act on the greedy action of a value network, whether they learn from replay or from rollouts.

    Exploration throws one coin for each environment. Exploration and noise draw from generators of the agent's own,
    whose states are saved with the model.
    """

    policy: ValuePolicy
    action_space: spaces.Discrete
    exploration_rate: float
    max_grad_norm: float | None
    exploration: EpsilonGreedy
    noise_rng: np.random.Generator  # noisy layers, sampled quantiles, target noise
    last_loss = math.nan  # of the last gradient step, as it was optimized: with importance weights

    def _make_generators(self) -> None:
        self.exploration = EpsilonGreedy(int(self.action_space.n), seed=self._seed_of(0))
        self.noise_rng = np.random.default_rng(self._seed_of(2))
        self._restore_generators()

    def _set_generators(self, states: dict[str, Any]) -> None:
        self.exploration.set_state(states["exploration"])
        self.noise_rng.bit_generator.state = states["noise"]

    def _seed_of(self, stream: int) -> tuple[int, int] | None:
        """Seeds of independent streams, so that exploration and replay do not draw the same numbers."""
        return None if self.seed is None else (self.seed, stream)

    @property
    def q_net(self) -> ValueNetwork:
        """The online network: observations ``(batch, *shape)`` -> action values ``(batch, actions)``."""
        return self.policy.q_net

    def _choose(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[np.ndarray, Any]:
        observation = observation if isinstance(observation, dict) else np.asarray(observation)
        if deterministic or not self.policy.is_vectorized_observation(observation):
            with nullcontext() if deterministic else stochastic(self.q_net, self.noise_rng):
                actions, state = self.policy.predict(observation, state, episode_start, deterministic=True)
            if not deterministic and self.exploration.explorers(1, self.exploration_rate)[0]:
                actions = self.exploration.random_actions(1)[0]
            return np.asarray(actions), state
        n = len(next(iter(observation.values())) if isinstance(observation, dict) else observation)
        explorers, actions = self.exploration.explorers(n, self.exploration_rate), self.exploration.random_actions(n)
        if not explorers.all():  # the network is asked only if somebody is greedy
            with stochastic(self.q_net, self.noise_rng):
                actions = np.where(explorers, actions, self._greedy_actions(observation))
        return actions, state

    def _greedy_actions(self, observations: np.ndarray | dict[str, np.ndarray]) -> np.ndarray:
        """``(n,)`` for a batch as the environment hands it over; SB3's ``policy.predict`` takes twice as long."""
        if self.policy.training:
            self.policy.set_training_mode(False)
        if isinstance(observations, dict) or observations.shape[1:] != self.observation_space.shape:
            return self.policy.predict(observations, deterministic=True)[0]  # it also transposes images
        with th.inference_mode():
            return self.q_net(obs_as_tensor(observations, self.device)).argmax(dim=1).cpu().numpy()

    def _optimize(self, loss: th.Tensor) -> float:
        """One gradient step; returns the loss."""
        self.last_loss = value = loss.item()
        self._require_finite_loss(value)
        parameters = list(self.q_net.parameters())
        for parameter in parameters:  # `zero_grad` does so too, but records a profile of it each time
            parameter.grad = None
        loss.backward()
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
        self.policy.optimizer.step()
        return value

    def behavior(self, observations: PyTorchObs) -> Behavior:
        """Greedy actions int64 ``(states,)``."""
        with undisturbed(self.policy):
            return (th.cat([self.q_net(part).argmax(dim=1) for part in in_parts(observations)]),)

    def divergence(self, before: Behavior, after: Behavior) -> float:
        """Part of the states whose greedy action changed."""
        return behavioral_divergence(before[0], after[0])

    def _note_state(self) -> None:
        super()._note_state()
        noise = dict(self.noise_rng.bit_generator.state)
        self._generator_states = {"exploration": self.exploration.get_state(), "noise": noise}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "exploration", "noise_rng", "last_loss"]
