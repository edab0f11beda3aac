"""What ``sbbatch tune`` was asked for: its options, read and checked before anything is made."""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym

from sbbatch.agents import ALGORITHMS
from sbbatch.envs.atari import atari_game
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue, UserError, did_you_mean
from sbbatch.settings.imports import allow_imports, import_environments
from sbbatch.settings.resolution import (
    COMMAND_LINE,
    Settings,
    constructor_values,
    explicit_values,
    read_overrides,
    require_algorithm,
    resolve,
    run_value,
)
from sbbatch.zoo.commands.cli import MAX_SEED, Parser, torch_device, whole_number
from sbbatch.zoo.commands.options import (
    add_env_options,
    add_settings_options,
    env_overrides,
    refuse_options_of_training,
)
from sbbatch.zoo.logs.folders import plain, probe_folder
from sbbatch.zoo.play.scores import games_side_by_side
from sbbatch.zoo.run.build import run_env
from sbbatch.zoo.run.environment import UNLIMITED_STEPS
from sbbatch.zoo.tune.space import Space, read_space, with_abs

EXAMPLES = """examples:
  sbbatch tune --algo qrdqn --env CartPole-v1 --space batch-lr-nstep --n-trials 30 --n-jobs 2
  sbbatch tune --algo qrdqn --env MinAtar/Breakout-v1 -n 100000 --n-trials 40 --n-seeds 2 --n-jobs 2
  sbbatch tune --algo dqn --env CartPole-v1 --space my_space.yml --study-name mine --sampler random
  sbbatch tune --algo dqn --env CartPole-v1 --study-name mine --report-only
  sbbatch train --algo dqn --env CartPole-v1 -conf logs/tune/dqn/CartPole-v1_mine/best.yml

The same command with the same --study-name goes on with a study."""

SAMPLERS = {  # name -> packages that Optuna needs for it
    "tpe": (),
    "random": (),
    "cmaes": ("cmaes",),
    "qmc": ("scipy",),
    "gp": ("scipy",),
}
PRUNERS = ("median", "halving", "hyperband", "none")
# A trial only has to tell good settings from bad ones.
SHARE_OF_A_RUN = 5


@dataclass(frozen=True)
class Budget:
    """
    What each trial may cost; trials of one study are comparable only if it is the same.

    :param n_timesteps: agent steps of each training
    :param n_evaluations: evaluations of each training
    :param eval_episodes: whole games of each evaluation
    :param n_eval_envs: of them side by side
    :param eval_max_steps: agent steps after which such a game is cut off (``None``: the environment's own limit)
    :param n_seeds: trainings of each trial
    """

    n_timesteps: int
    n_evaluations: int
    eval_episodes: int
    n_eval_envs: int
    eval_max_steps: int | None
    n_seeds: int


@dataclass(frozen=True)
class TuneRequest:
    """
    A study as it was asked for, checked.

    :param args: the command line
    :param base: settings that all trials share, as written in files and on the command line
    :param space: what varies
    :param budget: of each trial
    """

    args: argparse.Namespace
    base: dict[str, Any]
    space: Space
    budget: Budget

    @property
    def n_trials(self) -> int:
        """Trials that the study shall have in the end."""
        return int(self.args.n_trials if self.args.max_total_trials is None else self.args.max_total_trials)

    @property
    def deadline(self) -> float | None:
        """Seconds since the epoch after which no trial is begun."""
        return None if self.args.timeout is None else time.time() + float(self.args.timeout)

    def new_seed(self) -> int:
        """The seed of a study that does not exist yet."""
        return int(self.args.seed) if self.args.seed != -1 else secrets.randbelow(MAX_SEED + 1)


