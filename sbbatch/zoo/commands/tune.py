"""``sbbatch tune``: search hyperparameters with Optuna, with any number of worker processes on one study."""

from __future__ import annotations

import argparse
import re
import sys
from importlib.util import find_spec

from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.settings.resolution import read_overrides, require_algorithm
from sbbatch.zoo.commands.cli import Parser, guarded, whole_number
from sbbatch.zoo.commands.options import add_options, env_overrides, import_environments, refuse_options_of_training
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.tune.request import Options, StudyRequest, read_study_request

EXAMPLES = """examples:
  sbbatch tune --algo qrdqn --env CartPole-v1 --space batch-lr-nstep --n-trials 30 --n-jobs 2
  sbbatch tune --algo qrdqn --env MinAtar/Breakout-v1 -n 100000 --n-trials 40 --n-seeds 2 --n-jobs 2
  sbbatch tune --algo dqn --env CartPole-v1 --space my_space.yml --study-name mine --sampler random
  sbbatch tune --algo dqn --env CartPole-v1 --study-name mine --report-only
  sbbatch train --algo dqn --env CartPole-v1 -conf logs/tune/dqn/CartPole-v1_mine/best.yml

The same command with the same --study-name resumes a study."""
SAMPLERS = ("tpe", "random", "cmaes", "qmc", "gp")
PRUNERS = ("median", "halving", "hyperband", "none")
TROUBLE = 1  # exit code: trials fail by a bug, or are refused


def make_parser() -> argparse.ArgumentParser:
    """The options, by rl-baselines3-zoo's names."""
    parser = Parser(prog="sbbatch tune", description="Search hyperparameters with Optuna.", epilog=EXAMPLES)
    add_options(
        parser, "algo", "env", "eval_max_steps", "seed", "device", "log_folder", "hyperparams", "conf_file", "suite"
    )
    add_options(parser, "gym_packages", "allow_import", "env_kwargs", "eval_env_kwargs")
    add, count = parser.add_argument, whole_number(1)
    add("--space", default="batch-lr-nstep", help="what is searched: batch-lr-nstep, full, or a YAML file")
    add("--abs", action="store_true", help="search the bounds of an adaptive batch size (ABS) instead of a fixed one")
    trials = "trials the study shall have in the end, over all jobs"
    add("--n-trials", "--max-total-trials", type=count, default=100, help=trials)
    add("--n-jobs", type=whole_number(1, high=1024), default=1, help="worker processes, one thread each")
    add("--n-seeds", type=count, default=1, help="trainings per trial, each with a seed of its own")
    add("--timeout", type=count, help="seconds after which no further trial is begun")
    add("--sampler", choices=SAMPLERS, default="tpe", help="of Optuna (default: tpe)")
    add("--pruner", choices=PRUNERS, default="median", help="of Optuna (default: median)")
    add("--n-startup-trials", type=whole_number(0), default=10, help="random trials, and trials without pruning, first")
    steps = "agent steps of each training (-1: a fifth of what the YAML file says)"
    add("-n", "--n-timesteps", type=whole_number(1, -1), default=-1, help=steps)
    add("--n-evaluations", type=count, default=10, help="evaluations of each training")
    add("--eval-episodes", type=count, default=10, help="whole episodes per evaluation")
    add("--n-eval-envs", type=count, help="episodes side by side (default: all of them)")
    add("--study-name", help="name of a study, new or to resume (default: a new one, numbered)")
    add("--storage", help="URL of a database, e.g. postgresql+psycopg://user@host/db (default: SQLite, for one host)")
    add("--heartbeat", type=count, default=15, help="seconds between signs of life; silent for 4 is dead")
    add("--report-only", action="store_true", help="only write the report of a study (default: the latest)")
    add("--no-optim-plots", action="store_true", help="no pictures")
    add("--verbose", type=whole_number(0), default=1, help="0: only the summary, 1: a line per trial, 2: all of SB3")
    refuse_options_of_training(parser)
    return parser


def read_options(words: list[str]) -> Options:
    """
    :param words: as typed
    :raises UserError: anything that is wrong with them
    """
    args = make_parser().parse_args(words)
    require_algorithm(args.algo)
    import_environments(args)
    args.env = canonical_id(args.env)
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,99}", args.study_name or "a", re.ASCII):
        raise InvalidValue(f"--study-name: got '{args.study_name}', expected letters, digits and any of _ . + -")
    if args.storage and not args.study_name:
        raise InvalidValue("--storage needs --study-name, by which every host finds the same study")
    n_timesteps = None if args.n_timesteps == -1 else args.n_timesteps
    args.overrides = read_overrides(args.hyperparams, {"n_timesteps": n_timesteps, **env_overrides(args)})
    return Options(**{name: getattr(args, name) for name in Options.__dataclass_fields__})


@guarded
def main(argv: list[str] | None = None) -> int:
    """``sbbatch tune ...``: its arguments (``None``: those of the process) to an exit code."""
    words = sys.argv[1:] if argv is None else argv
    options = read_options(words)
    if find_spec("optuna") is None:
        raise InvalidValue("tune needs optuna; run pip install 'sbbatch[tune]'")
    if not options.report_only:
        return search(read_study_request(options), words)
    from sbbatch.zoo.tune.report import write_report
    from sbbatch.zoo.tune.study import find_study

    for line in write_report(*find_study(options)):
        say(line)
    return 0


def search(request: StudyRequest, words: list[str]) -> int:
    """Bring a study to its number of trials, and report."""
    from sbbatch.zoo.tune.report import write_report
    from sbbatch.zoo.tune.storage import shown, storage_errors
    from sbbatch.zoo.tune.study import n_counted, start_study
    from sbbatch.zoo.tune.workers import problem_of, run_workers

    request, study = start_study(request, words)
    options = request.options
    if options.verbose:
        what = f"study {request.study_name} of {options.algo} on {options.env}: {options.n_trials} trials"
        say(f"{what}, {options.n_jobs} workers, seed {request.seed}, in {shown(request.url)}")
    with storage_errors(request.url), StopRequest() as stop:
        run_workers(request, study, stop)
        trouble = problem_of(request, study)
        for line in write_report(request, study):
            say(line)
        if n_counted(study) < options.n_trials:
            say(f"to resume: the same command with --study-name {request.study_name} --seed {request.seed}")
    if trouble is not None:
        print(f"sbbatch: error: {trouble}", file=sys.stderr)
        return TROUBLE
    return stop.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
