"""An Optuna study of ours: its database, what it was begun with, its sampler, its pruner, and its trials' outcomes."""

from __future__ import annotations

import json
import secrets
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
from sbbatch.zoo.tune.request import Budget, StudyRequest, place_of
from sbbatch.zoo.tune.space import make_space
from sbbatch.zoo.tune.storage import check_url, open_storage, shown, storage_errors

PROTOCOL = "sbbatch"  # user attribute of a study: what it was begun with
DATABASE_NAME = "study.db"
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)


def start_study(request: StudyRequest, command: list[str]) -> tuple[StudyRequest, optuna.Study]:
    """
    Make a study, or go on with it.

    :param request: the study
    :param command: as typed, to be written down without passwords
    :return: the request with the study's seed and place, and the study
    :raises UserError: there is another study of this name, or the database or the folder cannot be used
    """
    options, folder, prefix = request.options, request.folder, folder_name(request.options.env)
    try:
        if not request.url:  # a server is asked before anything is made
            folder.mkdir(parents=True, exist_ok=True)
        if not request.study_name:
            folder = claim_numbered(folder, f"{prefix}_{request.space.name}")
        url = request.url or _sqlite_url(folder)
        check_url(url)
        name = folder.name.removeprefix(f"{prefix}_")
        seed = request.seed if request.seed != -1 else secrets.randbelow(2**31)
        # As it comes back from the database: lists for tuples.
        protocol = json.loads(json.dumps({**request.protocol, "seed": seed}))
        with storage_errors(url):
            storage = open_storage(url, options.heartbeat, new=True)
            study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
            if not study.user_attrs and not study.get_trials(deepcopy=False):
                study.set_user_attr(PROTOCOL, {**protocol, "version": __version__})
            check_protocol(study, {**protocol, "seed": None} if request.seed == -1 else protocol)
            place = {"folder": folder, "study_name": name, "url": url}
            request = replace(_request_of(study, options, place), first_trial=len(study.get_trials(deepcopy=False)))
        request.run.parameters.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(unwritable(folder, error)) from None
    arguments = {**vars(options), "seed": request.seed, "storage": shown(url) if request.options.storage else None}
    words = [word.replace(url, shown(url)) for word in command]  # also of --storage=URL
    describe_run(request.run, request.settings, arguments, ["sbbatch", "tune", *words])
    return request, study


def find_study(options: Any) -> tuple[StudyRequest, optuna.Study]:
    """
    A study as it is: the named one, else the latest.

    :param options: those of ``sbbatch tune``, as attributes
    :raises UserError: it is not there, or of another algorithm or environment
    """
    place, prefix = place_of(options), f"{folder_name(options.env)}_"
    if not place["url"]:
        folder: Path = place["folder"]
        parent = folder.parent if place["study_name"] else folder
        files = sorted(parent.glob(f"{prefix}*/{DATABASE_NAME}"), key=lambda file: file.stat().st_mtime)
        names = [file.parent.name.removeprefix(prefix) for file in files]
        if not names or place["study_name"] not in ("", *names):
            known = f"there are {', '.join(sorted(names))}" if names else "make one, or give -f"
            raise InvalidValue(f"no such study of {options.algo} on {options.env} in {parent}; {known}")
        folder = folder if place["study_name"] else files[-1].parent
        place = {"folder": folder, "study_name": folder.name.removeprefix(prefix), "url": _sqlite_url(folder)}
    check_url(place["url"])
    with storage_errors(place["url"]):
        study = load_study(open_storage(place["url"], options.heartbeat, new=False), place["study_name"])
        check_protocol(study, {"algo": options.algo, "env": options.env})
        return _request_of(study, options, place), study


def _sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder.absolute()}/{DATABASE_NAME}"


def load_study(storage: Any, name: str, **kwargs: Any) -> optuna.Study:
    """
    :param storage: the database
    :param name: of the study
    :param kwargs: of Optuna's function of this name
    :raises InvalidValue: it is not there
    """
    try:
        return optuna.load_study(study_name=name, storage=storage, **kwargs)
    except KeyError:
        names = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
        raise InvalidValue(f"no study '{name}' in the database; there are: {names}") from None


