"""Adaptive Batch Scaling: the batch grows as the policy settles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import PyTorchObs

from sbbatch.arguments import Count, Positive, checked
from sbbatch.batch.callback import BatchSizeCallback, Timer, Verbosity, check_bounds, sizes_for
from sbbatch.batch.protocol import Behavior
from sbbatch.batch.scheduler import AdaptiveBatchScheduler, Kind, Rounding, Weight
from sbbatch.errors import InvalidValue


class ABS(BatchSizeCallback):
    """
    Adaptive Batch Scaling (Park 2026; the authors' released code).

    Now and then it compares what the agent does in some states before and after an update: the part of the states
    whose greedy action changed ("Behavioral Divergence"), or for PPO the KL divergence of the new policy from the old.
    :class:`~sbbatch.batch.scheduler.AdaptiveBatchScheduler` turns the sequence of these numbers into sizes: large
    batches for a settled policy, small ones for one that changes much. The agent starts at ``min_size``.

    Sizes are of the agent's own kind: ``ABS(16, 64)`` are rollout steps per environment for PQN and PPO and
    samples per gradient step for agents that learn from replay. What is left out comes from the agent
    (``batch_scaling``), so that ``ABS()`` works with all of them:

    ==========================  ===========  ============  ====================  ===========================
    agent                       sizes        low, high     measured every        change across
    ==========================  ===========  ============  ====================  ===========================
    PQN                         16 to 64 *   0.05, 0.95    50 rollouts           one update on a rollout
    PQN-L, PQN-XL               16 to 128 *  0.05, 0.95    50 rollouts           one update on a rollout
    PPO                         1024-8192 *  0.01, 0.1     10 rollouts           one update on a rollout
    DQN, QRDQN, IQN, Rainbow    16 to 64     0.05, 0.95    100,000 agent steps   8 gradient steps
    DER, DrQ, SPR               16 to 64     0.05, 0.95    2,000 agent steps     8 gradient steps
    BTR                         128 to 512   0.05, 0.95    102,400 agent steps   8 gradient steps
    ==========================  ===========  ============  ====================  ===========================

    (*) At ``epoch_reference`` 32 (PQN) and 2048 (PPO), the defaults of ``n_steps``; in proportion to it otherwise.

    The first change comes at the ``warmup``-th measurement, which with these intervals is after a million steps: for
    shorter trainings give ``check_every``, so that there are some sixty measurements or more.

    Rollout agents are measured exactly as in the authors' code: before and after the whole update, in states drawn
    without replacement from the rollout it learns from. The paper's replay agent (BTR) is not in their release; what
    is done here is the nearest analogue: ``updates`` gradient steps, in states drawn from the newest 8,192
    transitions. Quantile agents are compared on the midpoint fractions they are evaluated with (BTR: 8; a grid of 32
    would be finer). The defaults of replay agents do not depend on ``batch_size``. Larger networks may
    want a larger ``max_size``, as in the paper; only PQN-L and PQN-XL have one by themselves. Measuring uses no noise,
    draws nothing from the agent's random streams and changes nothing in it.

    :param min_size: smallest size
    :param max_size: largest size
    :param low: divergence at and below which the size grows towards ``max_size``
    :param high: divergence at and above which it falls towards ``min_size``
    :param kind: interpolation between them: ``"log"`` (the authors'), ``"linear"`` or ``"exp"``
    :param check_every: rollouts (PQN, PPO) or agent steps (replay) between measurements
    :param updates: updates that a measurement spans
    :param n_states: states that are looked at, at most
    :param window: divergences averaged
    :param warmup: measurements before the first change
    :param ema: weight of the target in each step
    :param rounding: ``"exact"``, or ``"paper"`` for the authors' integers, which stall below the maximum
    :param quantum: sizes are multiples of it, and of what the agent needs
    :param verbose: as in SB3
    :raises InvalidValue: a number out of range; when training starts also: a bound that the agent cannot have
    """

    scheduler_class = AdaptiveBatchScheduler

    @checked
    def __init__(
        self,
        min_size: Count | None = None,
        max_size: Count | None = None,
        low: Positive | None = None,
        high: Positive | None = None,
        kind: Kind = "log",
        check_every: Count | None = None,
        updates: Count | None = None,
        n_states: Count = 2048,
        window: Count = 20,
        warmup: Count = 10,
        ema: Weight = 0.1,
        rounding: Rounding = "exact",
        quantum: Count | None = None,
        verbose: Verbosity = 0,
    ) -> None:
        super().__init__(verbose)
        self._config = {name: value for name, value in locals().items() if name not in ("self", "verbose", "__class__")}
        check_bounds(min_size, max_size)
        thresholds = (0.05, 0.95) if low is None or high is None else (low, high)
        AdaptiveBatchScheduler(1, 1, *thresholds, window=window, warmup=warmup)  # refuses before training starts
        self.n_states = n_states

    def config(self) -> dict[str, Any]:
        """See :meth:`BatchSizeCallback.config`."""
        return dict(self._config)

    def _start(self) -> None:
        scaling = self.agent.batch_scaling
        given = {key: value for key, value in self._config.items() if value is not None}
        preferred = given.get("quantum", scaling.quantum)
        if "quantum" not in given and any(given.get(bound, 0) % preferred for bound in ("min_size", "max_size")):
            preferred = 1  # bounds of the user's own
        quantum = math.lcm(self.agent.size_multiple, preferred)
        sizes = sizes_for(self, given.get("min_size"), given.get("max_size"), quantum)
        options = {name: given[name] for name in ("kind", "window", "warmup", "ema", "rounding")}
        low, high = given.get("low", scaling.low), given.get("high", scaling.high)
        if high <= low:
            raise InvalidValue(f"ABS: low {low} is not below high {high}; give both, the agent has defaults of its own")
        self.scheduler = self.scheduler_class(*sizes, low, high, **options, quantum=quantum)
        self._timer = Timer(given.get("check_every", scaling.check_every), self.agent.batch_time)
        self._updates: int = given.get("updates", scaling.updates)
        seed = self.model.seed
        self._rng = np.random.default_rng(None if seed is None else (seed, 3))
        self._measuring: tuple[PyTorchObs, Behavior, int] | None = None  # states, behavior before, updates since
        self.resize(self.scheduler.size)

    def before_update(self) -> None:
        """Look at the policy, if it is time to."""
        now = self.agent.batch_time
        if self._timer.is_due(now) and self._measuring is None:
            self._timer.restart(now)
            probe = self.agent.probe_observations(self.n_states, self._rng)
            self._measuring = probe, self.agent.behavior(probe), 0

    def after_update(self) -> None:
        """Look again, and choose the next size."""
        if self._measuring is None:
            return
        probe, before, n_updates = self._measuring
        if n_updates + 1 < self._updates:
            self._measuring = probe, before, n_updates + 1
            return
        self._measuring = None
        divergence = self.agent.divergence(before, self.agent.behavior(probe))
        self.resize(self.scheduler.update(divergence))
        mean = self.scheduler.mean_divergence
        self.note(divergence=divergence, divergence_mean=mean, target=self.scheduler.target(mean))

    def get_state(self) -> dict[str, Any]:
        """See :meth:`BatchSizeCallback.get_state`."""
        return super().get_state() | {
            "scheduler": self.scheduler.get_state(),
            "rng": self._rng.bit_generator.state,
            "next_check": self._timer.next,
            "measuring": self._measuring,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """See :meth:`BatchSizeCallback.set_state`."""
        super().set_state(state)
        self.scheduler.set_state(state["scheduler"])
        self._rng.bit_generator.state = state["rng"]
        self._timer.next, self._measuring = int(state["next_check"]), state["measuring"]
