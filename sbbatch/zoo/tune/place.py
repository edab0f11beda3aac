"""Where a study lies: its folder, ``logs/tune/<algo>/<env>_<study>/``, and its database."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from sbbatch.errors import InvalidValue
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.logs.folders import claim_numbered, describe_run, folder_name, unwritable
from sbbatch.zoo.tune.request import TuneRequest
from sbbatch.zoo.tune.storage import check_exists, check_url, open_storage, shown, sqlite_url, storage_errors
from sbbatch.zoo.tune.study import (
    FAILED,
    Plan,
    budget_of,
    check_ours,
    describe_study,
    description_of,
    join_study,
    n_slots,
    outcome_of,
    space_of,
)

DATABASE_NAME = "study.db"


@dataclass(frozen=True)
class Place:
    """
    Where a study is.

    :param folder: of its files
    :param name: in the database
    :param url: of the database
    """

    folder: Path
    name: str
    url: str


def make_place(args: argparse.Namespace, space: str) -> Place:
    """
    The place of a study to begin or to go on with; the folder of a SQLite file is made.

    :param args: the command line
    :param space: by which a study without a name is called, with a number
    :raises InvalidValue: the folder cannot be made, or the URL is none
    """
    parent, prefix = _parent(args), folder_name(args.env)
    try:
        if args.study_name is None:
            parent.mkdir(parents=True, exist_ok=True)
            return _place(args, claim_numbered(parent, f"{prefix}_{space}"))
        place = _place(args, parent / f"{prefix}_{args.study_name}")
        if args.storage is None:  # else it is made once the database has answered
            place.folder.mkdir(parents=True, exist_ok=True)
        return place
    except OSError as error:
        raise InvalidValue(unwritable(parent, error)) from None


def find_place(args: argparse.Namespace) -> Place:
    """
    The place of a study that exists: the named one, else the latest.

    :param args: the command line
    :raises InvalidValue: there is none
    """
    parent, prefix = _parent(args), folder_name(args.env)
    files = sorted(parent.glob(f"{prefix}_*/{DATABASE_NAME}"), key=lambda file: file.stat().st_mtime)
    names = [file.parent.name.removeprefix(f"{prefix}_") for file in files]
    if args.storage is not None or args.study_name in names:
        return _place(args, parent / f"{prefix}_{args.study_name}")
    if args.study_name is not None or not names:
        wanted = f"no study '{args.study_name}'" if args.study_name is not None else "no study"
        known = f"there are {', '.join(sorted(names))}" if names else "make one, or give -f"
        raise InvalidValue(f"{wanted} of {args.algo} on {args.env} in {parent}; {known}")
    return _place(args, files[-1].parent)


def _parent(args: argparse.Namespace) -> Path:
    return Path(args.log_folder) / "tune" / str(args.algo)


def _place(args: argparse.Namespace, folder: Path) -> Place:
    if args.storage is not None:
        check_url(args.storage)
    name = folder.name.removeprefix(f"{folder_name(args.env)}_")
    return Place(folder, name, args.storage or sqlite_url(folder / DATABASE_NAME))


def start(request: TuneRequest, place: Place) -> tuple[Plan, optuna.Study]:
    """
    Make a study, or go on with it.

    :param request: the study
    :param place: where it is
    :raises UserError: there is another study of this name, or the database cannot be used
    """
    args = request.args
    description = describe_study(args.algo, args.env, request.new_seed(), request.space, request.base, request.budget)
    with storage_errors(place.url):
        storage = open_storage(place.url, args.heartbeat)
        study = join_study(storage, place.name, description, keeps_seed=args.seed == -1)
        plan = _plan(args, place, study, request.n_trials, request.deadline)
    _write_settings(plan, args, description_of(study)["settings"])
    return plan, study


def find_study(args: argparse.Namespace, place: Place) -> tuple[Plan, optuna.Study]:
    """
    A study as it is.

    :param args: the command line
    :param place: where it is
    :raises UserError: it is not there, or of another algorithm
    """
    check_exists(place.url)
    with storage_errors(place.url):
        storage = open_storage(place.url, args.heartbeat)
        try:
            study = optuna.load_study(study_name=place.name, storage=storage)
        except KeyError:
            names = ", ".join(sorted(optuna.get_all_study_names(storage))) or "none"
            raise InvalidValue(f"no study '{place.name}' in {shown(place.url)}; there are: {names}") from None
        check_ours(study, {"algo": args.algo, "env": args.env})
        return _plan(args, place, study, n_slots(study), None), study


def _plan(args: argparse.Namespace, place: Place, study: optuna.Study, n_trials: int, deadline: float | None) -> Plan:
    old = [trial.number for trial in study.get_trials(deepcopy=False) if outcome_of(trial) == FAILED]
    return Plan(
        algo=args.algo,
        env_id=args.env,
        study_name=place.name,
        folder=place.folder,
        url=place.url,
        space=space_of(study),
        budget=budget_of(study),
        seed=description_of(study)["seed"],
        n_trials=n_trials,
        n_jobs=args.n_jobs,
        sampler=args.sampler,
        pruner=args.pruner,
        n_startup_trials=args.n_startup_trials,
        heartbeat=args.heartbeat,
        device=args.device,
        verbose=args.verbose,
        deadline=deadline,
        old_failures=frozenset(old),
        packages=tuple(args.gym_packages),
        allowed=tuple(args.allow_import),
    )


def _write_settings(plan: Plan, args: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Workers read them as those of a run; they are never written again, for workers of another command may read."""
    run = plan.run
    if run.config.exists():
        if read_yaml(run.config) != settings:
            raise InvalidValue(f"{run.config} is not what study '{plan.study_name}' was begun with; remove the file")
        return
    arguments = {**vars(args), "seed": plan.seed}
    words = arguments.pop("words")
    if args.storage is not None:
        arguments["storage"] = shown(args.storage)  # a password is nobody's business
        words = [word.replace(args.storage, arguments["storage"]) for word in words]  # also of --storage=URL
    try:
        run.parameters.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidValue(unwritable(run.path, error)) from None
    describe_run(run, settings, arguments, ["sbbatch", "tune", *words])
