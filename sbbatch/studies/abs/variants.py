"""
abs03 and abs07: what the size is driven by and how. The authors released the logarithmic interpolation and name two
more; ``exp`` is our reading of the name. Their rival is the gradient noise scale, in a script that lets the learning
rate fall.
"""

from __future__ import annotations

from dataclasses import replace

from sbbatch.studies.abs.minatar import BOTH, EVALUATION, PAPER_SCALES, adaptive, fixed
from sbbatch.studies.arms import versus
from sbbatch.studies.study import Settings, Study


def _usual() -> Settings:
    return {"batch_size_callback": {"ALE": "abs(32, 32)", "MinAtar": fixed(32)["batch_size_callback"]}}


_KINDS = {kind: adaptive("abs", f", kind='{kind}'") for kind in ("log", "linear", "exp")}

INTERPOLATIONS = Study(
    id="abs/interpolations",
    title="From a divergence to a size",
    question="Does it matter how the size is interpolated between the thresholds, or how long the window is?",
    claim="None is published; the logarithm is what the authors released.",
    arms={
        **_KINDS,
        "log, window 5": adaptive("abs", ", window=5, warmup=5"),
        "log, at once": adaptive("abs", ", ema=1.0"),
        "fixed 32": _usual(),
    },
    scales=PAPER_SCALES,
    rules=versus("log", ("linear", "exp", "log, window 5", "log, at once", "fixed 32"), score="area"),
    settings=BOTH,
    options=EVALUATION,
    evaluations=1,
    eval_episodes=100,
    figure="interpolations",
)

_NOISE = {"ALE": "noise_scale(16, 64)", "MinAtar": "noise_scale(8, 128, check_every=5)"}

NOISE_SCALE = replace(
    INTERPOLATIONS,
    id="abs/noise_scale",
    title="Divergence or gradient noise",
    question="Is the divergence a better signal than the noise of the gradient?",
    claim="ABS is better than a batch that follows the gradient noise scale (Park 2026).",
    arms={
        "ABS": adaptive("abs"),
        "noise scale": {"batch_size_callback": _NOISE},
        "noise scale, falling rate": {
            "batch_size_callback": _NOISE,
            "learning_rate": {"ALE": "lin_2.5e-4", "MinAtar": "lin_5e-4"},
        },
        "linear": {"batch_size_callback": {"ALE": "schedule(16, 64)", "MinAtar": "schedule(8, 128)"}},
        "fixed 32": _usual(),
    },
    rules=(
        *versus("ABS", ("noise scale", "noise scale, falling rate", "linear", "fixed 32"), score="area"),
        *versus("noise scale", ("fixed 32",), score="area"),
    ),
    figure="noise scale",
)
