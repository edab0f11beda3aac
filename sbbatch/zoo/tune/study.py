"""An Optuna study of ours: its database, what it was begun with, its sampler, its pruner, and its trials' outcomes."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from sbbatch.errors import InvalidValue
from sbbatch.version import __version__
from sbbatch.zoo.logs.folders import claim_numbered, describe_run, folder_name, unwritable
from sbbatch.zoo.tune.request import Budget, Options, StudyRequest, place_of
from sbbatch.zoo.tune.space import Space
from sbbatch.zoo.tune.storage import open_storage, shown, storage_errors

PROTOCOL = "sbbatch"  # user attribute of a study: what it was begun with
DATABASE_NAME = "study.db"
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


def start_study(request: StudyRequest, command: list[str]) -> tuple[StudyRequest, optuna.Study]:
    """
    Make a study, or resume it; the request with its seed and place, and the study.

    :param command: as typed, to be written down without passwords
    :raises UserError: there is another study of this name, or the database or the folder cannot be used
    """
    options, folder, prefix = request.options, request.folder, folder_name(request.options.env)
    try:
        if not request.url:  # a server is asked before anything is made
            folder.mkdir(parents=True, exist_ok=True)
        if not request.study_name:
            folder = claim_numbered(folder, f"{prefix}_{request.space.name}")
        url = request.url or _sqlite_url(folder)
        name = folder.name.removeprefix(f"{prefix}_")
        storage = open_storage(url, options.heartbeat, new=True)
        wanted = json.loads(json.dumps(request.protocol))  # as it comes back from the database: lists for tuples
        if request.seed == -1:
            del wanted["seed"]
        with storage_errors(url):
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
            n_trials = len(study.get_trials(deepcopy=False))
            if not study.user_attrs and not n_trials:
                begun = {"seed": secrets.randbelow(2**31), **wanted, "version": __version__}
                study.set_user_attr(PROTOCOL, begun)
            check_protocol(study, wanted)
            seed = study.user_attrs[PROTOCOL]["seed"]
        request = replace(request, folder=folder, study_name=name, url=url, seed=seed, first_trial=n_trials)
        request = replace(request, deadline=time.time() + (options.timeout or math.inf))
        request.run.parameters.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(unwritable(folder, error)) from None
    arguments = {**vars(options), "seed": seed, "storage": shown(url) if options.storage else None}
    words = [word.replace(url, shown(url)) for word in command]  # also of --storage=URL
    describe_run(request.run, request.settings, arguments, ["sbbatch", "tune", *words])
    return request, study


def find_study(options: Options) -> tuple[StudyRequest, optuna.Study]:
    """The named study as it is, else the latest; a ``UserError`` if there is none of this agent and environment."""
    place, prefix = place_of(options), f"{folder_name(options.env)}_"
    if not place["url"]:
        parent = options.log_folder / "tune" / options.algo
        files = sorted(parent.glob(f"{prefix}*/{DATABASE_NAME}"), key=lambda file: file.stat().st_mtime)
        folders = {file.parent.name.removeprefix(prefix): file.parent for file in files}
        name = options.study_name or next(reversed(folders), "")
        if name not in folders:
            there = ", ".join(folders) or "none"
            raise InvalidValue(f"no such study of {options.algo} on {options.env} in {parent}; there are: {there}")
        place = {"folder": folders[name], "study_name": name, "url": _sqlite_url(folders[name])}
    with storage_errors(place["url"]):
        study = load_study(open_storage(place["url"], options.heartbeat, new=False), place["study_name"])
        check_protocol(study, {"algo": options.algo, "env": options.env})
    known = study.user_attrs[PROTOCOL]
    budget = Budget(**{key: known[key] for key in Budget.__annotations__})
    space = Space(known["space"], known["axes"])
    return StudyRequest(options, space, budget, known["settings"], known["seed"], **place), study


def _sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder.absolute()}/{DATABASE_NAME}"


def load_study(storage: Any, name: str, **kwargs: Any) -> optuna.Study:
    """Optuna's function of this name, with an ``InvalidValue`` if there is no such study."""
    try:
        return optuna.load_study(study_name=name, storage=storage, **kwargs)
    except KeyError:
        names = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
        raise InvalidValue(f"no study '{name}' in the database; there are: {names}") from None


