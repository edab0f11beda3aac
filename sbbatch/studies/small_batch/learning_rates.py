"""
sb08, Figure 8: the learning rates of QR-DQN, 5e-5 on Atari and 2.5e-4 on MinAtar, times these factors. The paper's
values are not known; published data of DER with 32 had a fifth of its rate ahead of every batch size
(Consistent-Data-Analysis).
"""

from sbbatch.studies.arms import PAPER_SEEDS, axis, grid, usual_scales
from sbbatch.studies.rules import BestInside, Compare
from sbbatch.studies.study import Study

_FACTORS = (0.2, 0.5, 1, 2, 4)
_RATES = {
    f"rate x{factor:g}:": {"learning_rate": {"ALE": f"{5e-5 * factor:g}", "MinAtar": f"{2.5e-4 * factor:g}"}}
    for factor in _FACTORS
}
_BATCHES = (8, 16, 32)

STUDY = Study(
    id="small_batch/learning_rates",
    title="Learning rates and batch sizes",
    question="Is there a learning rate with which 32 is as good as 8?",
    claim="No learning rate brings 32 to where 8 is (Obando-Ceron et al. 2023, Figure 8).",
    arms=grid(_RATES, axis("batch_size", _BATCHES)),
    scales=usual_scales(),
    rules=(
        *(BestInside(f"batch {size}", [f"{rate} {size}" for rate in _RATES]) for size in _BATCHES),
        *(
            Compare(
                "rate x1: 8",
                f"{rate} 32",
                better=f"32 at {rate[:-1]} does not reach 8",
                worse=f"32 at {rate[:-1]} is better than 8: a matter of the learning rate",
                equal=f"32 at {rate[:-1]} is as good as 8: a matter of the learning rate",
                min_seeds=PAPER_SEEDS,
            )
            for rate in _RATES
        ),
    ),
    settings={"algo": "qrdqn"},
    figure="8",
    megabytes=20.0,
)
