"""
sb11, Figure 11: what a small batch does inside. The rules decide about the return; the columns of the figure (loss
variance, gradient and representation norm, effective rank, dormant neurons) are in each run's ``metrics.csv`` and
``metrics.png``.
"""

from sbbatch.studies.arms import BATCHES, axis, small_against_large, usual_scales
from sbbatch.studies.games import ATARI_THREE
from sbbatch.studies.study import Study

_SCALES = usual_scales(games=ATARI_THREE)

STUDY = Study(
    id="small_batch/dynamics",
    title="What a small batch does to the optimization",
    question="What changes inside the network with the batch size, where the return does?",
    claim="Smaller batches: more variance of the loss, smaller gradients and representations (Figure 11).",
    arms=axis("batch_size", BATCHES, "QR-DQN {}"),
    scales=_SCALES,
    rules=small_against_large(["QR-DQN"]),
    settings={"algo": "qrdqn", "callback": "sbbatch.analysis.AnalysisMetrics"},
    figure="11",
    megabytes=20.0,
)
