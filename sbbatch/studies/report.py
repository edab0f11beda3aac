"""The report of a study: tables, a figure, and the verdict by the study's own rules; of half a study, what is there."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sbbatch.analysis.figure import picture_files
from sbbatch.analysis.metrics import iqm, stratified_bootstrap_interval
from sbbatch.errors import InvalidValue
from sbbatch.studies.command import Command
from sbbatch.studies.figure import draw
from sbbatch.studies.page import study_page
from sbbatch.studies.profile_figure import draw_profiles
from sbbatch.studies.results import SCORES, Result, scores_of, write_runs
from sbbatch.studies.study import Study

ALL_GAMES = "all, scaled"
PICTURES = {
    "curves": "Learning curves of each game",
    "scores": "Scores of all games together",
    "profiles": "Performance profiles, and return over time",
}
INTERVALS = (
    "Interquartile means with 95 % stratified bootstrap intervals: of games in raw returns, of all together on scales "
    "from a random policy (0) to a human or a strong agent (1)."
)


class Row(NamedTuple):
    """
    One row of ``summary.csv``: an interquartile mean with its 95 % stratified bootstrap interval.

    :param score: a key of ``SCORES``
    :param game: environment, in raw returns, or ``ALL_GAMES``, on the games' scales
    :param arm: which
    :param seeds: how many have ended
    :param iqm: over seeds and games
    :param low: lower end
    :param high: upper end
    """

    score: str
    game: str
    arm: str
    seeds: int
    iqm: float
    low: float
    high: float

    def __str__(self) -> str:
        interval = f" [{self.low:.3g}, {self.high:.3g}]" if self.seeds > 1 else ""  # of one nobody knows
        return f"{self.iqm:.3g}{interval}"


def write_report(study: Study, scale: str, commands: Sequence[Command], folder: Path) -> str:
    """
    ``runs.csv``, ``summary.csv``, pictures as PNG and PDF, ``report.md``, and all of it in one ``report.html``.

    :param study: which
    :param scale: name of its scale
    :param commands: of that scale
    :param folder: where they go
    :return: the text of ``report.md``
    :raises InvalidValue: no run has ended
    """
    results = [command.result() for command in commands if command.state == "done"]
    if not results:
        raise InvalidValue(f"{study.id}: no run has ended at scale '{scale}'; begin with `sbbatch study run`")
    folder.mkdir(parents=True, exist_ok=True)
    games = study.scales[scale].games
    rows = summary(list(study.arms), games, results)
    write_runs(results, folder / "runs.csv")
    with (folder / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([Row._fields, *((*row[:4], *(f"{x:.6g}" for x in row[4:])) for row in rows)])
    arms = [arm for arm in study.arms if any(one.run.arm == arm for one in results)]  # one color each
    names = [*draw(arms, games, results, [row for row in rows if row.game == ALL_GAMES], folder), "profiles"]
    draw_profiles(arms, games, results, picture_files(folder / "profiles"))
    verdicts = [rule.decide(partial(scores_of, results, games=games)) for rule in study.rules]
    facts, tables = _facts(study, scale, len(commands), results), _tables(study, games, rows)
    pictures = {PICTURES[name]: (folder / f"{name}.png").read_bytes() for name in names}
    html = study_page(study, scale, commands, facts, verdicts, tables, pictures)
    text = _markdown(study, facts, verdicts, tables, names)
    for name, content in (("report.html", html), ("report.md", text)):
        (folder / name).write_text(content, encoding="utf-8")
    return text


def summary(arms: Sequence[str], games: Sequence[str], results: Sequence[Result]) -> list[Row]:
    """
    :param arms: names
    :param games: environments
    :param results: all that have ended
    :return: a row for each score, game (and all together) and arm that has results
    """
    rows = []
    for score in SCORES:
        for game, some in (*((game, [game]) for game in games), (ALL_GAMES, games)):
            for arm in arms:
                scores = scores_of(results, arm, score, some, scaled=game == ALL_GAMES)
                if len(scores):
                    interval = stratified_bootstrap_interval(scores, n_resamples=5_000)
                    rows.append(Row(score, game, arm, len(scores), iqm(scores), *interval))
    return rows


def _facts(study: Study, scale: str, n_runs: int, results: Sequence[Result]) -> str:
    at, hours = study.scales[scale], sum(result.seconds for result in results) / 3600
    return (
        f"{at.steps:,} agent steps a run, {at.seeds} seeds, {', '.join(at.games)}; {len(results)} of {n_runs} runs "
        f"have ended, {hours:.1f} core hours. Made by `sbbatch study run {study.id} --scale {scale}`."
    )


def _tables(study: Study, games: Sequence[str], rows: Sequence[Row]) -> dict[str, list[tuple[str, ...]]]:
    """For each score its name, and a table, head first."""
    columns, found = (*games, ALL_GAMES), {}
    for score, label in SCORES.items():
        found[label] = [("arm", *columns, "seeds")]
        for arm in study.arms:
            of_arm = {row.game: row for row in rows if (row.score, row.arm) == (score, arm)}
            seeds = of_arm[ALL_GAMES].seeds if ALL_GAMES in of_arm else 0
            found[label].append((arm, *(str(of_arm.get(game, "")) for game in columns), str(seeds)))
    return found


def _markdown(
    study: Study,
    facts: str,
    verdicts: Sequence[str],
    tables: Mapping[str, Sequence[Sequence[str]]],
    pictures: Sequence[str],
) -> str:
    parts = [
        f"# {study.title}",
        study.question,
        facts,
        *(f"![{PICTURES[name]}]({name}.png)" for name in pictures),
        f"**Claim.** {study.claim}",
        "**Verdict**",
        "\n".join(f"- {verdict}" for verdict in verdicts),
        INTERVALS,
    ]
    for label, (head, *lines) in tables.items():
        head = (label, *head[1:])
        cells = [" | ".join(line) for line in (head, ["---"] * len(head), *lines)]
        parts.append("\n".join(f"| {line} |" for line in cells))
    return "\n\n".join(parts) + "\n"
