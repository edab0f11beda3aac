"""
A peer for PQN in the benchmark: Q-learning from rollouts, written plainly, one PyTorch call after the other.

CleanRL has a PQN in PyTorch, but the newest release of its package (0.4.8) does not contain it. This one is ours, from
the paper (Gallici et al., "Simplifying Deep Temporal Difference Learning", ICLR 2025), in the form CleanRL gives it
and with its default settings: float frames, divided by 255 in ``forward``; ``nn.LayerNorm`` on NCHW maps;
``torch.optim.RAdam`` as it comes; every environment asks the network at every step; the targets in a loop over the
steps. Annealing of learning rate and exploration and all logging are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch as th
import torch.nn.functional as F
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

EPSILON, GAMMA, Q_LAMBDA = 0.01, 0.99, 0.65
LEARNING_RATE, MAX_GRAD_NORM = 2.5e-4, 10.0


class PlainNetwork(nn.Module):
    """The Nature DQN's layers, each but the last followed by a layer norm and ReLU."""

    def __init__(self, n_actions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_normed(nn.Conv2d(4, 32, 8, stride=4), [32, 20, 20]),
            *_normed(nn.Conv2d(32, 64, 4, stride=2), [64, 9, 9]),
            *_normed(nn.Conv2d(64, 64, 3), [64, 7, 7]),
            nn.Flatten(),
            *_normed(nn.Linear(64 * 7 * 7, 512), [512]),
            nn.Linear(512, n_actions),
        )
        for layer in self.layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.orthogonal_(layer.weight, 2**0.5)
                nn.init.constant_(layer.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, frames: th.Tensor) -> th.Tensor:
        """Action values ``(batch, actions)`` of float frames from 0 to 255, ``(batch, 4, 84, 84)``."""
        return self.layers(frames / 255.0)


def _normed(layer: nn.Module, shape: list[int]) -> list[nn.Module]:
    return [layer, nn.LayerNorm(shape), nn.ReLU()]


def lambda_targets(rewards: th.Tensor, dones: th.Tensor, next_values: th.Tensor) -> th.Tensor:
    """
    Q(lambda) from the back: ``target_t = r_t + gamma * (lambda * target_{t+1} + (1 - lambda) * max Q(s_{t+1}))``.

    After a step that ends an episode comes nothing; the last step of a rollout has the one-step target.

    :param rewards: ``(steps, envs)``
    :param dones: 1 where the step ended an episode ``(steps, envs)``
    :param next_values: largest action value of the state after the step ``(steps, envs)``
    :return: ``(steps, envs)``
    """
    targets = th.empty_like(rewards)
    following = next_values[-1]
    for t in reversed(range(len(rewards))):
        mixed = Q_LAMBDA * following + (1 - Q_LAMBDA) * next_values[t]
        targets[t] = following = rewards[t] + GAMMA * (1 - dones[t]) * mixed
    return targets


class PlainPQN:
    """Learns an Atari game in several copies, frames ``(4, 84, 84)``; ``n_steps`` of each make a rollout."""

    def __init__(self, env: VecEnv, n_steps: int, n_minibatches: int, n_epochs: int) -> None:
        self.env, self.n_steps, self.n_minibatches, self.n_epochs = env, n_steps, n_minibatches, n_epochs
        self.n_actions = int(env.action_space.n)  # type: ignore[attr-defined]
        self.network = PlainNetwork(self.n_actions)
        self.optimizer = th.optim.RAdam(self.network.parameters(), lr=LEARNING_RATE)
        shape = (n_steps, env.num_envs)
        self.frames = th.zeros(*shape, *env.observation_space.shape)  # type: ignore[misc]
        self.actions = th.zeros(shape, dtype=th.int64)
        self.rewards, self.dones, self.values = th.zeros(shape), th.zeros(shape), th.zeros(shape)
        self.now = _floats(env.reset())

    def learn(self, total_timesteps: int) -> None:
        """Play and learn whole rollouts, at least so many agent steps."""
        for _ in range(-(-total_timesteps // (self.n_steps * self.env.num_envs))):
            self.train(self.collect())

    @th.no_grad()
    def collect(self) -> th.Tensor:
        """Play a rollout and return its targets ``(steps, envs)``."""
        for t in range(self.n_steps):
            q_values = self.network(self.now)
            self.values[t], greedy = q_values.max(dim=1)
            explores = th.rand(len(greedy)) < EPSILON
            actions = th.where(explores, th.randint(self.n_actions, greedy.shape), greedy)
            self.frames[t], self.actions[t] = self.now, actions
            observations, rewards, dones, _ = self.env.step(actions.numpy())
            self.rewards[t], self.dones[t], self.now = _floats(rewards), _floats(dones), _floats(observations)
        last_value = self.network(self.now).max(dim=1).values
        return lambda_targets(self.rewards, self.dones, th.cat([self.values[1:], last_value[None]]))

    def train(self, targets: th.Tensor) -> None:
        """Learn from the rollout and its targets ``(steps, envs)``."""
        frames, actions, targets = self.frames.flatten(0, 1), self.actions.flatten(), targets.flatten()
        order = np.arange(len(targets))
        for _ in range(self.n_epochs):
            np.random.shuffle(order)
            for part in np.array_split(order, self.n_minibatches):
                predicted = self.network(frames[part]).gather(1, actions[part, None]).squeeze(1)
                loss = F.mse_loss(predicted, targets[part])
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRAD_NORM)
                self.optimizer.step()


def _floats(array: Any) -> th.Tensor:
    return th.as_tensor(array, dtype=th.float32)
