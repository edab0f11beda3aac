"""The report of a study as one page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sbbatch.analysis.comparison import probability_of_improvement
from sbbatch.analysis.page import image, page, paragraph, section, table, verbatim
from sbbatch.studies.command import Command
from sbbatch.studies.results import SCORES, Result, scores_of
from sbbatch.studies.study import Study


def study_page(
    study: Study,
    scale: str,
    commands: Sequence[Command],
    facts: str,
    verdicts: Sequence[str],
    tables: Mapping[str, Sequence[Sequence[str]]],
    pictures: Mapping[str, bytes],
) -> str:
    """
    :param study: which
    :param scale: name of its scale
    :param commands: of that scale
    :param facts: budget and cost, in a sentence
    :param verdicts: of the study's rules
    :param tables: scores by what they are, head first
    :param pictures: by what they show, as PNG
    :return: HTML
    """
    at, done = study.scales[scale], [command for command in commands if command.state == "done"]
    results = [command.result() for command in done]
    made_by = Counter(
        ", ".join(f"{key} {value}" for key, value in one.done().get("versions", {}).items()) for one in done
    )
    common = {**study.settings, **at.settings}
    arms = [(arm, _listed(of)) for arm, of in study.arms.items()]
    scores = (paragraph(name) + table(head, rows) for name, (head, *rows) in tables.items())
    return page(
        study.title,
        [
            paragraph(study.question),
            paragraph(f"Claim: {study.claim}"),
            section("Verdict", "".join(map(paragraph, verdicts))),
            *(image(name, content) for name, content in pictures.items()),
            section("Scores", "".join(scores)),
            section("Probability that a run of the row beats one of the column", _chances(study, results, at.games)),
            section("What was run", paragraph(facts) + table(("arm", "settings"), arms)),
            paragraph(f"In all arms: {_listed(common)}"),
            *(paragraph(f"{n} runs: {versions or 'made elsewhere'}") for versions, n in made_by.items()),
            verbatim(f"sbbatch study run {study.id} --scale {scale}\n" + " ".join(("sbbatch", *commands[0].run.words))),
        ],
    )


def _listed(settings: Mapping[str, Any], between: str = ": ") -> str:
    return ", ".join(f"{key}{between}{value}" for key, value in settings.items())


def _chances(study: Study, results: Sequence[Result], games: Sequence[str]) -> str:
    """Of the arms that have seeds on all games."""
    score = next(iter(SCORES))
    scores = {arm: scores_of(results, arm, score, games) for arm in study.arms}
    scores = {arm: values for arm, values in scores.items() if len(values)}
    rows = [
        (one, *("" if one == other else f"{probability_of_improvement(a, b):.2f}" for other, b in scores.items()))
        for one, a in scores.items()
    ]
    return paragraph(SCORES[score]) + table(("", *scores), rows)
