"""A study as data: its arms and budgets, the runs that follow from them, and the rules that decide it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sbbatch.studies.rules import Rule

_FEWEST_STEPS = 1_000  # between two evaluations
ROOT = "{root}"  # in the words of a run: the folder of all studies, which differs from machine to machine
# Options of `sbbatch train` that say where and how a run is written down, and nothing about its result.
_HOUSEKEEPING = {"-f", "--log-folder", "--no-progress", "--log-interval", "--save-freq", "--num-threads", "--verbose"}

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class SizesOf:
    """
    As a setting: the batch sizes of another run, which has the same game and the next seed of the scale.

    :param arm: of the other run
    """

    arm: str


@dataclass(frozen=True)
class Scale:
    """
    How much of a study is run.

    :param steps: agent steps of each run
    :param seeds: how many, from 0 on
    :param games: environments
    :param steps_per_second: of a run on one core, as measured somewhere, for the plan
    :param settings: what a small budget changes in all arms, e.g. a shorter warm-up
    :param options: further words of the command, likewise
    """

    steps: int
    seeds: int
    games: tuple[str, ...]
    steps_per_second: float
    settings: Settings = field(default_factory=dict)
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """
    One training: a command that says everything about it.

    :param study: id of the study
    :param arm: name of the arm
    :param game: environment
    :param seed: of everything
    :param steps: agent steps
    :param words: of the command, from ``train`` on
    :param needs: the run that must have ended before this one begins, if any
    """

    study: str
    arm: str
    game: str
    seed: int
    steps: int
    words: tuple[str, ...]
    needs: Run | None = None

    @property
    def id(self) -> str:
        """A readable name, and a hash of all that decides the result: another budget or setting is another run."""
        name = re.sub(r"[^\w.-]+", "-", f"{self.arm}_{self.game}_s{self.seed}")
        return f"{name}_{hashlib.sha256(canonical(self.words).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Study:
    """
    One experiment. Settings are written as ``sbbatch train -params`` reads them; ``algo`` is the agent, a mapping gives
    each game or family of games (``"ALE"``, ``"MinAtar"``) its own value, ``None`` leaves it to the agent's own files,
    and :class:`SizesOf` replays another run.

    :param id: group and name, e.g. ``small_batch/step_size``
    :param title: of its report
    :param question: what it is run for
    :param claim: what is said to be true, and by whom
    :param arms: name -> settings in which the arm differs from the others
    :param scales: budgets by name: ``smoke``, ``laptop``, ``lab``, ``paper``
    :param rules: how the claim is decided, written down before the final runs
    :param settings: what all arms have in common
    :param options: further words of the command, for all arms
    :param evaluations: how many, evenly spread; the last one is at the end; fewer in runs of a few steps
    :param eval_episodes: whole episodes in each
    :param megabytes: that a run leaves on disk
    :param figure: of the paper that it repeats, by number or subject
    :param blocked: why the study must not be run yet beyond ``smoke``, if so
    """

    id: str
    title: str
    question: str
    claim: str
    arms: Mapping[str, Settings]
    scales: Mapping[str, Scale]
    rules: tuple[Rule, ...]
    settings: Settings = field(default_factory=dict)
    options: tuple[str, ...] = ()
    evaluations: int = 5
    eval_episodes: int = 10
    megabytes: float = 5.0
    figure: str = "our own"
    blocked: str = ""

    def n_runs(self, scale: str) -> int:
        """
        How many there are.

        :param scale: name of the scale
        """
        return self.scales[scale].seeds * len(self.scales[scale].games) * len(self.arms)

    def runs(self, scale: str) -> list[Run]:
        """
        All runs, seed by seed, so that a study that is half done has every arm.

        :param scale: name of the scale
        """
        at = self.scales[scale]
        return [self._run(at, arm, game, seed) for seed in range(at.seeds) for game in at.games for arm in self.arms]

    def _run(self, at: Scale, arm: str, game: str, seed: int) -> Run:
        needs = None
        settings = {**self.settings, **self.arms[arm], **at.settings}
        for key, value in settings.items():
            if isinstance(value, Mapping):
                settings[key] = value[game] if game in value else value[game.partition("/")[0]]
            elif isinstance(value, SizesOf):
                needs = self._run(at, value.arm, game, (seed + 1) % at.seeds)
                settings[key] = f"yoked('{ROOT}/{self.id}/{needs.id}')"
        settings = {key: value for key, value in settings.items() if value is not None}
        options = {"--algo": settings.pop("algo"), "--env": game, "-n": at.steps, "--seed": seed}
        every = max(at.steps // self.evaluations, min(at.steps, _FEWEST_STEPS))
        options |= {"--eval-freq": every, "--eval-episodes": self.eval_episodes}
        words = [str(word) for option in options.items() for word in option]
        params = ["-params", *(f"{key}:{value}" for key, value in settings.items())] if settings else []
        return Run(self.id, arm, game, seed, at.steps, ("train", *words, *self.options, *at.options, *params), needs)


def canonical(words: Sequence[str]) -> str:
    """
    What a command of ``sbbatch train`` says about the result: two that say the same have the same text.

    :param words: from ``train`` on
    """
    options: dict[str, list[str]] = {"": []}
    option = ""
    for word in words[1:]:
        if re.match(r"--?[A-Za-z]", word):  # -1 is a number
            option = word
        options.setdefault(option, []).extend([word] if word != option else [])
    return json.dumps(sorted((name, sorted(values)) for name, values in options.items() if name not in _HOUSEKEEPING))
