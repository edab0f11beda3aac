"""
sb01, Figures 1 and 15: QR-DQN on all 60 games; and the grid that we would run if we had the machine.

Five of the 60 games have no published human score; the rules leave them out.
"""

from dataclasses import replace

from sbbatch.studies.arms import BATCHES, SMOKE, axis, small_against_large, usual_scales, versus
from sbbatch.studies.games import ATARI_57, ATARI_60
from sbbatch.studies.rules import MoreGames
from sbbatch.studies.study import Scale, Study

_ARMS = axis("batch_size", BATCHES, "QR-DQN {}")
_WINS = MoreGames("QR-DQN 8", "QR-DQN 32")

SIXTY_GAMES = Study(
    id="small_batch/sixty_games",
    title="QR-DQN on 60 games",
    question="On how many games is a batch of 8 better than one of 32?",
    claim="8 is better on 38 of 60 games, by 98 % on average (Obando-Ceron et al. 2023, Figure 1).",
    arms=_ARMS,
    scales=usual_scales(games=ATARI_60),  # the frames of Figure 1 are not stated; those of the others
    rules=(_WINS, *small_against_large(["QR-DQN"])),
    settings={"algo": "qrdqn"},
    figure="1, 15",
    megabytes=20.0,
)

GRID = replace(
    SIXTY_GAMES,
    id="small_batch/paper_grid",
    title="QR-DQN on the 57 games with a human score",
    question="What is the best batch size of QR-DQN over Atari, with seeds enough to say?",
    scales={
        "smoke": SMOKE,
        "laptop": Scale(20_000, 5, ATARI_57, 300.0, {"learning_starts": 10_000}),  # the whole grid, to see that it runs
        "lab": Scale(2_500_000, 5, ATARI_57, 118.0),
        "paper": Scale(25_000_000, 5, ATARI_57, 118.0),
    },
    rules=(_WINS, *small_against_large(["QR-DQN"], min_seeds=5), *versus("QR-DQN 16", ("QR-DQN 8", "QR-DQN 64"))),
    figure="our own",
)
