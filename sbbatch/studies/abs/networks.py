"""
abs01, abs02 and abs04: PQN and its larger networks, with rollouts of several fixed lengths and with ABS. On Atari PQN-L
and PQN-XL are the authors'; on MinAtar, whose images are too small for them, ours: one and four more layers of 512.

The lengths of the fixed arms are ours. "Larger networks profit from larger batches only with ABS" is a claim about an
interaction, and tested as one. The authors' plain PQN lets its learning rate fall and their ABS does not: both are
arms.
"""

from __future__ import annotations

from dataclasses import replace

from sbbatch.studies.abs.minatar import BOTH, EVALUATION, PAPER_SCALES, adaptive
from sbbatch.studies.arms import gains_more, grid, small_against_large, versus
from sbbatch.studies.rules import Interaction
from sbbatch.studies.study import Settings, Study


def _network(policy: str, layers: int) -> Settings:
    """A network in both families."""
    kwargs = f"dict(features_extractor_class='MinAtarCNN', net_arch={[512] * layers})"
    return {"policy": {"ALE": policy, "MinAtar": "CnnPolicy"}, "policy_kwargs": {"ALE": None, "MinAtar": kwargs}}


_NETWORKS = {
    "PQN": _network("CnnPolicy", 0),
    "PQN-L": _network("CnnPolicy-L", 1),
    "PQN-XL": _network("CnnPolicy-XL", 4),
}


def _length(atari: int, minatar: int) -> Settings:
    calls = {"ALE": f"abs({atari}, {atari})", "MinAtar": f"abs({minatar}, {minatar}, check_every=5)"}
    return {"batch_size_callback": calls}  # equal bounds only measure


_FIXED = {"short": _length(16, 8), "usual": _length(32, 32), "long": _length(128, 128)}
_ABS = adaptive("abs", atari="16, 128")

STUDY = Study(
    id="abs/networks",
    title="Networks of PQN, with fixed and with adaptive rollouts",
    question="Do larger networks need a batch that adapts?",
    claim="ABS is better than fixed rollouts, and the more so the larger the network (Park 2026).",
    arms=grid(
        _NETWORKS,
        {
            **_FIXED,
            "usual, falling rate": {**_FIXED["usual"], "learning_rate": {"ALE": "lin_2.5e-4", "MinAtar": "lin_5e-4"}},
            "linear": {"batch_size_callback": {"ALE": "schedule(16, 128)", "MinAtar": "schedule(8, 128)"}},
            "ABS": _ABS,
        },
    ),
    scales=PAPER_SCALES,
    rules=(
        *(
            rule
            for name in _NETWORKS
            for score in ("area", "last_evaluation")  # early learning, and where it ends
            for rule in versus(
                f"{name} ABS",
                [f"{name} {other}" for other in (*_FIXED, "usual, falling rate", "linear")],
                score=score,
            )
        ),
        *(
            Interaction(
                (f"{name} ABS", f"{name} usual"),
                ("PQN ABS", "PQN usual"),
                larger=f"{name} gains more from ABS than PQN",
                smaller=f"{name} gains less from ABS than PQN",
                score="area",
            )
            for name in ("PQN-L", "PQN-XL")
        ),
    ),
    settings=BOTH,
    options=EVALUATION,
    evaluations=1,
    eval_episodes=100,
    figure="PQN, PQN-L, PQN-XL",
)

_LENGTHS = {str(n): _length(n, n) for n in (16, 32, 64, 128)}

SIZES = replace(
    STUDY,
    id="abs/network_sizes",
    title="Network size and batch size",
    question="Do larger networks lose more with large batches of a fixed size?",
    claim="Large batches hurt, and large networks the more (Park 2026).",
    arms=grid(_NETWORKS, _LENGTHS),
    rules=(
        *small_against_large(_NETWORKS, 16, 128, min_seeds=5),
        *(gains_more(name, "PQN", 16, 128, min_seeds=5) for name in ("PQN-L", "PQN-XL")),
    ),
    figure="size and batch",
)
