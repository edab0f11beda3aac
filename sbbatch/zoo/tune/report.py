"""The report of a study: ``trials.csv``, ``best.yml``, pictures, and one page with all of it."""

from __future__ import annotations

from pathlib import Path

import optuna

from sbbatch.errors import UserError
from sbbatch.files import atomic_write
from sbbatch.zoo.tune.page import page
from sbbatch.zoo.tune.plot import draw_study
from sbbatch.zoo.tune.results import (
    BEST_NAME,
    Result,
    best_of,
    best_yaml,
    importances,
    n_done,
    results_of,
    searched,
    summary,
    table,
)
from sbbatch.zoo.tune.study import Plan

TABLE_NAME, PAGE_NAME = "trials.csv", "report.html"


def write_report(plan: Plan, study: optuna.Study, pictures: bool) -> list[str]:
    """
    Write all files of the report into the study's folder.

    :param plan: of the study
    :param study: the same
    :param pictures: whether there are any
    :return: lines to print
    """
    results = results_of(plan, study)
    best = best_of(results)
    lines = [summary(plan, results)]
    with atomic_write(plan.folder / TABLE_NAME) as file:
        file.write(table(plan, results).encode())
    files = {"trials": TABLE_NAME}
    if best is None:
        lines.append("no trial is complete, so there is no best one")
    else:
        lines.append(f"best: trial {best.number}, score {best.score:.1f}: {searched(best)}")
        with atomic_write(plan.folder / BEST_NAME) as file:
            file.write(best_yaml(plan, study, best, n_done(results)).encode())
        files["best settings"] = BEST_NAME
    drawn, problem = _draw(plan, study, results) if pictures else ([], "")
    lines += [problem] if problem else []
    with atomic_write(plan.folder / PAGE_NAME) as file:
        file.write(page(plan, study, results, best, drawn).encode())
    files |= {"pictures": ", ".join(path.name for path in drawn)} if drawn else {}
    files["report"] = PAGE_NAME
    return [*lines, *(f"{what}: {plan.folder / name}" for what, name in files.items())]


def _draw(plan: Plan, study: optuna.Study, results: list[Result]) -> tuple[list[Path], str]:
    """The tables are worth more than the pictures: without matplotlib, say why and go on."""
    try:
        return draw_study(plan, results, importances(study, plan)), ""
    except UserError as error:
        return [], f"no pictures: {error}"
