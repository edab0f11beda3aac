"""
sb10, Figure 10, top: which part of an agent makes a small batch better. DQN with one part of Rainbow, and Rainbow (in
Dopamine's compact form) without one.
"""

from dataclasses import replace

from sbbatch.studies.arms import BATCHES, axis, gains_more, grid, small_against_large, usual_scales
from sbbatch.studies.study import Settings, Study


def _head(name: str, atari: str, minatar: str) -> Settings:
    """A head with the arguments it has in the agent of which it is the own head."""
    network = "initializer='{}', features_extractor_kwargs=dict(padding='same'), optimizer_kwargs=dict(eps=1.5e-4)"
    small = "features_extractor_class='MinAtarCNN', optimizer_kwargs=dict(eps=1.5e-4)"
    kwargs = {"ALE": f"dict({network.format(atari)})", "MinAtar": f"dict({small}, {minatar})"}
    return {"head": name, "policy_kwargs": kwargs}


_ADDED: dict[str, Settings] = {
    "DQN": {},
    "DQN + n = 3": {"n_steps": 3},
    "DQN + PER": {"prioritized": True},
    "DQN + C51": _head("categorical", "variance_scaling", "v_min=-10.0, v_max=100.0"),
}
_REMOVED: dict[str, Settings] = {
    "Rainbow": {},
    "Rainbow, n = 1": {"n_steps": 1},
    "Rainbow - PER": {"prioritized": False},
    "Rainbow - C51": _head("expected", "glorot_uniform", "loss='mse'"),
}

ADDED = Study(
    id="small_batch/adding_components",
    title="DQN with one more component",
    question="Which component makes DQN gain from a small batch?",
    claim="Only n-step returns turn the order round (Obando-Ceron et al. 2023, Figure 10, top left).",
    arms=grid(_ADDED, axis("batch_size", BATCHES)),
    scales=usual_scales(),
    rules=(*small_against_large(_ADDED), *(gains_more(name, "DQN") for name in list(_ADDED)[1:])),
    settings={"algo": "dqn"},
    figure="10",
    megabytes=20.0,
)

REMOVED = replace(
    ADDED,
    id="small_batch/removing_components",
    title="Rainbow with one component less",
    question="Without which component does Rainbow no longer gain from a small batch?",
    claim="Only without n-step returns are larger batches better (Obando-Ceron et al. 2023, Figure 10, top center).",
    arms=grid(_REMOVED, axis("batch_size", BATCHES)),
    rules=(*small_against_large(_REMOVED), *(gains_more("Rainbow", name) for name in list(_REMOVED)[1:])),
    settings={"algo": "compact_rainbow"},
)
