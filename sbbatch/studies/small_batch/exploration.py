"""
sb06, Figure 6: without random actions once epsilon has fallen. The paper's four games are not named in its text; those
of ``lab`` are the hard ones to explore among its 20.
"""

from dataclasses import replace

from sbbatch.studies.arms import BATCHES, axis, gains_more, grid, small_against_large, usual_scales
from sbbatch.studies.study import Study

_HARD = tuple(f"ALE/{name}-v5" for name in ("Gravitar", "MontezumaRevenge", "PrivateEye", "Venture"))
_SCALES = usual_scales()
_EPSILONS = axis("exploration_final_eps", ("0.0", "0.01"), "epsilon {}:")

STUDY = Study(
    id="small_batch/exploration",
    title="Exploration by small batches",
    question="Does a small batch help more where nothing else explores?",
    claim="Small batches explore: they help also when epsilon goes to 0 (Obando-Ceron et al. 2023, Figure 6).",
    arms=grid(_EPSILONS, axis("batch_size", BATCHES)),
    scales=_SCALES | {"lab": replace(_SCALES["lab"], games=_HARD)},
    rules=(*small_against_large(_EPSILONS), gains_more("epsilon 0.0:", "epsilon 0.01:")),
    settings={"algo": "qrdqn"},
    figure="6",
    megabytes=20.0,
)
