"""
abs06: BTR with a batch that adapts. The authors release nothing of it; bounds and clock are ours
(docs/adaptive_batch.md). On MinAtar it has a batch of 32 and learns every fourth step.
"""

from __future__ import annotations

from dataclasses import replace

from sbbatch.studies.arms import PAPER_SEEDS, SMOKE, usual_scales, versus
from sbbatch.studies.games import ATARI_60
from sbbatch.studies.study import Settings, Study


def _call(name: str, atari: str, minatar: str) -> Settings:
    return {"batch_size_callback": {"ALE": f"{name}({atari})", "MinAtar": f"{name}({minatar})"}}


_CLOCK = "check_every=2000"
_FIXED = {
    "small": _call("abs", "128, 128", f"16, 16, {_CLOCK}"),
    "usual": _call("abs", "256, 256", f"32, 32, {_CLOCK}"),
    "large": _call("abs", "512, 512", f"64, 64, {_CLOCK}"),
}
_RIVALS = {
    **_FIXED,
    "linear": _call("schedule", "128, 512", "16, 64"),
    "ABS reversed": _call("reversed_abs", "128, 512", f"16, 64, {_CLOCK}"),
}
_SCALES = usual_scales(frames=200e6, games=ATARI_60)

STUDY = Study(
    id="abs/btr",
    title="BTR with a batch that adapts",
    question="Does an agent that learns from replay gain from a batch that grows as its policy settles?",
    claim="ABS improves BTR on Atari (Park 2026).",
    arms={**_RIVALS, "ABS": _call("abs", "128, 512", f"16, 64, {_CLOCK}")},
    # A gradient step of 256 samples took 4.3 s of a CPU (docs/speed.md), and there is one in 64 agent steps.
    scales={
        name: replace(scale, steps_per_second=15.0 if name in ("lab", "paper") else 250.0)
        for name, scale in (_SCALES | {"smoke": SMOKE}).items()
    },
    rules=versus("ABS", _RIVALS, min_seeds=PAPER_SEEDS),
    settings={"algo": "btr"},
    figure="BTR",
    megabytes=40.0,
)