def make_parser() -> argparse.ArgumentParser:
    """The options, by rl-baselines3-zoo's names."""
    parser = Parser(prog="sbbatch tune", description="Search hyperparameters with Optuna.", epilog=EXAMPLES)
    add = parser.add_argument
    add("--algo", default="qrdqn", help=f"algorithm: {', '.join(ALGORITHMS)} (default: qrdqn)")
    add("--env", default="CartPole-v1", help="environment, e.g. CartPole-v1, MinAtar/Breakout-v1")
    add("--space", default="batch-lr-nstep", help="what is searched: batch-lr-nstep, full, or a YAML file")
    add("--abs", action="store_true", help="search the bounds of an adaptive batch size (ABS) instead of a fixed one")
    add("--n-trials", type=whole_number(1), default=100, help="trials the study shall have in the end, over all jobs")
    add("--max-total-trials", type=whole_number(1), help="the same, rl-baselines3-zoo's name; it wins over --n-trials")
    add("--n-jobs", type=whole_number(1, high=1024), default=1, help="worker processes, one thread each")
    add("--n-seeds", type=whole_number(1), default=1, help="trainings per trial, each with a seed of its own")
    add("--timeout", type=whole_number(1), help="seconds after which no further trial is begun")
    add("--sampler", default="tpe", help=f"of Optuna: {', '.join(SAMPLERS)}")
    add("--pruner", default="median", help=f"of Optuna: {', '.join(PRUNERS)}")
    add("--n-startup-trials", type=whole_number(0), default=10, help="random trials, and trials without pruning, first")
    add(
        "-n",
        "--n-timesteps",
        type=whole_number(1, -1),
        default=-1,
        help="agent steps of each training (-1: a fifth of what the YAML file says)",
    )
    add("--n-evaluations", type=whole_number(1), default=10, help="evaluations of each training")
    add("--eval-episodes", type=whole_number(1), default=10, help="whole games per evaluation")
    add("--eval-max-steps", type=whole_number(1), help="cut evaluation games off after this many agent steps")
    add("--n-eval-envs", type=whole_number(1), help="games side by side (default: all of them)")
    add("--study-name", help="name of a study, new or to go on with (default: a new one, numbered)")
    add(
        "--storage",
        help="URL of a database for several hosts, e.g. postgresql+psycopg://user@host/db (default: SQLite)",
    )
    add("--heartbeat", type=whole_number(1), default=15, help="seconds between signs of life; silent for 4 is dead")
    add_settings_options(parser)
    add("--seed", type=whole_number(0, -1, high=MAX_SEED), default=-1, help="seed of the study (-1: a random one)")
    add("--device", type=torch_device, default="auto", help="torch device")
    add("-f", "--log-folder", type=Path, default=Path("logs"), help="studies are kept in its folder tune")
    add("--report-only", action="store_true", help="only write the report of a study (default: the latest)")
    add("--no-optim-plots", action="store_true", help="no pictures")
    add("--verbose", type=whole_number(0), default=1, help="0: only the summary, 1: a line per trial, 2: all of SB3")
    add_env_options(parser)
    refuse_options_of_training(parser)
    return parser


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """
    Read and check the command line alone; ``env`` becomes the environment's id, ``words`` the line as typed.

    :param argv: arguments (``None``: those of the process)
    :raises UserError: anything that is wrong with them
    """
    words = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(words)
    require_algorithm(args.algo)
    import_environments(args)
    args.env, args.words = canonical_id(args.env), words
    _check_names(args)
    return args


