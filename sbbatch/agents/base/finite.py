"""Numbers that must not be: too small to compute with, or not finite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import RolloutBuffer

from sbbatch.errors import NumericalError


def flush_denormals() -> None:
    """
    Let the processor treat numbers below 1e-38 as zero.

    Adam's first moment of a weight that gets no gradient is that small after some 800 steps, too small for the
    processor's fast path. With small batches many units are silent for that long, and an optimizer step then took 20
    times as long (docs/speed.md). Nothing an agent computes depends on them.

    Threads inherit the setting when they start, so importing sbbatch makes it: import it before the first computation
    with PyTorch, or only the calling thread is set. It holds for the whole process, and can be taken back by
    ``torch.set_flush_denormal(False)``; where the processor has no such mode, nothing happens.
    """
    th.set_flush_denormal(True)


def require_finite(
    quantity: str, values: np.ndarray | dict[str, np.ndarray], step: int, env: int | None = None
) -> None:
    """
    Stop the run where a number is NaN or infinite: a NumericalError names step, environment, quantity and number.

    :param values: one row per environment, or those of ``env``; or a dictionary of them
    """
    if isinstance(values, dict):
        for key, part in values.items():
            require_finite(f"{quantity} {key}", part, step, env)
        return
    values = np.asarray(values)
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        first = tuple(np.argwhere(~np.isfinite(values))[0])
        where = first[0] if env is None else env
        raise NumericalError(f"step {step}: the {quantity} of environment {where} contains {values[first]}")


def require_finite_look(observation: np.ndarray | dict[str, np.ndarray]) -> None:
    """Refuse to act on an observation with NaN or infinity, whose greedy action would be one that says nothing."""
    for key, part in observation.items() if isinstance(observation, dict) else [("", observation)]:
        values = np.asarray(part)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            found = values[~np.isfinite(values)][0]
            raise NumericalError(f"predict: the {' '.join(['observation', key]).strip()} contains {found}")


def require_finite_step(
    observations: np.ndarray | dict[str, np.ndarray],
    rewards: np.ndarray,
    dones: np.ndarray,
    infos: Sequence[dict[str, Any]],
    step: int,
) -> None:
    """Stop the run where ``env.step`` returned a number that is NaN or infinite."""
    require_finite("reward", rewards, step)
    require_finite("observation", observations, step)
    for env in np.flatnonzero(dones).tolist():
        final = infos[env].get("terminal_observation")
        if final is not None:
            require_finite("final observation", final, step, env)


def require_finite_returns(rollout: RolloutBuffer, first_step: int) -> None:
    """Stop the run before anything is learned from returns that are NaN or infinite."""
    if not np.isfinite(rollout.returns).all():
        step = int(np.argwhere(~np.isfinite(rollout.returns))[0][0])
        require_finite("return", rollout.returns[step], first_step + (step + 1) * rollout.n_envs)
