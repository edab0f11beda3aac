"""
sb02, Figures 2, 16 and 17: larger networks. On Atari these are the paper's, four times the channels and Impala's
residual network; on MinAtar, ours: a linear layer four times as wide, and the residual network on 10x10 pixels.
"""

from sbbatch.studies.arms import (
    ATARI_QRDQN,
    BATCHES,
    MINATAR_QRDQN,
    axis,
    gains_more,
    grid,
    small_against_large,
    usual_scales,
)
from sbbatch.studies.study import Settings, Study


def _torso(atari: str, minatar: str) -> Settings:
    """The arguments of a torso in both families."""
    kwargs = {"ALE": f"dict({ATARI_QRDQN}, {atari})", "MinAtar": f"dict({MINATAR_QRDQN}, {minatar})"}
    return {"policy_kwargs": kwargs}


_SAME = "features_extractor_kwargs=dict(padding='same'{})"
_MINATAR = "features_extractor_class='MinAtarCNN'"
_TORSOS = {
    "plain": _torso(_SAME.format(""), _MINATAR),
    "wide": _torso(_SAME.format(", width=4"), f"{_MINATAR}, features_extractor_kwargs=dict(features_dim=512)"),
    "residual": _torso("features_extractor_class='ImpalaCNN'", "features_extractor_class='ImpalaCNN'"),
}

STUDY = Study(
    id="small_batch/torsos",
    title="Larger networks",
    question="Do larger networks gain more from a small batch?",
    claim="Smaller batches make better use of width and depth (Obando-Ceron et al. 2023, Figure 2).",
    arms=grid(_TORSOS, axis("batch_size", BATCHES)),
    scales=usual_scales(),
    rules=(*small_against_large(_TORSOS), gains_more("wide", "plain"), gains_more("residual", "plain")),
    settings={"algo": "qrdqn"},
    figure="2, 16, 17",
    megabytes=40.0,
)
