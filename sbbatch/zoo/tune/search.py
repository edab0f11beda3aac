"""``sbbatch tune``: search hyperparameters with Optuna, with any number of worker processes on one study."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sbbatch.errors import InvalidValue
from sbbatch.zoo.commands.cli import guarded
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.request import TuneRequest, read_arguments, read_request

if TYPE_CHECKING:
    import optuna

    from sbbatch.zoo.tune.study import Plan

HOPELESS = 1  # exit code: trials fail by a bug, or are refused


def run(request: TuneRequest) -> int:
    """
    Bring a study to its number of trials, and report.

    :param request: the study
    :return: exit code
    """
    from sbbatch.zoo.tune.place import make_place, start
    from sbbatch.zoo.tune.pool import run_workers
    from sbbatch.zoo.tune.results import Announcer
    from sbbatch.zoo.tune.storage import shown, storage_errors
    from sbbatch.zoo.tune.study import finished_slots
    from sbbatch.zoo.tune.worker import hopeless

    place = make_place(request.args, request.space.name)
    plan, study = start(request, place)
    if plan.verbose:
        jobs = f"{plan.n_jobs} worker{'s' if plan.n_jobs > 1 else ''}"
        what = f"study {plan.study_name} of {plan.algo} on {plan.env_id}"
        say(f"{what}: {plan.n_trials} trials, {jobs}, seed {plan.seed}")
        say(f"study folder: {plan.folder}")
        if request.args.storage is not None:
            say(f"storage: {shown(plan.url)}")
    with storage_errors(plan.url), StopRequest() as stop:
        run_workers(plan, study, stop, Announcer(plan, study))
        trouble = hopeless(study, plan)
        report(request.args, plan, study)
        if len(finished_slots(study.get_trials(deepcopy=False), plan.n_trials)) < plan.n_trials:
            say(f"to go on: the same command with --study-name {plan.study_name} --seed {plan.seed}")
    if trouble is not None:
        print(f"sbbatch: error: {trouble}", file=sys.stderr)
        return HOPELESS
    return stop.exit_code


def report(args: argparse.Namespace, plan: Plan, study: optuna.Study) -> None:
    """
    Tables, pictures and the best trial's settings.

    :param args: the command line
    :param plan: of the study
    :param study: the same
    """
    from sbbatch.zoo.tune.report import write_report

    for line in write_report(plan, study, pictures=not args.no_optim_plots):
        say(line)


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch tune``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    args = read_arguments(argv)
    if find_spec("optuna") is None:
        raise InvalidValue("tune needs optuna; run pip install 'sbbatch[tune]'")
    if not args.report_only:
        return run(read_request(args))
    from sbbatch.zoo.tune.place import find_place, find_study

    report(args, *find_study(args, find_place(args)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
