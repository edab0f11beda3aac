"""Pictures of a study: Optuna's history and importances, and the first arguments against each other."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from sbbatch.zoo.plot.figure import new_figure
from sbbatch.zoo.tune.space import Entry, Space, exponent, is_whole, labels_of, optuna_name

_LEADING = 3  # arguments that are drawn against each other
_BINS = 8
_MANY = 12  # integers of a range that get a column each
_FEW_TRIALS = 8  # too few to tell importances from
_TOP_TRIALS = 5  # that PED-ANOVA compares with all, at least


def draw_study(study: optuna.Study, space: Space) -> dict[str, bytes]:
    """
    Draw what there is to draw.

    :param study: of ours
    :param space: that it searches
    :return: name -> PNG
    :raises InvalidValue: matplotlib is missing
    """
    new_figure(1, 1)  # or matplotlib is missing
    from matplotlib import pyplot
    from optuna.visualization.matplotlib import plot_optimization_history, plot_param_importances

    names = {optuna_name(key, entry) for key, entry in space.varied.items()}
    scored = [trial for trial in study.get_trials() if trial.value is not None and set(trial.params) == names]
    if not scored:
        return {}
    pictures = {}
    with pyplot.rc_context():  # Optuna changes the style for good
        pyplot.switch_backend("agg")
        axes = plot_optimization_history(study, target_name="score")
        pictures["history"] = _png(axes.figure)
        whole = with_pruned(scored)
        if len(scored) >= _FEW_TRIALS and len({trial.value for trial in scored}) > 1:
            evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(_TOP_TRIALS / len(scored), 0.5)))
            axes = plot_param_importances(whole, evaluator=evaluator, target_name="score")
            pictures["importances"] = _png(axes.figure)
        pyplot.close("all")
    for across, up in combinations(list(space.varied)[:_LEADING], 2):
        figure = draw_heatmap(space, across, up, scored)
        pictures[f"heatmap_{across}_{up}".replace(".", "_")] = _png(figure)
    return pictures


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, dpi=130, format="png", bbox_inches="tight")
    return file.getvalue()


def with_pruned(trials: list[FrozenTrial]) -> optuna.Study:
    """
    Optuna looks at complete trials only, which are the good ones where there is pruning.

    :param trials: with a score
    :return: a study in which those that were stopped early count with the score they had
    """
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        params, distributions = trial.params, trial.distributions
        study.add_trial(optuna.create_trial(value=trial.value, params=params, distributions=distributions))
    return study


def draw_heatmap(space: Space, across: str, up: str, trials: list[FrozenTrial]) -> Any:
    """
    The mean score of the trials in each cell, and every trial: a dot, or a cross if it was stopped early.

    :param space: that is searched
    :param across: argument on the horizontal axis
    :param up: on the vertical axis
    :param trials: with a score
    :return: the figure
    """
    axis_of = [_axis_of(space.varied[key], [trial.params for trial in trials], key) for key in (across, up)]
    edges, scores = [axis.edges for axis in axis_of], np.array([trial.value for trial in trials])
    counts, *_ = np.histogram2d(*(axis.places for axis in axis_of), bins=edges)
    sums, *_ = np.histogram2d(*(axis.places for axis in axis_of), bins=edges, weights=scores)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    figure = new_figure(2.2 + 0.62 * (len(edges[0]) - 1), 1.6 + 0.45 * (len(edges[1]) - 1))
    axes = figure.subplots()
    axes.set_facecolor("#F2F2F2")
    image = axes.pcolormesh(*edges, np.ma.masked_invalid(means.T), cmap="viridis")
    rng = np.random.default_rng(0)  # trials of equal values would hide each other
    x, y = (axis.places + rng.uniform(-0.22, 0.22, len(trials)) * axis.is_discrete for axis in axis_of)
    complete = np.array([trial.state is TrialState.COMPLETE for trial in trials])
    for marker, chosen in (("o", complete), ("x", ~complete)):
        axes.plot(x[chosen], y[chosen], marker, color="white", markersize=8, markeredgewidth=3.0)  # to be seen anywhere
        axes.plot(x[chosen], y[chosen], marker, color="black", markerfacecolor="white", markeredgewidth=1.2)
    axes.set_xticks(axis_of[0].ticks, axis_of[0].labels, rotation=30, ha="right")
    axes.set_yticks(axis_of[1].ticks, axis_of[1].labels)
    axes.set(xlabel=across, ylabel=up)
    figure.colorbar(image, ax=axes, label="mean score of the cell")
    return figure


@dataclass(frozen=True)
class Axis:
    """
    An argument as an axis cut into cells.

    :param places: where the trials are
    :param edges: of the cells
    :param ticks: where its labels are
    :param labels: what they say
    :param is_discrete: whether a cell is one value
    """

    places: np.ndarray
    edges: np.ndarray
    ticks: np.ndarray
    labels: list[str]
    is_discrete: bool


def _axis_of(entry: Entry, params: list[dict[str, Any]], key: str) -> Axis:
    stored = [one[optuna_name(key, entry)] for one in params]
    if "choices" in entry:
        labels = labels_of(entry)
        return _discrete([labels.index(one) for one in stored], 0, labels)
    if "powers_of" in entry:
        first, last = exponent(entry, entry["low"]), exponent(entry, entry["high"])
        return _discrete(stored, first, [entry["powers_of"] ** n for n in range(first, last + 1)])
    low, high, log = entry["low"], entry["high"], entry.get("log", False)
    if is_whole(entry) and high - low < _MANY and not log:
        return _discrete(stored, low, list(range(low, high + 1)))
    places, low, high = (np.log10(one) if log else np.asarray(one, float) for one in (stored, low, high))
    edges = np.linspace(low, high, _BINS + 1)
    labels = [f"{10**edge if log else edge:.2g}" for edge in edges]
    return Axis(places, edges, edges, labels, is_discrete=False)


def _discrete(places: list[Any], first: int, labels: list[Any]) -> Axis:
    ticks = first + np.arange(len(labels))
    edges = first + np.arange(len(labels) + 1) - 0.5
    return Axis(np.array(places, float), edges, ticks, [str(label) for label in labels], is_discrete=True)