def read_request(args: argparse.Namespace) -> TuneRequest:
    """
    Read and check the YAML files and what the command line changes in them, and make the environment once.

    :param args: from :func:`read_arguments`
    :raises UserError: anything that is wrong with them
    """
    cls: Any = require_algorithm(args.algo)
    env_id: str = args.env
    n_timesteps = None if args.n_timesteps == -1 else args.n_timesteps
    overrides = read_overrides(args.hyperparams, {"n_timesteps": n_timesteps, **env_overrides(args)})
    if "n_timesteps" not in overrides:
        whole = run_value(_resolve(args, overrides), "n_timesteps")
        overrides["n_timesteps"] = max(whole // SHARE_OF_A_RUN, 1)
    settings = allow_imports(_resolve(args, overrides), args.allow_import)
    _check_learning_starts(settings)
    _try_environment(args, settings)
    budget = _read_budget(args, env_id, int(run_value(settings, "n_timesteps")), run_value(settings, "n_envs", 1))
    space = read_space(args.space, args.algo)
    if args.abs:
        space = _with_abs(args, cls, space, settings)
    base = plain(explicit_values(settings))
    _check_space(args, space, base, overrides)
    probe_folder(args.log_folder / "tune" / args.algo)
    return TuneRequest(args, base, space, budget)


def _check_names(args: argparse.Namespace) -> None:
    for option, name, known in (("--sampler", args.sampler, SAMPLERS), ("--pruner", args.pruner, PRUNERS)):
        if name not in known:
            raise InvalidValue(f"{option}: unknown {option[2:]} '{name}'{did_you_mean(name, known)}")
    missing = [package for package in SAMPLERS[args.sampler] if find_spec(package) is None]
    if missing:
        raise InvalidValue(f"--sampler {args.sampler} needs {missing[0]}; run pip install 'sbbatch[tune]'")
    if args.study_name is not None and not re.fullmatch(r"[A-Za-z0-9][\w.+-]{0,99}", args.study_name, re.ASCII):
        raise InvalidValue(f"--study-name: got '{args.study_name}', expected letters, digits and any of _ . + -")
    if args.storage is not None and args.study_name is None:
        raise InvalidValue("--storage needs --study-name, by which every host finds the same study")


def _resolve(args: argparse.Namespace, overrides: dict[str, Any]) -> Settings:
    return resolve(args.algo, args.env, overrides, args.conf_file, suite=args.suite)


def _read_budget(args: argparse.Namespace, env_id: str, n_timesteps: int, n_training_envs: int) -> Budget:
    n_chances = n_timesteps // n_training_envs  # an evaluation comes between two steps of all environments
    if args.n_evaluations > n_chances:
        side_by_side = "" if n_training_envs == 1 else f", which are {n_chances} in each environment"
        raise InvalidValue(
            f"--n-evaluations: got {args.n_evaluations}, expected at most the {n_timesteps} agent steps{side_by_side}"
        )
    # Side by side for every environment: a study plays hundreds of evaluations.
    n_envs = games_side_by_side(env_id, args.eval_episodes, args.n_eval_envs or args.eval_episodes)
    return Budget(n_timesteps, args.n_evaluations, args.eval_episodes, n_envs, _max_steps(args, env_id), args.n_seeds)


def _max_steps(args: argparse.Namespace, env_id: str) -> int | None:
    """Given by name, the last limit is not told anew in each evaluation."""
    limited = atari_game(env_id) is not None or gym.spec(env_id).max_episode_steps is not None
    return args.eval_max_steps if args.eval_max_steps is not None or limited else UNLIMITED_STEPS


def _try_environment(args: argparse.Namespace, settings: Settings) -> None:
    """Make it once, for training and for evaluation: what is wrong with it would else be told by every trial."""
    for training in (True, False):
        run_env(args.env, require_algorithm(args.algo), settings, 0, training, 1).close()


def _check_learning_starts(settings: Settings) -> None:
    start, n_timesteps = settings.get("learning_starts"), run_value(settings, "n_timesteps")
    if start is not None and isinstance(start.value, int) and start.value >= n_timesteps:
        raise InvalidValue(
            f"learning_starts {start.value} >= {n_timesteps} agent steps of a trial: no update would happen; "
            "raise -n or lower it with -params learning_starts:N"
        )


def _with_abs(args: argparse.Namespace, cls: Any, space: Space, settings: Settings) -> Space:
    if args.space.endswith((".yml", ".yaml")):
        raise InvalidValue(f"--abs: write batch_size_callback into {args.space} instead")
    knob = cls.scaling_defaults.size_name
    n_steps = int(run_value(settings, "n_timesteps"))
    return with_abs(space, args.algo, knob, n_steps / (run_value(settings, "n_envs", 1) if knob == "n_steps" else 1))


def _check_space(args: argparse.Namespace, space: Space, base: dict[str, Any], overrides: dict[str, Any]) -> None:
    """Try the ends of each axis, one at a time; what only goes wrong together is told by the trial."""
    where = f"--space {args.space}"
    keys = {axis.key for axis in space.axes} | set(space.fixed)
    if "n_timesteps" in keys:
        raise InvalidValue(f"{where}: n_timesteps is the same for all trials; give -n")
    for key in sorted(keys & set(overrides)):
        raise InvalidValue(f"{where}: {key} is searched, and given with -params too; leave it out of one of them")
    cls: Any = require_algorithm(args.algo)
    tried = [{axis.key: value} for axis in space.axes for value in axis.extremes()]
    for values in tried:
        try:
            changed = {**overrides, **space.settings(values, base)}
            settings = _resolve(args, changed)
            policy = run_value(settings, "policy") or "MlpPolicy"
            cls(policy, None, device="cpu", _init_setup_model=False, **constructor_values(settings))
        except UserError as error:
            raise type(error)(f"{where}: {str(error).removeprefix(COMMAND_LINE).lstrip(': ')}") from None
