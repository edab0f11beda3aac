"""
Running what is missing of a study. Nothing is remembered but the runs' done files: a study can be stopped, killed and
run again at any moment.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sbbatch.studies.command import ATTEMPTS, BUSY, LOST, Command
from sbbatch.studies.engines import Engine
from sbbatch.studies.results import Result, read_runs
from sbbatch.studies.study import Study, canonical

_START_SECONDS = 15.0  # of importing and building, for the plan


def run_missing(commands: Sequence[Command], engine: Engine) -> Iterator[tuple[Command, str]]:
    """
    Execute what is not done: first what needs no other run, then what needs one that is done by now.

    :param commands: of a study
    :param engine: where
    :return: each with what became of it, as they end; what was lost with its machine comes again
    """
    for dependent in (False, True):
        left = [one for one in commands if (one.run.needs is not None) == dependent and one.state != "done"]
        left = [one for one in left if one.run.needs is None or Command(one.run.needs, one.root).state == "done"]
        for _ in range(ATTEMPTS if left else 0):
            ended = []
            for command, outcome in engine.map(left):
                yield command, outcome
                ended.append((command, outcome))
            left = [command for command, outcome in ended if outcome in (LOST, BUSY)]
            if not left:
                break


def adopt(commands: Sequence[Command], source: Path) -> list[Command]:
    """
    Take over runs that were made elsewhere with the same commands.

    :param commands: of a study
    :param source: a ``runs.csv`` of the same study, such as those in docs/results, or a folder that holds run folders,
        however deep
    :return: what was adopted
    """
    missing = {canonical(command.run.words): command for command in commands if command.state != "done"}
    if source.is_file():
        known = read_runs(source)
        adopted = [command for command in missing.values() if command.run.id in known]
        for command in adopted:
            command.write_done(Result.of(command.run, known[command.run.id]), attempts=0)
        return adopted
    for path in sorted(source.rglob("command.txt")):
        lines, folder = path.read_text(encoding="utf-8").splitlines(), path.parents[1]
        found = missing.get(canonical(shlex.split(lines[0])[1:])) if len(lines) == 1 else None
        if found is not None and found.state != "done":
            found.finish(folder)
    return [command for command in missing.values() if command.state == "done"]


def stated_seconds(study: Study, scale: str) -> float:
    """
    What one run takes by the speed that the study states.

    :param study: which
    :param scale: name of its scale
    """
    at = study.scales[scale]
    return _START_SECONDS + at.steps / at.steps_per_second


def plan(study: Study, scale: str, commands: Sequence[Command]) -> str:
    """
    What the missing runs cost: by the times of those of the same length that are done, else by the speed that the study
    states.

    :param study: which
    :param scale: name of its scale
    :param commands: of that scale
    """
    times: dict[str, list[float]] = {}
    for command in commands:
        if command.state == "done":
            times.setdefault(command.run.arm, []).append(command.result().seconds)
    measured = [value for values in times.values() for value in values]
    missing = [command.run for command in commands if command.state != "done"]
    seconds = [times.get(run.arm) or measured or [stated_seconds(study, scale)] for run in missing]
    hours = sum(float(np.mean(values)) for values in seconds) / 3600
    known = "measured here" if measured else "by the speed stated in the study"
    cost = f"about {hours:,.1f} core hours ({known}), {len(missing) * study.megabytes / 1000:,.2f} GB"
    return f"{len(commands):,} runs, {len(missing):,} to do, {cost}"