def _request_of(study: optuna.Study, options: Any, place: Mapping[str, Any]) -> StudyRequest:
    known = study.user_attrs[PROTOCOL]
    budget = Budget(**{key: known[key] for key in Budget.__annotations__})
    space = make_space(known["space"], known["axes"], f"study '{study.study_name}'")
    return StudyRequest(options, space, budget, known["settings"], known["seed"], **place)


def check_protocol(study: optuna.Study, wanted: Mapping[str, Any]) -> None:
    """
    :param study: any study of the database
    :param wanted: what it must have been begun with (``None``: anything)
    :raises InvalidValue: it was made by another program, or with something else
    """
    if PROTOCOL not in study.user_attrs:
        raise InvalidValue(f"study '{study.study_name}' was not made by sbbatch tune; give another --study-name")
    known = study.user_attrs[PROTOCOL]
    for key, value in wanted.items():
        before = known.get(key)
        if before == value or (key == "seed" and value is None):
            continue
        option = f"--{key.replace('_', '-')}"
        if isinstance(value, dict):  # axes, settings
            changed = min(name for name in {*before, *value} if before.get(name) != value.get(name))
            option, before, value = changed, before.get(changed), value.get(changed)
        same = f"give {before} again, or another --study-name"
        raise InvalidValue(f"study '{study.study_name}' was begun with {option} {before}, not {value}; {same}")


def outcome_of(trial: FrozenTrial) -> str:
    """
    What became of a trial. ``complete``: trained to the end; ``pruned``: others were better; ``diverged``: a number
    became NaN or infinite; ``refused``: the agent cannot be made with these settings. These count. ``failed``: a bug;
    ``killed``: its worker died; ``interrupted``: Ctrl-C; ``surplus``: another worker's last trial was there first.

    :param trial: any of the study
    :return: one of these, or ``running``, ``waiting``
    """
    said = trial.user_attrs.get("outcome")
    if trial.state is TrialState.FAIL:  # who was killed could not say so
        return said if said in ("failed", "interrupted", "surplus") else "killed"
    if trial.state is TrialState.PRUNED:
        return said if said in ("diverged", "refused") else "pruned"
    return trial.state.name.lower()


def n_counted(study: optuna.Study) -> int:
    """
    :param study: of ours
    :return: trials that count
    """
    return len(study.get_trials(deepcopy=False, states=COUNTED))


class SeededByTrial:
    """
    A sampler that begins anew with each trial, with a seed of its number: a study that goes on is the same as one in a
    single sitting.

    :param make: makes a sampler of a seed
    :param seed: of the study
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
    """
    :param request: of the study
    """
    n_startup = request.options.n_startup_trials
    makers: dict[str, Callable[..., BaseSampler]] = {
        "random": RandomSampler,
        # Several workers, of which each host may have one, would otherwise all go where the last result was best.
        "tpe": partial(TPESampler, n_startup_trials=n_startup, multivariate=True, constant_liar=True),
        "cmaes": partial(CmaEsSampler, n_startup_trials=n_startup, warn_independent_sampling=False),
        "gp": partial(GPSampler, n_startup_trials=n_startup),
        # One sequence, from which each trial takes the next point.
        "qmc": lambda seed: QMCSampler(
            seed=request.seed,
            scramble=True,
            independent_sampler=RandomSampler(seed=seed),
            warn_independent_sampling=False,
        ),
    }
    return SeededByTrial(makers[request.options.sampler], request.seed)


def make_pruner(request: StudyRequest) -> optuna.pruners.BasePruner:
    """
    :param request: of the study; numbers are rl-baselines3-zoo's where it has the pruner
    """
    budget = request.budget
    pruners = {
        "none": NopPruner(),
        "median": MedianPruner(request.options.n_startup_trials, n_warmup_steps=budget.n_evaluations // 3),
        "halving": SuccessiveHalvingPruner(min_resource=1, reduction_factor=4),
        "hyperband": HyperbandPruner(min_resource=1, max_resource=budget.n_evaluations * budget.n_seeds),
    }
    return pruners[request.options.pruner]
