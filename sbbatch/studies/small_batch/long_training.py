"""
sb05 and sb18 to sb20, Figures 5 and 18 to 20: 200 million frames. Dopamine's own runs with a batch of 32 (interquartile
mean over 19 games, 5 seeds): QR-DQN 0.752 at 100 and 0.736 at 200 million frames, IQN 1.163 and 1.157.
"""

from dataclasses import replace

from sbbatch.studies.arms import BATCHES, axis, grid, small_against_large, usual_scales
from sbbatch.studies.study import Study

_SCALES = usual_scales(frames=200e6)

STUDY = Study(
    id="small_batch/long_training",
    title="Twice the training",
    question="Does a small batch go on improving where a large one has stopped?",
    claim="Large batches plateau, small ones do not (Obando-Ceron et al. 2023, Figures 5 and 18).",
    arms=grid({"QR-DQN": {"algo": "qrdqn"}, "IQN": {"algo": "iqn"}}, axis("batch_size", BATCHES)),
    scales=_SCALES | {"laptop": replace(_SCALES["laptop"], steps=400_000)},
    # The return at the end says who has gone further, the mean over time who was ahead on the way.
    rules=(*small_against_large(["QR-DQN", "IQN"]), *small_against_large(["QR-DQN", "IQN"], score="area")),
    figure="5, 18-20",
    megabytes=20.0,
)
