"""
sb03, Figure 3 of the small-batch paper: the batch size of the standard agents.

At ``paper`` these are 960 runs of 6.2 million updates. Published curves of this family show no difference between 8 and
32 before 250,000 updates, which ``laptop`` does not reach: it is there to see how it works and what it costs.
"""

from sbbatch.studies.games import ATARI_20, MINATAR_PAIR
from sbbatch.studies.rules import Compare
from sbbatch.studies.study import Scale, Study

_AGENTS = {"DQN": "dqn", "Rainbow": "compact_rainbow", "QR-DQN": "qrdqn", "IQN": "iqn"}
_BATCHES = (8, 16, 32, 64)  # the paper names 8, 16 and 32
_ATARI_SPEED = 118.0  # agent steps per second of QR-DQN with a batch of 32 on two cores (docs/speed.md)

STUDY = Study(
    id="small_batch/standard_agents",
    title="Batch sizes of the standard agents",
    question="Which agents gain from a batch smaller than 32, all else as published?",
    claim="All but DQN gain from smaller batches (Obando-Ceron et al. 2023, Figure 3).",
    arms={
        f"{name} {size}": {"algo": agent, "batch_size": size} for name, agent in _AGENTS.items() for size in _BATCHES
    },
    scales={
        "smoke": Scale(2_000, 1, MINATAR_PAIR[:1], 500.0, {"learning_starts": 500}),
        "laptop": Scale(200_000, 3, MINATAR_PAIR, 500.0),
        "lab": Scale(2_500_000, 3, ("ALE/Asteroids-v5", "ALE/DemonAttack-v5", "ALE/SpaceInvaders-v5"), _ATARI_SPEED),
        "paper": Scale(25_000_000, 3, ATARI_20, _ATARI_SPEED),
    },
    rules=tuple(
        Compare(
            f"{name} 8",
            f"{name} 32",
            better=f"{name} gains from the small batch",
            worse=f"{name} loses with the small batch",
            equal=f"the batch size makes no difference to {name}",
            min_seeds=3,  # as many as the paper has
        )
        for name in _AGENTS
    ),
    megabytes=20.0,
)
