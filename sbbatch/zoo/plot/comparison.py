"""Several agents, environments and seeds in one picture, drawn from the files of their runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.analysis.curves import Curve, Points, curve_over_runs, draw_curves, over_runs
from sbbatch.analysis.figure import counted, picture_files
from sbbatch.analysis.metrics import Statistic, iqm, running_mean, smoothing_window
from sbbatch.errors import InvalidValue
from sbbatch.files import write_csv
from sbbatch.zoo.plot.runs import Group, group_runs, read_run

_LAST = 3  # evaluations that the final score averages
_POINTS = 60  # of a curve of training episodes
_NEAR = 0.05  # of the length of a run: such ends are one
_STATISTICS: dict[str, tuple[Statistic, str]] = {
    "iqm": (iqm, "interquartile mean"),
    "mean": (np.mean, "mean"),
}  # by their names in tables


@dataclass(frozen=True)
class Comparison:
    """Returns of the runs of one agent in one environment."""

    group: Group
    timesteps: np.ndarray  # agent steps that all runs have a return at, e.g. of evaluations ``(points,)``
    returns: np.ndarray  # mean raw return there ``(runs, points)``
    statistic: str = "iqm"  # what is drawn of the runs
    window: int = 0  # training episodes that a return is the running mean of; 0: returns are of evaluations
    tails: Sequence[Points] = ()  # of single runs, from the last common point to their own ends
    notes: Sequence[str] = ()  # what a reader would not expect

    @cached_property
    def curve(self) -> Curve:
        """The statistic over runs, and its 95 % bootstrap interval, at each point."""
        group, (statistic, _) = self.group, _STATISTICS[self.statistic]
        return curve_over_runs(group.environment, group.label, self.timesteps, self.returns, statistic, self.tails)

    def final(self) -> np.ndarray:
        """Score of each run: the mean of its last common evaluations ``(runs,)``."""
        return self.returns[:, -_LAST:].mean(axis=1)

    def rows(self) -> Iterator[list[Any]]:
        """Lines of a table: what is drawn, at each point."""
        curve = self.curve
        for step, *figures in zip(curve.steps, curve.middle, curve.low, curve.high, strict=True):
            rounded = [round(float(figure), 3) for figure in figures]
            yield [curve.panel, curve.label, int(step), len(self.returns), *rounded]


def read_runs(folders: Sequence[Path | str], by: Sequence[str] | None = None) -> list[Comparison]:
    """The evaluations of runs, for each group of :func:`group_runs`; every run must have some."""
    found = []
    for group in group_runs([read_run(folder) for folder in folders], by):
        for run in group.runs:
            if not len(run.evaluations[0]):
                raise InvalidValue(f"{run.folder}: no evaluation has ended; train with --eval-freq")
        curves = [(run.evaluations[0], run.evaluations[1].mean(axis=1)) for run in group.runs]
        shortest = min((steps for steps, _ in curves), key=lambda steps: steps[-1])
        steps = shortest[shortest >= max(own[0] for own, _ in curves)]
        notes = []
        if any(not np.isin(steps, own).all() for own, _ in curves):  # the last ones of adaptive rollouts, say
            notes.append("evaluations at different agent steps are interpolated linearly")
        found.append(_together(group, curves, steps, notes))
    return found


def read_training(folders: Sequence[Path | str], by: Sequence[str] | None = None) -> list[Comparison]:
    """The training episodes of runs, for each group of :func:`group_runs`, together up to the end of the shortest."""
    found = []
    for group in group_runs([read_run(folder).without_evaluations() for folder in folders], by):
        for run in group.runs:
            if not len(run.episodes[0]):
                raise InvalidValue(f"{run.folder}: no training episode has ended yet, so there is nothing to draw")
        window = smoothing_window(min(len(run.episodes[0]) for run in group.runs))
        curves = [(steps, running_mean(returns, window)) for steps, returns in (run.episodes for run in group.runs)]
        first, last = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
        steps = np.linspace(first, last, _POINTS if first < last else 0)
        found.append(_together(group, curves, steps, [], statistic="mean", window=window))
    return found


def mean_over_runs(group: Group, curves: Sequence[Points]) -> Comparison:
    """Of whatever was measured now and then in each run, at the steps of the shortest."""
    shortest = min((steps for steps, _ in curves), key=lambda steps: steps[-1])
    steps = shortest[shortest >= max(own[0] for own, _ in curves)]
    return _together(group, curves, steps, [], statistic="mean")


def _together(group: Group, curves: Sequence[Points], steps: np.ndarray, notes: list[str], **drawn: Any) -> Comparison:
    if not len(steps):
        raise InvalidValue(f"{group.label} on {group.environment}: the runs have nothing at common agent steps yet")
    # Runs of one length end a little apart: with the last episode, or with the last rollout.
    near = _NEAR * (steps[-1] - steps[0])
    cut = max(own[-1] for own, _ in curves if own[-1] <= steps[-1] + near) - steps[-1]
    if cut > 0:
        notes.append(f"up to {cut:,.0f} agent steps after {steps[-1]:,.0f}, where the shortest run ends, are not drawn")
    returns = np.stack([np.interp(steps, own, values) for own, values in curves])
    tails = []
    for (own, values), last in zip(curves, returns[:, -1], strict=True):
        if own[-1] > steps[-1] + near:
            after = own > steps[-1]
            tails.append((np.append(steps[-1], own[after]), np.append(last, values[after])))
    if tails:
        notes.append(
            f"{len(tails)} of {len(curves)} runs go on after {steps[-1]:,.0f} agent steps, where the shortest ends; "
            "from there on they are thin lines"
        )
    return Comparison(group, steps, returns, tails=tails, notes=[*group.pooled(), *notes], **drawn)


def draw_comparisons(comparisons: Sequence[Comparison], out: Path, title: str | None = None) -> list[Path]:
    """
    One panel for each environment, one color for each agent, and a CSV of the numbers beside the picture.

    :param out: the PNG, PDF or SVG to write; without a suffix PNG and PDF
    :param title: above the picture
    :return: the pictures
    :raises UserError: matplotlib is missing, or the file cannot be written
    """
    files, statistic = picture_files(out), comparisons[0].statistic
    counts: dict[str, list[int]] = defaultdict(list)
    for one in comparisons:
        counts[one.group.label].append(len(one.returns))
    labels = {label: f"{label} ({counted(own, 'run')})" for label, own in counts.items()}
    curves = [replace(one.curve, label=labels[one.group.label]) for one in comparisons]
    windows = [one.window for one in comparisons if one.window]
    what = f"running means of {counted(windows, 'training episode')}" if windows else "evaluations"
    over = over_runs(_STATISTICS[statistic][1], [len(one.returns) for one in comparisons])
    thin = "; thin lines: single runs that are longer than others" if any(one.tails for one in comparisons) else ""
    draw_curves(curves, files, title, what + over + thin)
    header = ("environment", "agent", "timesteps", "runs", statistic, "low", "high")
    write_csv(files[0].with_suffix(".csv"), header, [row for one in comparisons for row in one.rows()])
    return files


def report_runs(comparisons: Sequence[Comparison]) -> list[str]:
    """One line for each, the best of an environment first, and what is not as it seems: pooled settings, short runs."""
    ordered = sorted(comparisons, key=lambda one: (one.group.environment, -one.final().mean()))
    lines = [
        f"{one.group.environment:<28} {one.group.label:<16} {one.final().mean():10.1f}   runs: "
        + ", ".join(f"{score:.1f}" for score in one.final())
        for one in ordered
    ]
    notes = [f"{one.group.label} on {one.group.environment}: {note}" for one in ordered for note in one.notes]
    return lines + notes
