"""The options of ``sbbatch train`` beyond the run itself: those of rl-baselines3-zoo's users, and several seeds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from sbbatch.errors import InvalidValue
from sbbatch.settings.resolution import read_parameters
from sbbatch.settings.suites import SUITES
from sbbatch.zoo.commands.cli import MAX_SEED, whole_number
from sbbatch.zoo.run.build import VEC_ENVS

TUNE_WORDS = ("-optimize", "--optimize", "--optimize-hyperparameters")
MAX_SEEDS = 1000
MAX_JOBS = 256

_FOR_TUNING = (
    "--n-trials",
    "--max-total-trials",
    "--n-jobs",
    "--sampler",
    "--pruner",
    "--n-startup-trials",
    "--n-evaluations",
    "--no-optim-plots",
    "--optimization-log-path",
)
_OF_TRAINING = (
    "-tb",
    "--tensorboard-log",
    "-i",
    "--trained-agent",
    "--truncate-last-trajectory",
    "--save-freq",
    "--save-replay-buffer",
    "--optimization-log-path",
    "--trial-id",
    "-uuid",
    "--uuid",
    "--track",
    "--wandb-project-name",
    "--wandb-entity",
    "--wandb-group",
    "-tags",
    "--wandb-tags",
)
_SETTINGS = {"--batch-size": "batch_size", "--n-steps": "n_steps", "--n-envs": "n_envs", "--protocol": "atari_protocol"}
_OF_A_STUDY = ("--storage", "--study-name", "--trial-id")
OWN_BOUNDS = "the algorithm's own"  # what `--abs` alone means; nobody types it
_PAIRS: dict[str, Any] = {"nargs": "+", "action": "extend", "metavar": "KEY:VALUE"}


class Refused(argparse.Action):
    """
    An option that users of rl-baselines3-zoo know and that we do not have.

    :param instead: what to do instead, the end of the sentence
    """

    def __init__(self, option_strings: Sequence[str], dest: str, instead: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs="*", help=argparse.SUPPRESS)
        self.instead = instead

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> NoReturn:
        """Refuse it."""
        raise InvalidValue(f"{option}: {self.instead}")


def add_zoo_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: gets the options of rl-baselines3-zoo's ``train.py`` about environments, tracking and tuning
    """
    add = parser.add_argument
    add_env_options(parser)
    add("--vec-env", choices=sorted(VEC_ENVS), default="dummy", help="environments in this process or in own ones")
    add(
        "--truncate-last-trajectory",
        type=true_or_false,
        default=True,
        metavar="BOOL",
        help="with -i and a hindsight replay buffer: end its unfinished episode",
    )
    add("--track", action="store_true", help="track the run with Weights & Biases (extra 'track')")
    add("--wandb-project-name", default="sb3", help="its project (default: sb3)")
    add("--wandb-entity", help="its entity, a user or a team")
    add("--wandb-group", help="its group of runs")
    add("-tags", "--wandb-tags", nargs="+", action="extend", default=[], metavar="TAG", help="tags of the run")
    tuning = "it belongs to tuning; add -optimize, or give it to `sbbatch tune`"
    study = "no study is read; `sbbatch tune` leaves the best trial's settings in a best.yml, which -conf takes"
    for name in _FOR_TUNING:
        add(name, action=Refused, instead=tuning)
    for name in _OF_A_STUDY:
        add(name, action=Refused, instead=study)


