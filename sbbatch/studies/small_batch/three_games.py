"""
X2: a batch of 8 against one of 32 on the three Atari games that predict the median of all 57 best (Aitchison et al.
2023), as far as a CPU goes. 400,000 agent steps are 95,000 updates, before which published data show no difference;
what a run shows here is what a small batch costs, and that it does no harm.
"""

from sbbatch.studies.arms import ATARI_SPEED, SMOKE, axis, small_against_large
from sbbatch.studies.rules import Cheaper
from sbbatch.studies.study import Scale, Study

_GAMES = ("ALE/BattleZone-v5", "ALE/NameThisGame-v5", "ALE/Phoenix-v5")

STUDY = Study(
    id="small_batch/three_games",
    title="X2: three Atari games",
    question="What does a batch of 8 cost and gain on Atari in an hour of a CPU?",
    claim="None before 250,000 updates; 8 is better after them (Obando-Ceron et al. 2023, 2024).",
    arms=axis("batch_size", (8, 32), "QR-DQN {}"),
    scales={
        "smoke": SMOKE,
        "laptop": Scale(400_000, 3, _GAMES, ATARI_SPEED),
        "lab": Scale(2_500_000, 5, _GAMES, ATARI_SPEED),
    },
    rules=(Cheaper("QR-DQN 8", "QR-DQN 32"), *small_against_large(["QR-DQN"])),
    settings={"algo": "qrdqn"},
    evaluations=2,
    megabytes=20.0,
)
