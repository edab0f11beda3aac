"""Floating-point settings of the process."""

from __future__ import annotations

import torch as th


def flush_denormals() -> None:
    """
    Let the processor treat numbers below 1e-38 as zero.

    Adam's first moment of a weight that gets no gradient shrinks by a factor 0.9 at every step, and after some 800 of
    them it is denormal: too small for the processor's fast path. With small batches many units are silent for that
    long. A third of the moments of a QR-DQN were denormal after 60,000 agent steps of Breakout at batch size 8, and one
    optimizer step took 20 times as long as it does when such numbers are zero (docs/speed.md). Nothing an agent
    computes depends on them.

    Threads inherit the setting when they start, so it is made before the first network is. It holds for the whole
    process; where the processor has no such mode, nothing happens.
    """
    th.set_flush_denormal(True)
