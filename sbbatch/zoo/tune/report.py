"""What the trials of a study came to: lines, ``trials.csv``, ``best.yml``, pictures, and one HTML page with all."""

from __future__ import annotations

import base64
import json
import shlex
import textwrap
from collections import Counter
from datetime import datetime
from html import escape
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import FrozenTrial

from sbbatch.errors import UserError
from sbbatch.files import atomic_write
from sbbatch.zoo.logs.folders import plain
from sbbatch.zoo.tune.objective import LAST_EVALUATIONS
from sbbatch.zoo.tune.plots import draw_study
from sbbatch.zoo.tune.request import StudyRequest
from sbbatch.zoo.tune.space import Space
from sbbatch.zoo.tune.study import COUNTED, n_counted, outcome_of

BEST_NAME, TABLE_NAME, PAGE_NAME = "best.yml", "trials.csv", "report.html"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 13px; }
th, td { padding: 3px 10px; text-align: right; border-bottom: 1px solid #ddd; } th { background: #f4f4f4; }
pre { background: #f6f6f6; padding: 0.8em; overflow-x: auto; font-size: 13px; }
figure { margin: 1.2em 0; } img { max-width: 100%; } figcaption { color: #555; font-size: 13px; }
.scroll { overflow-x: auto; }
"""
_CAPTIONS = {
    "history": "Score of each complete trial, and the best so far.",
    "importances": "How much each argument decides whether a trial is among the best (PED-ANOVA). Trials that were "
    "stopped early count with the score they had.",
    "map": "Every trial where its settings are, in the colour of its score; a cross was stopped early.",
}


def trial_line(request: StudyRequest, study: optuna.Study, trial: FrozenTrial) -> str:
    """
    :param request: of the study
    :param study: the same
    :param trial: that has ended
    :return: its outcome for the screen
    """
    row = _row(request.space, trial)
    score = "-" if row["score"] is None else f"{row['score']:.1f}"
    outcome = "" if row["outcome"] == "complete" else f" {row['outcome']}"
    reason = f" ({row['reason']})" if row["reason"] else ""
    counted = study.get_trials(deepcopy=False, states=COUNTED)
    end = trial.datetime_complete or datetime.max
    n_done = sum((other.datetime_complete or end) <= end for other in counted)
    done = f"[{n_done}/{request.n_trials}]"
    return f"{done} trial {trial.number}: {score}{outcome}, {_searched(request, trial)}{reason}"


def _searched(request: StudyRequest, trial: FrozenTrial) -> str:
    values = request.space.values(trial.params)
    return ", ".join(f"{key} {_short(values[key])}" for key in request.space.varied if key in values)


def _short(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(space: Space, trial: FrozenTrial) -> dict[str, Any]:
    """A trial for people; lists as JSON."""
    attributes, values = trial.user_attrs, space.values(trial.params)
    lines = str(attributes.get("error") or attributes.get("reason") or "").strip().splitlines()
    found = {"trial": trial.number, "outcome": outcome_of(trial), "score": trial.value}
    for key in space.varied:
        value = values.get(key)
        found[key] = json.dumps(value) if isinstance(value, (list, dict)) else value
    for key in ("seeds", "scores"):
        found[key] = " ".join(str(round(number, 4)) for number in attributes.get(key, []))
    return {**found, "seconds": attributes.get("seconds"), "reason": lines[-1] if lines else ""}


def trials_table(study: optuna.Study, space: Space) -> pd.DataFrame:
    """
    :param study: of ours
    :param space: that it searches
    :return: the trials that have ended, in their order
    """
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return pd.DataFrame([_row(space, trial) for trial in ended if outcome_of(trial) != "surplus"], dtype=object)


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """
    :param study: of ours
    :return: the best complete trial, of equal ones the first; ``None``: there is none
    """
    try:
        return study.best_trial
    except ValueError:
        return None


def write_report(request: StudyRequest, study: optuna.Study) -> list[str]:
    """
    Write all files of the report into the study's folder.

    :param request: of the study
    :param study: the same
    :return: lines to print
    """
    table, best = trials_table(study, request.space), best_trial(study)
    done = n_counted(study)
    outcomes = Counter(table["outcome"]) if len(table) else Counter()
    parts = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common()) or "none has ended"
    wanted = done if request.options.report_only else max(done, request.n_trials)
    summary = f"{done} of {wanted} trials are done ({parts})"
    lines, files = [summary], {TABLE_NAME: table.to_csv(index=False, lineterminator="\n").encode()}
    if best is None:
        lines.append("no trial is complete, so there is no best one")
    else:
        lines.append(f"best: trial {best.number}, score {best.value:.1f}: {_searched(request, best)}")
        files[BEST_NAME] = best_yaml(request, best, done).encode()
    drawn: dict[str, bytes] = {}
    if not request.options.no_optim_plots:
        try:
            drawn = draw_study(study, request.space)
        except UserError as error:  # the tables are worth more than the pictures
            lines.append(f"no pictures: {error}")
    files |= {f"{name}.png": picture for name, picture in drawn.items()}
    files[PAGE_NAME] = _page(request, summary, table, best, drawn).encode()
    for name, content in files.items():
        with atomic_write(request.folder / name) as file:
            file.write(content)
    return [*lines, f"in {request.folder}: {', '.join(files)}"]


def _settings(request: StudyRequest, best: FrozenTrial) -> str:
    """A hyperparameter file with the trial's settings, all of them."""
    changed = request.space.settings(request.space.values(best.params), request.settings)
    return yaml.safe_dump({request.options.env: plain({**request.settings, **changed})}, sort_keys=True)


def best_yaml(request: StudyRequest, best: FrozenTrial, n_trials: int) -> str:
    """
    A hyperparameter file for ``sbbatch train -conf``.

    :param request: of the study
    :param best: the trial
    :param n_trials: that it was the best of
    """
    pairs = zip(best.user_attrs["seeds"], best.user_attrs["scores"], strict=True)
    story = (
        f"The best of {n_trials} trials of study {request.study_name} (sbbatch tune, space {request.space.name}): "
        f"trial {best.number}, score {best.value:.1f}. The score is the interquartile mean over seeds of the mean of "
        f"the last {min(LAST_EVALUATIONS, request.budget.n_evaluations)} evaluations; as the best of many it is "
        f"flattering. Seeds and their scores: {', '.join(f'{seed} ({score:.1f})' for seed, score in pairs)}. Another "
        "run: leave out --seed below; a longer one: add -n. The same training again:"
    )
    lines = [*textwrap.wrap(story, 118), shlex.join(repeat_command(request, best))]
    return "".join(f"# {line}\n" for line in lines) + _settings(request, best)


def repeat_command(request: StudyRequest, best: FrozenTrial) -> list[str]:
    """
    The command that trains exactly as a trial did with its first seed.

    :param request: of the study
    :param best: the trial
    """
    options, budget = request.options, request.budget
    given = {
        "--algo": options.algo,
        "--env": options.env,
        "-conf": request.folder / BEST_NAME,
        "--seed": best.user_attrs["seeds"][0],
        "--num-threads": 1,
        "--eval-freq": max(budget.n_timesteps // budget.n_evaluations, 1),
        "--eval-episodes": budget.eval_episodes,
        "--n-eval-envs": budget.n_eval_envs,
        "--eval-max-steps": budget.eval_max_steps,
    }
    words = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    words += [word for name in options.gym_packages for word in ("--gym-packages", name)]
    return ["sbbatch", "train", *words, *(word for name in options.allow_import for word in ("--allow-import", name))]


def _page(
    request: StudyRequest, summary: str, table: pd.DataFrame, best: FrozenTrial | None, drawn: dict[str, bytes]
) -> str:
    """HTML that needs nothing else: no script, no file beside it, no network."""
    budget = request.budget
    title = f"{request.options.algo} on {request.options.env}: study {request.study_name}"
    protocol = (
        f"Each trial: {budget.n_seeds} training{'s' if budget.n_seeds > 1 else ''} of {budget.n_timesteps:,} agent "
        f"steps with {budget.n_evaluations} evaluations of {budget.eval_episodes} episodes. Seed of the study: "
        f"{request.seed}."
    )
    parts = [
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><p>{escape(f'{summary}. {protocol}')}</p>",
    ]
    if best is not None:
        command = shlex.join(repeat_command(request, best))
        parts += [f"<h2>Best: trial {best.number}, score {best.value:.1f}</h2>", _pre(_settings(request, best))]
        parts += ["<p>The same training again:</p>", _pre(command)]
    for name, picture in drawn.items():
        source = f"data:image/png;base64,{base64.b64encode(picture).decode()}"
        caption = escape(_CAPTIONS[name.partition("_")[0]])
        parts.append(f"<figure><img alt='{name}' src='{source}'><figcaption>{caption}</figcaption></figure>")
    parts += ["<h2>Search space</h2>", _pre(yaml.safe_dump(plain(request.space.entries), sort_keys=False))]
    if len(table):
        ranked = table.assign(whole=table["outcome"] == "complete")
        ranked = ranked.sort_values(["whole", "score"], ascending=False).drop(columns="whole")
        with pd.option_context("display.max_colwidth", None):
            html = ranked.apply(lambda column: column.map(_short)).to_html(index=False, border=0)
        parts += ["<h2>Trials, best first</h2>", f"<div class='scroll'>{html}</div>"]
    return "\n".join([*parts, "</body></html>\n"])


def _pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
