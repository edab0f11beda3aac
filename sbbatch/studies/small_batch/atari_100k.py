"""
sb04, Figure 4: agents for little data: DER and DrQ(eps). SPR will be a row of it when there is such an agent.

``lab`` is the left half of the figure, 100,000 agent steps; ``paper`` the right one, 30 million frames. Published
scores of DER (Consistent-Data-Analysis, 5 seeds) at 1.25 million steps: 0.89 with 4, 0.77 with 8, 0.60 with 32; at
100,000 steps 8 and 32 cannot be told apart.
"""

from sbbatch.studies.arms import ATARI_SPEED, axis, grid, small_against_large
from sbbatch.studies.games import ATARI_26
from sbbatch.studies.study import Scale, Study

_SPEED = ATARI_SPEED / 4  # an update every step
_GAMES = ("ALE/Assault-v5", "ALE/CrazyClimber-v5", "ALE/RoadRunner-v5")  # where published data differ most: say so
_AGENTS = {"DER": {"algo": "der"}, "DrQ": {"algo": "drq"}}
_BATCHES = (4, 8, 16, 32, 64)  # those of the follow-up, Obando-Ceron et al. 2024

STUDY = Study(
    id="small_batch/atari_100k",
    title="Agents for little data",
    question="Do DER and DrQ gain from a small batch, and when?",
    claim="Little changes at 100,000 steps, small batches are clearly better at 30 M frames (Figure 4).",
    arms=grid(_AGENTS, axis("batch_size", _BATCHES)),
    scales={
        "smoke": Scale(
            200,
            1,
            ("ALE/Breakout-v5",),
            _SPEED,
            {"learning_starts": 180, "buffer_size": 1_000},
            ("--eval-max-steps", "50"),  # a whole game of a policy that knows nothing takes a minute
        ),
        "laptop": Scale(50_000, 3, _GAMES, _SPEED),
        "lab": Scale(100_000, 6, ATARI_26, _SPEED),
        "paper": Scale(7_500_000, 6, ATARI_26, _SPEED),
    },
    rules=small_against_large(_AGENTS),
    options=("--suite", "atari100k"),
    evaluations=1,
    figure="4",
    megabytes=20.0,
)
