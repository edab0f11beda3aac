"""
X1: does a small batch help, or the small step that goes with it?

QR-DQN with 3-step returns on MinAtar, a gradient step every agent step. The pilot chooses a learning rate for each
batch size, once for both games; the final runs compare the two, each at its own, and 32 also at that of 8.
"""

from sbbatch.studies.games import MINATAR_PAIR
from sbbatch.studies.rules import BestInside, Compare
from sbbatch.studies.study import Scale, Study

BATCHES = (8, 32)
PILOT_RATES = ("2.5e-4", "1e-3", "4e-3")
RATES: dict[int, str] = {}  # what the pilot chose by its rules; committed when it has ended

_SPEED = 400.0  # agent steps per second with a batch of 32
_WARM_UP = 5_000  # agent steps before the first update: hyperparams/qrdqn.yml, section minatar
_SETTINGS = {
    "algo": "qrdqn",
    "train_freq": 1,
    "policy_kwargs": "dict(features_extractor_class='MinAtarCNN', n_quantiles=51)",
}
_SMOKE = Scale(500, 1, MINATAR_PAIR[:1], _SPEED, {"learning_starts": 300})
_RATE_8, _RATE_32 = (RATES.get(batch, "1e-3") for batch in BATCHES)

PILOT = Study(
    id="small_batch/step_size_pilot",
    title="Small batch or small step? The pilot",
    question="Which learning rate suits a batch of 8, and which one of 32?",
    claim="None: it chooses the learning rates of small_batch/step_size.",
    arms={f"{size} at {rate}": {"batch_size": size, "learning_rate": rate} for rate in PILOT_RATES for size in BATCHES},
    scales={"smoke": _SMOKE, "laptop": Scale(_WARM_UP + 100_000, 2, MINATAR_PAIR, _SPEED)},
    rules=tuple(BestInside(f"batch {size}", [f"{size} at {rate}" for rate in PILOT_RATES]) for size in BATCHES),
    settings=_SETTINGS,
)

FINAL = Study(
    id="small_batch/step_size",
    title="Small batch or small step?",
    question="Is a batch of 8 better than one of 32 that has a learning rate of its own?",
    claim="A batch of 8 improves QR-DQN, and no learning rate makes up for it with 32 (Obando-Ceron et al. 2023).",
    arms={
        "8": {"batch_size": 8, "learning_rate": _RATE_8},
        "32": {"batch_size": 32, "learning_rate": _RATE_32},
        "32 at the rate of 8": {"batch_size": 32, "learning_rate": _RATE_8},
    },
    scales={
        "smoke": _SMOKE,
        "laptop": Scale(_WARM_UP + 250_000, 10, MINATAR_PAIR, _SPEED),
        "lab": Scale(_WARM_UP + 500_000, 10, MINATAR_PAIR, _SPEED),
    },
    rules=(
        Compare(
            "8",
            "32",
            better="the small batch helps, beyond its step size",
            worse="the large batch is better once it has a learning rate of its own",
            equal="no difference: what looks like an effect of the batch size is one of the step size",
        ),
        Compare(
            "8",
            "32 at the rate of 8",
            better="at one learning rate the small batch is better",
            worse="at one learning rate the large batch is better",
            equal="at one learning rate there is no difference",
        ),
    ),
    settings=_SETTINGS,
    blocked="" if RATES else "its learning rates are those that small_batch/step_size_pilot chooses",
)
