"""
Two laws of the batch size: it should fall as updates become more frequent (Rybkin et al. 2025, for SAC and BRO), and be
small because returns are long (the small-batch paper). QR-DQN with 3-step returns on MinAtar, at 1/8, 1/4 and 1 updates
per agent step; the pilot of small_batch/step_size suggested the rates.
"""

from sbbatch.studies.arms import MINATAR_SPEED, SMOKE, axis, grid, small_against_large
from sbbatch.studies.games import MINATAR_PAIR
from sbbatch.studies.rules import RatioLaw
from sbbatch.studies.study import Scale, Study

_EVERY = {"1/8": 8, "1/4": 4, "1": 1}  # agent steps per update
_BATCHES, _RATES = (8, 32, 128), ("2.5e-4", "1e-3")
_ROWS = grid({f"ratio {name},": {"train_freq": every} for name, every in _EVERY.items()}, axis("learning_rate", _RATES))
_ARMS = grid(_ROWS, axis("batch_size", _BATCHES))

STUDY = Study(
    id="small_batch/two_laws",
    title="Two laws of the batch size",
    question="Does the best batch size fall as updates become more frequent?",
    claim="It does, as a power of -0.3 to -0.5 of updates per data step, on continuous control (Rybkin et al. 2025).",
    arms=_ARMS,
    scales={
        "smoke": SMOKE,
        "laptop": Scale(100_000, 3, MINATAR_PAIR, MINATAR_SPEED),
        "lab": Scale(500_000, 5, MINATAR_PAIR, MINATAR_SPEED),
    },
    rules=(
        RatioLaw(
            {arm: (1 / at["train_freq"], at["batch_size"], float(at["learning_rate"])) for arm, at in _ARMS.items()}
        ),
        *small_against_large(_ROWS),
    ),
    settings={"algo": "qrdqn", "policy_kwargs": "dict(features_extractor_class='MinAtarCNN', n_quantiles=51)"},
)
