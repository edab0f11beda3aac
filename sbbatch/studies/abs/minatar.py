"""
A1: does the batch size have to follow the policy? PQN on MinAtar with fixed, adaptive and scheduled rollouts.

Arms, the same in everything else: rollouts of 8, 32 and 128 steps; ABS between 8 and 128; a line from 8 to 128 that
looks at nothing. The epochs follow the length as in the ABS authors' code, ``max(2 * length // 32, 2)``, so that long
rollouts use each sample more often; the learning rate is constant. A fixed length is ABS between equal bounds, which
only measures.

The thresholds of ABS are the 10th and the 90th percentile of the divergence that runs with 32 steps had on the same
game, fixed before ABS ran. It measures every 5 rollouts instead of every 50, since these trainings are a tenth as long
as the paper's. The results in docs/results/abs_minatar, of three seeds, were made before studies were data.
"""

from __future__ import annotations

from typing import Any

from sbbatch.studies.arms import versus
from sbbatch.studies.games import ATARI_57, ATARI_THREE, MINATAR_PAIR
from sbbatch.studies.study import Scale, Study

THRESHOLDS = {  # docs/results/abs_minatar/thresholds_*.json
    "MinAtar/Breakout-v1": "low=0.091796875, high=0.21962890625",
    "MinAtar/Asterix-v1": "low=0.11591796875, high=0.30400390625",
}
SETTINGS = {
    "algo": "pqn",
    "n_envs": 64,
    "n_steps": 32,
    "n_minibatches": 4,
    "learning_rate": "5e-4",
    "exploration_final_eps": 0.05,
}
SPEED = 7_500.0  # agent steps per second
ATARI_PQN_SPEED = 72.0  # docs/speed.md
SCALES = {
    "smoke": Scale(4_000, 1, MINATAR_PAIR[:1], SPEED, {"n_envs": 8}),
    "laptop": Scale(2_000_000, 5, MINATAR_PAIR, SPEED),
}
EVALUATION = ("--n-eval-envs", "100")


def fixed(length: int) -> dict[str, str]:
    """
    :param length: of all rollouts, steps per environment
    """
    return {"batch_size_callback": f"abs({length}, {length}, check_every=5)"}


def adaptive(name: str, more: str = "", atari: str = "16, 64") -> dict[str, dict[str, str]]:
    """
    :param name: of the callback, as a setting spells it
    :param more: arguments of it besides bounds, thresholds and clock
    :param atari: its arguments on Atari, where thresholds and clock are the authors'
    """
    calls = {game: f"{name}(8, 128, {bounds}, check_every=5{more})" for game, bounds in THRESHOLDS.items()}
    return {"batch_size_callback": calls | {"ALE": f"{name}({atari}{more})"}}


def on_minatar(**settings: Any) -> dict[str, Any]:
    """Settings that count on MinAtar, and are left to the agent's own file on Atari."""
    return {name: {"ALE": None, "MinAtar": value} for name, value in settings.items()}


# The same training on both: A1's on MinAtar, on Atari the authors' from hyperparams/pqn.yml.
BOTH = {"algo": "pqn"} | on_minatar(**{name: value for name, value in SETTINGS.items() if name != "algo"})
# PQN on Atari-57: 20 million agent steps; the authors' seeds are not known, 5 are ours.
PAPER_SCALES = SCALES | {
    "lab": Scale(20_000_000, 5, ATARI_THREE, ATARI_PQN_SPEED),
    "paper": Scale(20_000_000, 5, ATARI_57, ATARI_PQN_SPEED),
}


STUDY = Study(
    id="abs/minatar",
    title="Does the batch size have to follow the policy?",
    question="Is a rollout length that follows the policy better than a fixed or a scheduled one?",
    claim="Batches that grow as the policy settles are better than any fixed size (Park 2026).",
    arms={
        "fixed 8": fixed(8),
        "fixed 32": fixed(32),
        "fixed 128": fixed(128),
        "ABS 8-128": adaptive("abs"),
        "linear 8-128": {"batch_size_callback": "schedule(8, 128)"},
    },
    scales=SCALES,
    rules=tuple(
        rule
        for score in ("last_evaluation", "area")
        for rule in versus("ABS 8-128", ("fixed 8", "fixed 32", "fixed 128", "linear 8-128"), score=score)
    ),
    settings=SETTINGS,
    options=EVALUATION,
    evaluations=1,
    eval_episodes=100,
)