def refuse_options_of_training(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: of ``sbbatch tune``, which gets all that was typed beside ``-optimize``
    """
    own_model = "a study keeps scores and no models; train with its best.yml for that"
    instead = {
        "--eval-freq": "trainings of a study are all evaluated equally often; give --n-evaluations",
        "--num-threads": "each worker has one thread; give --n-jobs",
        "--vec-env": "each worker has its environments in its own process; give --n-jobs",
        "--seeds": "the seeds of all trials come from --seed; give --n-seeds for several trainings of each",
        "--jobs": "give --n-jobs",
        "--resume": "the same command with the same --study-name goes on with a study",
        "--show-config": "settings are searched; `sbbatch train` shows those of the files",
        **{name: f"give -params {key}:VALUE, unless the space searches it" for name, key in _SETTINGS.items()},
        **dict.fromkeys(("-P", "--progress", "--no-progress", "--log-interval"), "a study says a line for each trial"),
        **dict.fromkeys(_OF_TRAINING, own_model),
    }
    for name, remedy in instead.items():
        parser.add_argument(name, action=Refused, instead=remedy)


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: gets the options of all commands that resolve hyperparameters
    """
    add = parser.add_argument
    add("-params", "--hyperparams", **_PAIRS, default=[], help="override hyperparameters")
    add(
        "-conf",
        "--conf-file",
        "-yaml",
        "--yaml-file",
        type=Path,
        help="a YAML file instead of the packaged hyperparameters, those of single games included",
    )
    add("--suite", help=f"suite of the settings: {', '.join(SUITES)} (default: the one the environment belongs to)")


def add_env_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: gets the options of all commands that make the environments to learn in
    """
    add_import_options(parser)
    parser.add_argument("--env-kwargs", **_PAIRS, help="keyword arguments of the environment")
    parser.add_argument("--eval-env-kwargs", **_PAIRS, help="those of the evaluation environments (default: the same)")


def env_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """
    :param args: the command line, with the options of :func:`add_env_options`
    :return: the settings they stand for (``None``: not given)
    :raises InvalidValue: a word without a colon, or a name given twice
    """
    given = {"env_kwargs": args.env_kwargs, "eval_env_kwargs": args.eval_env_kwargs}
    options = {key: f"--{key.replace('_', '-')}" for key in given}
    return {key: None if pairs is None else read_parameters(pairs, options[key]) for key, pairs in given.items()}


def add_import_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: gets the options of all commands that make the environments of a run
    """
    parser.add_argument(
        "--gym-packages",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE",
        help="modules to import because they register environments",
    )
    parser.add_argument(
        "--allow-import",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module whose callbacks and wrappers a YAML file may name; may be given several times",
    )


def add_seed_options(parser: argparse.ArgumentParser) -> None:
    """
    :param parser: gets the options for several runs in one command
    """
    parser.add_argument(
        "--seeds", type=seed_list, metavar="SEEDS", help="several runs: 0:5 (0, 1, 2, 3, 4) or 0,3,7, or both: 0:3,7"
    )
    parser.add_argument("--jobs", type=whole_number(1, high=MAX_JOBS), default=1, help="runs side by side (default: 1)")


def seed_list(text: str) -> list[int]:
    """
    An argparse type: ``0:5`` as Python's ``range(0, 5)``, ``0,3,7``, or both.

    :param text: as typed
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, colon, end = part.partition(":")
        if not (first.isdecimal() and (end.isdecimal() or not colon)):
            raise argparse.ArgumentTypeError(
                f"got '{text}', expected a range such as 0:5, seeds such as 0,3,7, or both"
            )
        low, high = int(first), int(end) if colon else int(first) + 1
        if high <= low:
            raise argparse.ArgumentTypeError(f"got '{text}', but {part} is empty: its end is not included")
        if high > MAX_SEED + 1:
            raise argparse.ArgumentTypeError(f"got '{text}', expected seeds up to {MAX_SEED}")
        if len(seeds) + high - low > MAX_SEEDS:
            raise argparse.ArgumentTypeError(f"got '{text}', which are more than {MAX_SEEDS} seeds")
        seeds += range(low, high)
    if len(set(seeds)) < len(seeds):
        twice = next(seed for seed in seeds if seeds.count(seed) > 1)
        raise argparse.ArgumentTypeError(f"got '{text}', which has the seed {twice} twice")
    return seeds


def true_or_false(text: str) -> bool:
    """
    An argparse type.

    :param text: as typed
    """
    values = {"true": True, "false": False, "1": True, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"got '{text}', expected true or false")
    return values[text.lower()]


def abs_bounds(text: str) -> str:
    """
    An argparse type: ``16:64`` as the value of ``batch_size_callback``.

    :param text: as typed
    """
    if text == OWN_BOUNDS:
        return "abs"
    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
        raise argparse.ArgumentTypeError(f"got '{text}', expected LOW:HIGH with 1 <= LOW <= HIGH, e.g. 16:64")
    return f"abs({int(low)}, {int(high)})"


def int_or_text(text: str) -> Any:
    """
    An int if it is one; the check of the hyperparameter says the rest in the same words as for YAML.

    :param text: as typed
    """
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
