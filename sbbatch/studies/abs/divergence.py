"""
X3: does the divergence matter? ABS against controls that have all of it but the signal.

The setting is that of :mod:`sbbatch.studies.abs.minatar`, whose thresholds and results it takes as they are: of its
fixed lengths 8 was best on both games together, in the final greedy return and over time, and the mean of ABS was 54 to
69 steps.

The arm whose minibatches keep their size differs from ABS in nothing else: same thresholds, same epochs, so that each
sample is used as often; the minibatch is that of a rollout of 32 steps, 512 samples, which ABS passes on its way from
128 to 2,048 (Beukman et al. 2026 hold it when they collect more). A falling learning rate is what growing batches are
said to be worth (Smith et al. 2018).
"""

from dataclasses import replace

from sbbatch.studies.abs.minatar import EVALUATION, SCALES, SETTINGS, SPEED, adaptive, fixed
from sbbatch.studies.games import MINATAR_PAIR
from sbbatch.studies.rules import Compare
from sbbatch.studies.study import Scale, SizesOf, Study

ABS = "ABS 8-128"

STUDY = Study(
    id="abs/divergence",
    title="Does the divergence matter?",
    question="Does the signal of ABS add anything to the schedule of batch sizes that it leads to?",
    claim="The batch has to grow when the policy settles, not just with time (Park 2026).",
    arms={
        "fixed 8, the best": fixed(8),
        "fixed 64, the mean of ABS": fixed(64),
        ABS: adaptive("abs"),
        "yoked": {"batch_size_callback": SizesOf(ABS)},
        "linear 8-128": {"batch_size_callback": "schedule(8, 128)"},
        "ABS reversed": adaptive("reversed_abs"),
        "ABS, fixed minibatch size": {**adaptive("abs"), "hold": "minibatch_size"},
        "fixed 8, falling rate": {**fixed(8), "learning_rate": "lin_5e-4"},
    },
    # yoked runs need those of another seed
    scales={**SCALES, "smoke": replace(SCALES["smoke"], seeds=2), "lab": Scale(2_000_000, 10, MINATAR_PAIR, SPEED)},
    rules=tuple(
        Compare(ABS, rival, better=better, worse=f"{rival} is better than ABS", equal=equal, score="area")
        for rival, better, equal in (
            ("yoked", "the signal adds something to its schedule", "the signal adds nothing to its schedule"),
            ("linear 8-128", "the signal beats growth by the clock", "growth by the clock does as well"),
            ("ABS reversed", "the direction matters", "the direction does not matter"),
            ("fixed 64, the mean of ABS", "adapting beats the same mean", "a fixed size of the same mean does as well"),
            (
                "ABS, fixed minibatch size",
                "larger gradient batches are what helps, not longer rollouts",
                "longer rollouts do it, with gradient batches of one size",
            ),
            ("fixed 8, falling rate", "growth beats a falling rate", "a falling learning rate does as well"),
            ("fixed 8, the best", "ABS beats the best fixed size", "ABS is as good as the best fixed size"),
        )
    ),
    settings=SETTINGS,
    options=EVALUATION,
    evaluations=1,
    eval_episodes=100,
)
