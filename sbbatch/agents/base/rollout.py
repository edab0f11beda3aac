"""Agents that learn from rollouts, whose length can change between two of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.agents.base.agent import Agent
from sbbatch.agents.base.collect import WatchedSteps
from sbbatch.agents.base.finite import require_finite_returns
from sbbatch.agents.base.measuring import at
from sbbatch.agents.base.smoke_test import try_network
from sbbatch.arguments import with_defaults
from sbbatch.batch.protocol import BatchScaling
from sbbatch.envs.make import id_of
from sbbatch.errors import InvalidValue, check_int
from sbbatch.replay.sizes import free_memory, n_bytes_of

Hold = Literal["n_minibatches", "minibatch_size"]


class RolloutAgent(Agent, OnPolicyAlgorithm):
    """
    Batch sizes of agents that learn from rollouts: steps per environment and rollout, ``n_steps``.

    A new length is asked for at any time and used by the next rollout; no step is lost. What stays is said by ``hold``:
    the number of minibatches, so that a longer rollout means larger gradient batches, or their size, so that it means
    more gradient steps. The epochs follow by one rule (:meth:`epochs_for`). Schedules count environment steps and do
    not notice.
    """

    n_minibatches: int
    n_epochs: int
    batch_size: int  # samples of a minibatch
    epoch_reference: int
    scale_epochs: bool
    hold: Hold = "n_minibatches"
    reference_length: ClassVar[int]  # of a rollout that `scaling_defaults` are for
    rollout_copies: ClassVar[int] = 1  # of the observations, while the agent learns from them
    _own_epochs: int  # `n_epochs` as it was given
    _held_size: int | None = None  # samples of a minibatch, if it is they that stay
    _requested_n_steps: int | None = None
    _n_rollouts = 0
    _n_gradient_steps = 0  # SB3's `_n_updates` of PPO are epochs
    _n_samples = 0  # trained on, each as often as it was

    def _set_up_resizing(self, n_epochs: int, epoch_reference: int | None, scale_epochs: bool) -> None:
        self.n_epochs = self._own_epochs = n_epochs
        self.epoch_reference = self.n_steps if epoch_reference is None else epoch_reference
        self.scale_epochs = scale_epochs

    @classmethod
    def as_attributes(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """A new ``n_steps`` also replaces the length that was asked for last."""
        attributes = super().as_attributes(arguments)
        if "n_epochs" in attributes:
            attributes["_own_epochs"] = attributes.pop("n_epochs")
        return attributes | ({"_requested_n_steps": None} if "n_steps" in attributes else {})

    def _settle(self) -> None:
        """Take the length that was asked for last, also before the agent was saved."""
        if self.epoch_reference is None:  # given to `load`
            self.epoch_reference = self._requested_n_steps or self.n_steps
        if self._requested_n_steps is not None:
            self._follow(self._requested_n_steps)
            self._requested_n_steps = None

    def _setup_model(self) -> None:
        self._settle()
        if self.env is not None:  # to play takes no rollouts
            self._check_memory("n_steps", self.n_steps)
        self.n_epochs = self.epochs_for(self.n_steps)
        super()._setup_model()
        try_network(self.policy, (self.policy_kwargs or {}).get("activation_fn"))
        if self.env is not None:
            self.env_id = id_of(self.env)

    @property
    def min_epochs(self) -> int:
        """Epochs on the shortest rollout."""
        return 1

    @property
    def batch_scaling(self) -> BatchScaling:
        """The defaults are for rollouts of ``reference_length`` and move with ``epoch_reference``."""
        own = self.scaling_defaults
        bounds = [max(size * self.epoch_reference // self.reference_length, 1) for size in (own.min_size, own.max_size)]
        return replace(own, min_size=bounds[0], max_size=bounds[1])

    @property
    def batch_time(self) -> int:
        """Rollouts until now."""
        return self._n_rollouts

    @property
    def size_multiple(self) -> int:
        """Minibatches of equal size: ``n_steps * n_envs`` must be a multiple of what is held, their number or size."""
        unit = self._held_size or self.n_minibatches
        return unit // math.gcd(self.n_envs, unit)

    @property
    def samples_per_unit(self) -> int:
        """Samples of one rollout step."""
        return self.n_envs

    def check_batch(self, name: str, size: object) -> int:
        """See :meth:`~sbbatch.batch.protocol.BatchScalable.check_batch`."""
        n_steps = check_int(name, size, 1)
        self._check_minibatches(name, n_steps)
        self._check_memory(name, n_steps)
        return n_steps

    def _check_minibatches(self, name: str, n_steps: int) -> None:
        if n_steps % self.size_multiple:
            nearest = max(round(n_steps / self.size_multiple), 1) * self.size_multiple
            parts = (
                f"minibatches of {self._held_size}" if self._held_size else f"{self.n_minibatches} equal minibatches"
            )
            raise InvalidValue(
                f"{name}: got {n_steps}, whose {n_steps * self.n_envs} samples in {self.n_envs} environments do not "
                f"split into {parts}; the nearest that do: {nearest}"
            )

    def _check_memory(self, name: str, n_steps: int) -> None:
        per_step = n_bytes_of(self.observation_space) * self.n_envs * self.rollout_copies
        needed, free = per_step * n_steps, free_memory()
        if hasattr(self, "rollout_buffer"):  # it makes room
            free += per_step * self.rollout_buffer.buffer_size
        if needed > free:
            fits = n_steps * free // needed
            raise InvalidValue(
                f"{name}: got {n_steps}, which needs {needed / 1e9:.1f} GB of memory in {self.n_envs} environments "
                f"while {free / 1e9:.1f} GB are free; expected at most {fits}"
            )

    def set_n_steps(self, n_steps: int) -> int:
        """
        Change the length of rollouts, from the next one on.

        :param n_steps: steps per environment
        :return: the length that will be used
        :raises InvalidValue: below 1, more than the memory holds, or samples that do not split into the minibatches
        """
        self._requested_n_steps = self.check_batch("n_steps", n_steps)
        return self._requested_n_steps

    def resize_batch(self, size: int) -> int:
        """See :meth:`set_n_steps`."""
        return self.set_n_steps(size)

    def epochs_for(self, n_steps: int) -> int:
        """
        Epochs on a rollout of another length: in proportion to it, ``n_epochs`` at ``epoch_reference``.

        :param n_steps: steps per environment
        """
        if not self.scale_epochs:
            return self._own_epochs
        return max(self._own_epochs * n_steps // self.epoch_reference, self.min_epochs)

    def _follow(self, n_steps: int) -> None:
        """What depends on the length of rollouts."""
        if self._held_size is not None:
            self.n_minibatches = -(-n_steps * self.n_envs // self._held_size)
        self.n_steps = n_steps
        self.n_epochs = self.epochs_for(n_steps)

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """SB3's loop, with the length that was asked for last."""
        if self._requested_n_steps is not None:
            rollout_buffer.buffer_size = self._requested_n_steps  # SB3's loop allocates anew
            self._settle()
        first_step = self.num_timesteps
        steps = WatchedSteps(env, self)
        if not super().collect_rollouts(steps, callback, rollout_buffer, self.n_steps):  # type: ignore[arg-type]
            if steps.last is not None:  # go on from where the environments are
                self._last_obs, _, self._last_episode_starts, infos = steps.last  # type: ignore[assignment]
                self._update_info_buffer(infos, self._last_episode_starts)
            return False
        require_finite_returns(rollout_buffer, first_step)
        self._n_rollouts += 1
        return True

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Around the update on a rollout; logs what it was made of."""
        with super().updating():
            optimizer = self.policy.optimizer
            counter = optimizer.register_step_post_hook(self._count_step)  # PPO may stop before its epochs are over
            before = self._n_gradient_steps
            try:
                yield
            finally:
                counter.remove()
        n_samples = self.n_steps * self.n_envs
        epochs, rest = divmod(self._n_gradient_steps - before, -(-n_samples // self.batch_size))
        self._n_samples += epochs * n_samples + rest * self.batch_size  # the last minibatch of an epoch may be short
        self.logger.record("train/gradient_steps", self._n_gradient_steps)
        self.logger.record("train/samples", self._n_samples)
        self.logger.record("train/batch_size", self.batch_size)
        self.logger.record("train/n_steps", self.n_steps)
        self.logger.record("batch/n_epochs", self.n_epochs)

    def _count_step(self, *_: Any) -> None:
        self._n_gradient_steps += 1

    learn = with_defaults(Agent.learn, {"log_interval": 1})  # a log entry after every rollout, as in SB3

    # --------------------------------------------------------------------------------------------- measuring

    def probe_observations(self, n_states: int, rng: np.random.Generator) -> PyTorchObs:
        """Without replacement from the present rollout."""
        n_samples = self.n_steps * self.n_envs
        chosen = rng.choice(n_samples, size=min(n_states, n_samples), replace=False)
        steps, envs = np.divmod(chosen, self.n_envs)
        # SB3 has flattened the rollout, environment by environment, once minibatches were drawn from it.
        where = envs * self.n_steps + steps if self.rollout_buffer.generator_ready else (steps, envs)
        return obs_as_tensor(at(self.rollout_buffer.observations, where), self.device)


def in_minibatches(n_samples: int, n_minibatches: int, rng: np.random.Generator) -> Iterator[th.Tensor]:
    """One epoch: the indices of every sample once, in random order."""
    yield from th.from_numpy(rng.permutation(n_samples)).chunk(n_minibatches)