def check_protocol(study: optuna.Study, wanted: Mapping[str, Any]) -> None:
    """An ``InvalidValue`` if a study was made by another program, or begun with something else than is wanted."""
    if PROTOCOL not in study.user_attrs:
        raise InvalidValue(f"study '{study.study_name}' was not made by sbbatch tune; give another --study-name")
    known = study.user_attrs[PROTOCOL]
    for key in [key for key, value in wanted.items() if known.get(key) != value]:
        before, now, changed = known.get(key), wanted[key], key
        if isinstance(now, dict):  # the space, the settings
            changed = min(name for name in {*before, *now} if before.get(name, now) != now.get(name, now))
            before, now = before.get(changed), now.get(changed)
        raise InvalidValue(
            f"study '{study.study_name}' was begun with {changed} {before}, not {now}; give another --study-name"
        )


def outcome_of(trial: FrozenTrial) -> str:
    """
    What became of a trial. ``complete``: trained to the end; ``pruned``: others were better; ``diverged``: a number
    became NaN or infinite; ``refused``: the agent cannot be made with these settings. These count. ``failed``: a bug;
    ``killed``: its worker died; ``interrupted``: Ctrl-C; ``surplus``: another worker's last trial was there first.
    """
    said = trial.user_attrs.get("outcome")
    if trial.state is TrialState.FAIL:  # who was killed could not say so
        return said if said in ("failed", "interrupted", "surplus") else "killed"
    if trial.state is TrialState.PRUNED:
        return said if said in ("diverged", "refused") else "pruned"
    return trial.state.name.lower()


def n_counted(study: optuna.Study) -> int:
    """The number of trials that count."""
    return len(study.get_trials(deepcopy=False, states=COUNTED))


class SeededByTrial:
    """
    A sampler that begins anew with each trial, with a seed of its number: a study that is resumed is the same as one in
    a single sitting.
    """

    def __init__(self, make: Callable[..., BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._sampler = make(seed=seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Called by Optuna first of all."""
        self._sampler = self._make(seed=int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0]))
        self._sampler.before_trial(study, trial)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)


def make_sampler(request: StudyRequest) -> Any:
    """The study's sampler."""
    # One sequence, from which each trial takes the next point.
    qmc = partial(QMCSampler, seed=request.seed, scramble=True, warn_independent_sampling=False)
    startup: dict[str, Any] = {"n_startup_trials": request.options.n_startup_trials}
    makers: dict[str, Callable[..., BaseSampler]] = {
        "random": RandomSampler,
        # Several workers, of which each host may have one, would otherwise all go where the last result was best.
        "tpe": partial(TPESampler, multivariate=True, constant_liar=True, **startup),
        "cmaes": partial(CmaEsSampler, warn_independent_sampling=False, **startup),
        "gp": partial(GPSampler, **startup),
        "qmc": lambda seed: qmc(independent_sampler=RandomSampler(seed=seed)),
    }
    return SeededByTrial(makers[request.options.sampler], request.seed)


def make_pruner(request: StudyRequest) -> optuna.pruners.BasePruner:
    """The study's pruner; its numbers are rl-baselines3-zoo's where that has the pruner."""
    budget = request.budget
    pruners = {
        "none": NopPruner(),
        "median": MedianPruner(request.options.n_startup_trials, n_warmup_steps=budget.n_evaluations // 3),
        "halving": SuccessiveHalvingPruner(min_resource=1, reduction_factor=4),
        "hyperband": HyperbandPruner(min_resource=1, max_resource=budget.n_evaluations * budget.n_seeds),
    }
    return pruners[request.options.pruner]
