"""What a replay buffer hands to the train step."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import DictReplayBufferSamples, ReplayBufferSamples

Observations = th.Tensor | dict[str, th.Tensor]


class Following(NamedTuple):
    """What came after the first observation of each transition, step by step."""

    observations: Observations  # (batch, steps, ...)
    actions: th.Tensor  # (batch, steps) int64, those that led there
    mask: th.Tensor  # (batch, steps) float32: 1 until the episode ends, then 0: what it ends with has no part in it


@dataclass(frozen=True)
class ReplayBatch:
    """
    A batch of n-step transitions.

    ``discounts`` is the bootstrap factor of each sample: ``gamma^k`` after ``k`` summed rewards, and 0 if the episode
    terminated there (not if it was truncated), so that a target is always ``rewards + discounts * value``.
    """

    observations: Observations  # (batch, ...)
    actions: th.Tensor  # (batch,) int64
    rewards: th.Tensor  # (batch,) float32, n-step sums
    next_observations: Observations  # (batch, ...)
    discounts: th.Tensor  # (batch,) float32
    weights: th.Tensor  # (batch,) float32, importance weights; ones for uniform replay
    indices: np.ndarray  # (batch,) int64, for `update_priorities`
    following: Following | None = None  # on request: `FrameReplayBuffer.n_following`

    def __len__(self) -> int:
        return len(self.actions)

    def split(self, n_parts: int) -> list[ReplayBatch]:
        """
        :param n_parts: how many; must divide the size of the batch
        :return: disjoint parts of equal size, in order
        """
        size = len(self) // n_parts
        assert size * n_parts == len(self), f"{len(self)} samples do not split into {n_parts} equal parts"
        return [self] if n_parts == 1 else [self._part(slice(i * size, (i + 1) * size)) for i in range(n_parts)]

    def _part(self, part: slice) -> ReplayBatch:
        def of(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: of(item) for key, item in value.items()}
            if isinstance(value, Following):
                return Following(*map(of, value))
            return None if value is None else value[part]

        return ReplayBatch(*(of(getattr(self, field.name)) for field in fields(self)))

    @classmethod
    def from_sb3(cls, samples: ReplayBufferSamples | DictReplayBufferSamples, gamma: float) -> ReplayBatch:
        """
        The batch of one of SB3's own buffers (hindsight replay, for instance).

        :param samples: what the SB3 buffer returned; columns ``(batch, 1)``
        :param gamma: discount used where the samples carry none (one-step buffers)
        """
        rewards = samples.rewards.flatten()
        discounts = th.full_like(rewards, gamma) if samples.discounts is None else samples.discounts.flatten()
        return cls(
            observations=samples.observations,
            actions=samples.actions.long().flatten(),
            rewards=rewards,
            next_observations=samples.next_observations,
            discounts=discounts * (1 - samples.dones.flatten()),
            weights=th.ones_like(rewards),
            indices=np.zeros(len(rewards), dtype=np.int64),
        )
