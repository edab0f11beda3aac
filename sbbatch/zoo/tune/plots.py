"""Pictures of a study: Optuna's history and importances, and the first arguments against each other."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from sbbatch.zoo.plot.figure import new_figure
from sbbatch.zoo.tune.space import Entry, Space, optuna_name

_LEADING = 3  # arguments that are drawn against each other
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
        if any(trial.state is TrialState.COMPLETE for trial in scored):
            pictures["history"] = _png(plot_optimization_history(study, target_name="score").figure)
        if len(scored) >= _FEW_TRIALS and len({trial.value for trial in scored}) > 1:
            evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(_TOP_TRIALS / len(scored), 0.5)))
            axes = plot_param_importances(with_pruned(scored), evaluator=evaluator, target_name="score")
            pictures["importances"] = _png(axes.figure)
        pyplot.close("all")
    for across, up in combinations(list(space.varied)[:_LEADING], 2):
        pictures[f"map_{across}_{up}".replace(".", "_")] = _png(draw_map(space, across, up, scored))
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


def draw_map(space: Space, across: str, up: str, trials: list[FrozenTrial]) -> Any:
    """
    Every trial where its settings are, in the colour of its score: a dot, or a cross if it was stopped early.

    :param space: that is searched
    :param across: argument on the horizontal axis
    :param up: on the vertical axis
    :param trials: with a score
    :return: the figure
    """
    figure = new_figure(7, 5)
    axes = figure.subplots()
    values = [space.values(trial.params) for trial in trials]
    scores = np.array([trial.value for trial in trials])
    complete = np.array([trial.state is TrialState.COMPLETE for trial in trials])
    for name, key in (("x", across), ("y", up)):
        entry = space.varied[key]
        if "choices" in entry:
            # matplotlib shows text in the order in which it first comes.
            getattr(axes, f"{name}axis").update_units([str(choice) for choice in entry["choices"]])
        elif "powers_of" in entry or entry.get("log"):
            getattr(axes, f"set_{name}scale")("log", base=entry.get("powers_of", 10))
            getattr(axes, f"{name}axis").set_major_formatter("{x:g}")
    marks = []
    for marker, chosen in (("o", complete), ("X", ~complete)):
        x, y = ([_shown(space.varied[key], values[i][key]) for i in np.flatnonzero(chosen)] for key in (across, up))
        limits = {"vmin": scores.min(), "vmax": scores.max()}
        marks.append(axes.scatter(x, y, c=scores[chosen], marker=marker, s=90, edgecolors="black", **limits))
    axes.set(xlabel=across, ylabel=up)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    figure.colorbar(marks[0], ax=axes, label="score")
    return figure


def _shown(entry: Entry, value: Any) -> Any:
    return str(value) if "choices" in entry else value
