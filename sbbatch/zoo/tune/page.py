"""The report of a study as one HTML page that needs nothing else: no script, no file beside it, no network."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import optuna
import yaml

from sbbatch.zoo.tune.plot import TABLE_PICTURE
from sbbatch.zoo.tune.results import Result, best_settings, ranked, repeat_command, summary, text_of
from sbbatch.zoo.tune.study import COMPLETE, Plan

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 10px; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { background: #f4f4f4; position: sticky; top: 0; } td.text { text-align: left; white-space: normal; }
tr.complete td { background: #fff; } tr.other td { color: #777; } tr.best td { background: #eaf4fb; font-weight: 600; }
pre { background: #f6f6f6; padding: 0.8em; overflow-x: auto; font-size: 13px; }
figure { margin: 1.2em 0; } img { max-width: 100%; } figcaption { color: #555; font-size: 13px; }
.scroll { overflow-x: auto; }
"""
_CAPTIONS = {
    "history": "Score of each trial. A trial that was stopped early has the score it had then.",
    "importances": "How much each argument decides whether a trial is among the best. Trials that were stopped early "
    "count with the score they had.",
    "heatmap": "Mean score of the trials in each cell. A dot is a whole trial, a cross one that was stopped early; "
    "where a cell is one value they are spread at random.",
}


def page(plan: Plan, study: optuna.Study, results: list[Result], best: Result | None, pictures: Iterable[Path]) -> str:
    """
    :param plan: of the study
    :param study: the same
    :param results: its trials
    :param best: the best of them
    :param pictures: PNG files, which become part of the page; that of the table does not, the page has its own
    """
    title = f"{plan.algo} on {plan.env_id}: study {plan.study_name}"
    parts = [
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
        f"<p>{escape(summary(plan, results))}. {escape(_protocol(plan))}</p>",
        _best_part(plan, study, best),
        *(_figure(path) for path in pictures if path.stem != TABLE_PICTURE),
        "<h2>Search space</h2>",
        _pre(yaml.safe_dump(plan.space.plain(), sort_keys=False)),
        "<h2>Trials, best first</h2>",
        _table(plan, results, best),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _protocol(plan: Plan) -> str:
    budget = plan.budget
    trainings = f"{budget.n_seeds} training{'s' if budget.n_seeds > 1 else ''}"
    return (
        f"Each trial: {trainings} of {budget.n_timesteps:,} agent steps "
        f"with {budget.n_evaluations} evaluations of {budget.eval_episodes} games. Seed of the study: {plan.seed}."
    )


def _best_part(plan: Plan, study: optuna.Study, best: Result | None) -> str:
    if best is None:
        return "<p>No trial is complete yet.</p>"
    settings = yaml.safe_dump({plan.env_id: best_settings(plan, study, best)}, sort_keys=True)
    head = f"<h2>Best: trial {best.number}, score {best.score:.1f}</h2>"
    return head + _pre(settings) + "<p>The same training again:</p>" + _pre(shlex.join(repeat_command(plan, best)))


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    caption = escape(_CAPTIONS[path.stem.partition("_")[0]])
    return (
        f"<figure><img alt='{escape(path.stem)}' src='data:image/png;base64,{data}'>"
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(plan: Plan, results: list[Result], best: Result | None) -> str:
    keys = [axis.key for axis in plan.space.axes]
    head = _row("th", ["trial", "score", *keys, "outcome", "seconds", "seeds: scores", "reason"])
    body = []
    for one in ranked(results):
        values = [text_of(one.values[key]) if key in one.values else "" for key in keys]
        pairs = ", ".join(f"{seed}: {score:.1f}" for seed, score in zip(one.seeds, one.scores, strict=False))
        score = f"{one.score:.1f}" if one.has_score else ""
        cells = [one.number, score, *values, one.outcome, text_of(one.seconds), pairs, one.reason]
        kind = "best" if one is best else "complete" if one.outcome == COMPLETE else "other"
        body.append(_row("td", cells, kind))
    return f"<div class='scroll'><table>{head}{''.join(body)}</table></div>"


def _row(tag: str, cells: list[Any], kind: str = "") -> str:
    text = "".join(f"<{tag}>{escape(str(cell))}</{tag}>" for cell in cells)
    return f"<tr class='{kind}'>{text}</tr>"
