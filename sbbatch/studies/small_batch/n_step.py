"""
sb10, Figure 10, top right and bottom: the longer the return, the smaller the best batch? And S1, the same question for
DQN on MinAtar with the learning rates that such a claim has to come with.
"""

from dataclasses import replace

from sbbatch.studies.arms import BATCHES, SMOKE, axis, gains_more, grid, small_against_large, usual_scales
from sbbatch.studies.games import MINATAR_PAIR
from sbbatch.studies.rules import BestInside
from sbbatch.studies.study import Scale, Study

_AGENTS = {"DQN": "dqn", "Rainbow": "compact_rainbow", "QR-DQN": "qrdqn"}
_LENGTHS = (1, 3, 5, 7, 9)  # the paper names 1 and 3, its precursor 9


def _study(name: str) -> Study:
    lengths = axis("n_steps", _LENGTHS, "n = {}:")
    return Study(
        id=f"small_batch/n_step_{name.lower().replace('-', '')}",
        title=f"Length of the return and batch size: {name}",
        question=f"Does the best batch size of {name} fall as the return grows longer?",
        claim="The best batch size falls as n grows (Obando-Ceron et al. 2023, Figure 10).",
        arms=grid(lengths, axis("batch_size", BATCHES)),
        scales=usual_scales(),
        rules=(*small_against_large(lengths), *(gains_more(length, "n = 1:") for length in list(lengths)[1:])),
        settings={"algo": _AGENTS[name]},
        figure="10",
        megabytes=20.0,
    )


BY_AGENT = tuple(_study(name) for name in _AGENTS)

_RATES = ("2.5e-4", "1e-3", "4e-3")
_S1_ROWS = grid(axis("n_steps", (1, 3), "n = {},"), axis("learning_rate", _RATES, "{}:"))

S1 = replace(
    BY_AGENT[0],
    id="small_batch/n_step_rates",
    title="S1: length of the return, batch size and learning rate",
    question="Does DQN with longer returns gain more from a small batch, whatever the learning rate?",
    arms=grid(_S1_ROWS, axis("batch_size", (8, 32, 128))),
    scales={"smoke": SMOKE, "laptop": Scale(200_000, 5, MINATAR_PAIR, 350.0)},
    rules=(
        *(
            BestInside(f"n = {n}, batch {size}", [f"n = {n}, {rate}: {size}" for rate in _RATES])
            for n in (1, 3)
            for size in (8, 32, 128)
        ),
        *(gains_more(f"n = 3, {rate}:", f"n = 1, {rate}:", large=128, min_seeds=5) for rate in _RATES),
        *small_against_large(_S1_ROWS, large=128, min_seeds=5),
    ),
    settings={"algo": "dqn", "train_freq": 2},
    figure="our own",
    megabytes=5.0,
)
