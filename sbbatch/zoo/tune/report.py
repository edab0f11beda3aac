"""What the trials of a study came to: lines, ``trials.csv``, ``best.yml``, pictures, and one HTML page with all."""

from __future__ import annotations

import io
import json
import shlex
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from sbbatch.analysis.figure import picture
from sbbatch.analysis.page import image, page, paragraph, section, verbatim
from sbbatch.analysis.page import table as html_table
from sbbatch.analysis.trials import SIZE, draw_history, draw_importances, draw_map
from sbbatch.errors import UserError
from sbbatch.files import atomic_write
from sbbatch.zoo.logs.folders import plain
from sbbatch.zoo.tune.objective import LAST_EVALUATIONS
from sbbatch.zoo.tune.request import StudyRequest
from sbbatch.zoo.tune.space import Space, optuna_name
from sbbatch.zoo.tune.study import n_counted, outcome_of

BEST_NAME, TABLE_NAME, PAGE_NAME = "best.yml", "trials.csv", "report.html"
_LEADING = 3  # arguments that are drawn against each other
_FEWEST_TRIALS = 8  # too few to tell importances from
_TOP_TRIALS = 5  # that PED-ANOVA compares with all, at least


def trial_line(request: StudyRequest, study: optuna.Study, trial: FrozenTrial) -> str:
    """The outcome of a trial that has ended, for the screen."""
    row = _row(request.space, trial)
    score = "-" if row["score"] is None else f"{row['score']:.1f}"
    outcome = "" if row["outcome"] == "complete" else f" {row['outcome']}"
    reason = f" ({row['reason']})" if row["reason"] else ""
    done = f"[{n_counted(study)}/{request.options.n_trials}]"
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


def write_report(request: StudyRequest, study: optuna.Study) -> list[str]:
    """Write all files of the report into the study's folder; the lines to print."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    rows = [_row(request.space, trial) for trial in ended if outcome_of(trial) != "surplus"]
    table, done = pd.DataFrame(rows, dtype=object), n_counted(study)
    counts = Counter(row["outcome"] for row in rows).most_common()
    parts = ", ".join(f"{n} {outcome}" for outcome, n in counts) or "none has ended"
    wanted = done if request.options.report_only else max(done, request.options.n_trials)
    summary = f"{done} of {wanted} trials are done ({parts})"
    lines, files = [summary], {TABLE_NAME: table.to_csv(index=False, lineterminator="\n").encode()}
    if any(row["outcome"] == "complete" for row in rows):
        best = study.best_trial
        lines.append(f"best: trial {best.number}, score {best.value:.1f}: {_searched(request, best)}")
        files[BEST_NAME] = best_yaml(request, best, done).encode()
    else:
        lines.append("no trial is complete, so there is no best one")
    drawn: dict[str, bytes] = {}
    if not request.options.no_optim_plots:
        try:
            drawn = draw_study(study, request.space)
        except UserError as error:  # the tables are worth more than the pictures
            lines.append(f"no pictures: {error}")
    files |= {f"{name}.png": content for name, content in drawn.items()}
    files[PAGE_NAME] = _page(request, lines[:2], files.get(BEST_NAME, b"").decode(), table, drawn).encode()
    for name, content in files.items():
        with atomic_write(request.folder / name) as file:
            file.write(content)
    return [*lines, f"in {request.folder}: {', '.join(files)}"]


def best_yaml(request: StudyRequest, best: FrozenTrial, n_trials: int) -> str:
    """A hyperparameter file for ``sbbatch train -conf``, with all settings of the best of so many trials."""
    pairs = zip(best.user_attrs["seeds"], best.user_attrs["scores"], strict=True)
    story = (
        f"The best of {n_trials} trials of study {request.study_name} (sbbatch tune, space {request.space.name}): "
        f"trial {best.number}, score {best.value:.1f}. The score is the interquartile mean over seeds of the mean of "
        f"the last {min(LAST_EVALUATIONS, request.budget.n_evaluations)} evaluations; as the best of many it is "
        f"flattering. Seeds and their scores: {', '.join(f'{seed} ({score:.1f})' for seed, score in pairs)}. Another "
        "run: leave out --seed below; a longer one: add -n. The same training again:"
    )
    lines = [*textwrap.wrap(story, 118), shlex.join(repeat_command(request, best))]
    changed = request.space.settings(request.space.values(best.params), request.settings)
    settings = yaml.safe_dump({request.options.env: plain({**request.settings, **changed})}, sort_keys=True)
    return "".join(f"# {line}\n" for line in lines) + settings


def repeat_command(request: StudyRequest, best: FrozenTrial) -> list[str]:
    """The command that trains exactly as a trial did with its first seed."""
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


def _page(request: StudyRequest, lines: list[str], best: str, table: pd.DataFrame, drawn: dict[str, bytes]) -> str:
    """HTML that needs nothing else: no script, no file beside it, no network."""
    budget = request.budget
    title = f"{request.options.algo} on {request.options.env}: study {request.study_name}"
    lines = [
        *lines,
        f"each trial: {budget.n_seeds} x {budget.n_timesteps:,} agent steps with {budget.n_evaluations} evaluations of "
        f"{budget.eval_episodes} episodes; seed of the study: {request.seed}",
    ]
    parts = [paragraph(line) for line in lines]
    parts += [section("Best settings", verbatim(best))] if best else []
    parts += [image(name, content) for name, content in drawn.items()]
    space = yaml.safe_dump(plain(request.space.entries), sort_keys=False)
    parts.append(section("Search space", verbatim(space)))
    if len(table):
        ranked = table.assign(whole=table["outcome"] == "complete")
        ranked = ranked.sort_values(["whole", "score"], ascending=False).drop(columns="whole")
        cells = ranked.apply(lambda column: column.map(_short)).to_numpy().tolist()
        parts.append(section("Trials, best first", html_table(list(ranked.columns), cells)))
    return page(title, parts)


def draw_study(study: optuna.Study, space: Space) -> dict[str, bytes]:
    """The trials in their order, importances, and the first arguments against each other, by their names as PNG."""
    scored = [
        trial for trial in study.get_trials() if trial.value is not None and len(trial.params) == len(space.varied)
    ]
    if not scored:
        return {}
    table = pd.DataFrame([_row(space, trial) for trial in scored])
    pictures = {"history": _png(draw_history, table)}
    if len(scored) >= _FEWEST_TRIALS and table["score"].nunique() > 1:
        keys = {optuna_name(key, entry): key for key, entry in space.varied.items()}
        shares = {keys[name]: share for name, share in importances_of(scored).items()}
        pictures["importances"] = _png(draw_importances, shares, len(scored))
    for pair in combinations(list(space.varied)[:_LEADING], 2):
        pictures["_".join(("map", *pair)).replace(".", "_")] = _png(draw_map, table, *pair)
    return pictures


def _png(draw: Callable[..., None], *what: Any) -> bytes:
    file = io.BytesIO()
    with picture([], *SIZE) as figure:
        draw(figure, *what)
        figure.savefig(file, dpi=150, format="png")
    return file.getvalue()


def importances_of(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """
    PED-ANOVA's importance of each parameter. Trials that were stopped early, which Optuna ignores, count with the score
    they had.
    """
    study = optuna.create_study(direction="maximize")
    for trial in trials:
        params, distributions = trial.params, trial.distributions
        study.add_trial(optuna.create_trial(value=trial.value, params=params, distributions=distributions))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(_TOP_TRIALS / len(trials), 0.5)))
    return get_param_importances(study, evaluator=evaluator)
