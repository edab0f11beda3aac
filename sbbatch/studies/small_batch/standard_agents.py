"""
sb03 and sb07, Figures 3 and 7 of the small-batch paper: the batch size of the standard agents, and what it costs.

At ``paper`` these are 960 runs of 6.2 million updates each. Published curves of this family show no difference between
8 and 32 before 250,000 updates, which ``laptop`` does not reach: it is there to see how it works and what it costs.
"""

from dataclasses import replace

from sbbatch.studies.arms import BATCHES, axis, grid, small_against_large, usual_scales
from sbbatch.studies.rules import Cheaper
from sbbatch.studies.study import Study

_AGENTS = {"DQN": "dqn", "Rainbow": "compact_rainbow", "QR-DQN": "qrdqn", "IQN": "iqn"}

STUDY = Study(
    id="small_batch/standard_agents",
    title="Batch sizes of the standard agents",
    question="Which agents gain from a batch smaller than 32, all else as published?",
    claim="All but DQN gain from smaller batches (Obando-Ceron et al. 2023, Figure 3).",
    arms=grid({name: {"algo": agent} for name, agent in _AGENTS.items()}, axis("batch_size", BATCHES)),
    scales=usual_scales(),
    rules=small_against_large(_AGENTS),
    figure="3",
    megabytes=20.0,
)

# Their runs but for DQN's are those of the study above, from which `sbbatch study adopt` takes them over.
_TIMED = {"DQN, n = 3": {"algo": "dqn", "n_steps": 3}} | {
    name: {"algo": _AGENTS[name]} for name in ("Rainbow", "QR-DQN", "IQN")
}

WALL_TIME = replace(
    STUDY,
    id="small_batch/wall_time",
    title="Return for the time it takes",
    question="How much time does a small batch save, and what becomes of the return?",
    claim="QR-DQN with 8 is 50 % better than with 32 in 29 % less time (Obando-Ceron et al. 2023, Figure 7).",
    arms=grid(_TIMED, axis("batch_size", BATCHES)),
    scales=usual_scales(),
    rules=(*(Cheaper(f"{name} 8", f"{name} 32") for name in _TIMED), *small_against_large(_TIMED)),
    figure="7",
)
