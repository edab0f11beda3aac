"""
sb09, sb12 to sb14, Figures 9, 12 to 14: other ways to make gradients noisier at a batch of 32. A batch that is divided
makes as many gradient steps as it has parts. The paper names a divisor of 4, its precursor noise of 5; the rest is
ours.
"""

from dataclasses import replace

from sbbatch.studies.arms import PAPER_SEEDS, axis, usual_scales, versus
from sbbatch.studies.study import Study

_DIVIDED = axis("batch_divisor", (1, 2, 4, 8, 32), "divided by {}")
_NOISY = axis("target_noise", (0.0, 0.1, 0.5, 1.0, 5.0), "noise {}")

DIVISOR = Study(
    id="small_batch/batch_divisor",
    title="A batch in parts",
    question="Are several updates on parts of a batch of 32 better than one on all of it?",
    claim="They have no consistent effect (Obando-Ceron et al. 2023, Figure 9).",
    arms=_DIVIDED,
    scales=usual_scales(),
    rules=tuple(rule for arm in list(_DIVIDED)[1:] for rule in versus(arm, ["divided by 1"], min_seeds=PAPER_SEEDS)),
    settings={"algo": "qrdqn", "batch_size": 32},
    figure="9, 13",
    megabytes=20.0,
)

NOISE = replace(
    DIVISOR,
    id="small_batch/target_noise",
    title="Noise on the targets",
    question="Does noise on the targets of a batch of 32 do what a small batch does?",
    claim="Noise helps on many games, though not on all (Obando-Ceron et al. 2023, Figure 12).",
    arms={**_NOISY, "batch 8, no noise": {"batch_size": 8}},
    rules=(
        *(rule for arm in list(_NOISY)[1:] for rule in versus(arm, ["noise 0.0"], min_seeds=PAPER_SEEDS)),
        *versus("batch 8, no noise", list(_NOISY)[1:], min_seeds=PAPER_SEEDS),
    ),
    figure="12, 14",
)
