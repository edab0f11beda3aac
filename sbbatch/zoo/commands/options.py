"""
The options of ``sbbatch train``, each declared once: how it is typed, what becomes of it when a run is resumed, and
what a study has in its place.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from sbbatch.agents import ALGORITHMS
from sbbatch.batch import ABS
from sbbatch.envs.atari import PROTOCOLS
from sbbatch.envs.stuck import STUCK_HELP, STUCK_STEPS
from sbbatch.errors import InvalidValue
from sbbatch.settings.imports import import_packages
from sbbatch.settings.resolution import read_overrides, read_parameters
from sbbatch.settings.suites import SUITES
from sbbatch.zoo.commands.cli import MAX_SEED, MAX_THREADS, Parser, torch_device, whole_number
from sbbatch.zoo.run.build import VEC_ENVS
from sbbatch.zoo.run.request import AUTO_THREADS

MAX_SEEDS = 1000
MAX_JOBS = 256


class OnResume(Enum):
    """What becomes of an option when a run is resumed."""

    FIXED = "the run's args.yml decides; anything else is a contradiction"
    FREE = "args.yml decides unless it is typed: it does not change what is learned"
    TYPED = "only what is typed counts: config.yml decides otherwise, or it names what is imported"
    SETTING = "it stands for a hyperparameter, for which config.yml decides"
    REFUSED = "it makes sense for new runs only"


@dataclass(frozen=True)
class Option:
    """One option of ``sbbatch train``."""

    flags: tuple[str, ...]
    on_resume: OnResume
    in_tune: str | None  # what a study has instead, the end of a sentence; None: `sbbatch tune` has it too
    arguments: dict[str, Any]  # of argparse's `add_argument`, but for the default
    default: Any = None

    @property
    def name(self) -> str:
        """Its name in Python and in ``args.yml``."""
        long = next((flag for flag in self.flags if flag.startswith("--")), self.flags[0])
        return str(self.arguments.get("dest", long.lstrip("-").replace("-", "_")))

    def read(self, value: Any, where: str) -> Any:
        """From what stands in an ``args.yml`` to what typing it gives; ``where`` begins the message of a refusal."""
        if value is None or value == self.default:
            return self.default
        action = self.arguments.get("action", "store")
        kind = {"store_true": bool, "store_false": bool, "extend": list}.get(action, object)
        if not isinstance(value, kind) or value not in self.arguments.get("choices", [value]):
            raise InvalidValue(f"{where}: got {value!r}, which is not allowed")
        if kind is not object:
            return value
        try:
            return self.arguments.get("type", str)(str(value))
        except argparse.ArgumentTypeError as error:
            raise InvalidValue(f"{where}: {error}") from None


def seed_list(text: str) -> list[int]:
    """An argparse type: ``0:5`` as Python's ``range(0, 5)``, ``0,3,7``, or both."""
    parts = [re.fullmatch(r"(\d+)(?::(\d+))?", part) for part in text.split(",")]
    ranges = [range(int(part[1]), int(part[2] or int(part[1]) + 1)) for part in parts if part]
    seeds = [seed for numbers in ranges for seed in numbers[: MAX_SEEDS + 1]]
    fits = all(parts) and all(ranges) and max(seeds) <= MAX_SEED and len(seeds) == len(set(seeds)) <= MAX_SEEDS
    if not fits:
        expected = f"at most {MAX_SEEDS} different seeds up to {MAX_SEED}, such as 0:5, 0,3,7 or 0:3,7"
        raise argparse.ArgumentTypeError(f"got '{text}', expected {expected}")
    return seeds


def true_or_false(text: str) -> bool:
    """An argparse type."""
    values = {"true": True, "false": False, "1": True, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"got '{text}', expected true or false")
    return values[text.lower()]


def abs_bounds(text: str) -> ABS:
    """An argparse type: ``16:64``, or nothing for the algorithm's own bounds, as a ``batch_size_callback``."""
    if not text:
        return ABS()
    low, _, high = text.partition(":")
    if not (low.isdecimal() and high.isdecimal() and 1 <= int(low) <= int(high)):
        raise argparse.ArgumentTypeError(f"got '{text}', expected LOW:HIGH with 1 <= LOW <= HIGH, e.g. 16:64")
    return ABS(int(low), int(high))


def int_or_text(text: str) -> int | str:
    """An argparse type for a hyperparameter, whose declaration refuses the text."""
    return int(text) if text.removeprefix("-").isdecimal() else text


def thread_count(text: str) -> int:
    """An argparse type: a number of threads, -1, or ``auto``."""
    return AUTO_THREADS if text == "auto" else whole_number(1, -1, high=MAX_THREADS)(text)


FIXED, FREE, TYPED, SETTING, REFUSED = OnResume
_COUNT, _PERIOD = whole_number(1), whole_number(1, -1)
_MANY: dict[str, Any] = {"nargs": "+", "action": "extend"}
_PAIRS: dict[str, Any] = {**_MANY, "metavar": "KEY:VALUE"}
_FLAG: dict[str, Any] = {"action": "store_true", "default": False}
_LINES = "a study prints one line per trial"
_NO_MODELS = "a study keeps scores and no models; train with its best.yml for that"
_PARAMS = "give it with -params, unless the space searches it"
_PARAMS_OF_A_STUDY = "a study cuts them off as usual"
_JOBS = "each worker of a study has one process and one thread; give --n-jobs"


def _option(flags: str, on_resume: OnResume, help: str, tune: str | None = None, **arguments: Any) -> Option:
    default = arguments.pop("default", None)
    return Option(tuple(flags.split()), on_resume, tune, {"help": help, **arguments}, default)


# fmt: off
OPTIONS = (
    _option("--algo", FIXED, f"algorithm: {', '.join(ALGORITHMS)} (default: qrdqn)", default="qrdqn"),
    _option("--env", FIXED, "environment, e.g. CartPole-v1, ALE/Breakout-v5", default="CartPole-v1"),
    _option("-n --n-timesteps", TYPED, "agent steps (-1: as in the YAML file)", type=whole_number(1, -1), default=-1),
    _option("--batch-size", SETTING, "samples per gradient step (PPO: of a minibatch)", _PARAMS, type=int_or_text),
    _option("--n-steps", SETTING, "n of the n-step return (PQN, PPO: steps of a rollout)", _PARAMS, type=int_or_text),
    _option("--n-envs", SETTING, "environments side by side", _PARAMS, type=int_or_text),
    _option("--abs", SETTING, "adapt the batch size (PQN, PPO: steps of a rollout) in bounds or the algorithm's own",
            type=abs_bounds, nargs="?", const="", metavar="LOW:HIGH"),
    _option("--protocol", SETTING, f"Atari protocol (default: the algorithm's): {', '.join(PROTOCOLS)}", _PARAMS),
    _option("-params --hyperparams", SETTING, "override hyperparameters", default=[], **_PAIRS),
    _option("-conf --conf-file -yaml --yaml-file", REFUSED, "a YAML file instead of all packaged ones", type=Path),
    _option("--suite", FIXED, f"suite of the settings (default: the environment's): {', '.join(SUITES)}"),
    _option("--show-config", REFUSED, "print every setting with where it came from, and do nothing else",
            "settings are searched; `sbbatch train` shows those of the files", **_FLAG),
    _option("--seed", FIXED, "seed of everything (-1: random)", type=whole_number(0, -1, high=MAX_SEED), default=-1),
    _option("--device", FREE, "torch device", type=torch_device, default="auto"),
    _option("--strict-device", FREE, "refuse a GPU that is not there, where the CPU is taken otherwise", **_FLAG),
    _option("--num-threads", FREE, "threads for PyTorch (auto: the fastest for this run; -1: PyTorch's default)", _JOBS,
            type=thread_count, default=AUTO_THREADS),
    _option("--seeds", REFUSED, "several runs: 0:5 (0, 1, 2, 3, 4) or 0,3,7, or both: 0:3,7",
            "give --n-seeds for several trainings in each trial", type=seed_list, metavar="SEEDS"),
    _option("--jobs", REFUSED, "runs side by side (default: 1)", _JOBS, type=whole_number(1, high=MAX_JOBS), default=1),
    _option("-i --trained-agent", REFUSED, "a model to train further, and its replay buffer", _NO_MODELS, type=Path),
    _option("--resume", TYPED, "resume a run in its own folder, up to its n_timesteps",
            "the same command with the same --study-name resumes a study", type=Path, metavar="RUN_FOLDER"),
    _option("--eval-freq", FIXED, "agent steps between evaluations (-1: none)", "give --n-evaluations",
            type=_PERIOD, default=25_000),
    _option("--eval-episodes", FIXED, "whole episodes per evaluation", type=_COUNT, default=5),
    _option("--eval-max-steps", FIXED, "cut evaluation episodes off after this many agent steps", type=_COUNT),
    _option("--stuck-steps", FIXED, STUCK_HELP, _PARAMS_OF_A_STUDY, type=_PERIOD, default=STUCK_STEPS),
    _option("--n-eval-envs", FIXED, "evaluation episodes side by side (default: all on Atari, else 1)", type=_COUNT),
    _option("--save-freq", FREE, "agent steps between checkpoints (-1: none)", _NO_MODELS, type=_PERIOD, default=-1),
    _option("--save-replay-buffer", FREE, "also save the replay buffer, if the agent has one", _NO_MODELS, **_FLAG),
    _option("-f --log-folder", FIXED, "where runs are kept", type=Path, default=Path("logs")),
    _option("-tb --tensorboard-log", FREE, "TensorBoard folder", _NO_MODELS, type=Path),
    _option("--log-interval", FREE, "episodes (PQN, PPO: rollouts) between log lines (-1: SB3's, -2: none)", _LINES,
            type=whole_number(1, -1, -2), default=-1),
    _option("-P --progress", FREE, "progress bar (default on a terminal)", _LINES, action="store_true"),
    _option("--no-progress", FREE, "SB3's tables instead of it", _LINES, action="store_false", dest="progress"),
    _option("--verbose", FREE, "0: only the summary, 1: as usual, 2: all of SB3", type=whole_number(0), default=1),
    _option("-uuid --uuid", REFUSED, "append a unique id to the run's folder", _NO_MODELS, **_FLAG),
    _option("--gym-packages", TYPED, "modules that register environments", metavar="MODULE", default=[], **_MANY),
    _option("--allow-import", TYPED, "a module whose callbacks and wrappers a YAML file may name; may be repeated",
            action="append", metavar="MODULE", default=[]),
    _option("--env-kwargs", SETTING, "keyword arguments of the environment", **_PAIRS),
    _option("--eval-env-kwargs", SETTING, "those of the evaluation environments (default: the same)", **_PAIRS),
    _option("--vec-env", FIXED, "environments in this process or in own ones", _JOBS,
            choices=sorted(VEC_ENVS), default="dummy"),
    _option("--truncate-last-trajectory", FREE, "with -i and a hindsight replay buffer: end its unfinished episode",
            _NO_MODELS, type=true_or_false, default=True, metavar="BOOL"),
    _option("--track", FREE, "track the run with Weights & Biases (extra 'track')", _NO_MODELS, **_FLAG),
    _option("--wandb-project-name", FREE, "its project (default: sb3)", _NO_MODELS, default="sb3"),
    _option("--wandb-entity", FREE, "its entity, a user or a team", _NO_MODELS),
    _option("--wandb-group", FREE, "its group of runs", _NO_MODELS),
    _option("-tags --wandb-tags", FREE, "tags of the run", _NO_MODELS, metavar="TAG", default=[], **_MANY),
)
# Options of rl-baselines3-zoo's train.py that belong to a study.
_OF_TUNING = ("--n-trials", "--max-total-trials", "--n-jobs", "--sampler", "--pruner", "--n-startup-trials",
              "--n-evaluations", "--no-optim-plots", "--optimization-log-path")
_OF_A_STUDY = ("--storage", "--study-name", "--trial-id")
# fmt: on
BY_NAME = {option.name: option for option in reversed(OPTIONS)}  # of those with one name the first


class Refused(argparse.Action):
    """An option that users know from elsewhere and that this command does not have; ``instead`` ends the sentence."""

    def __init__(self, option_strings: Sequence[str], dest: str, instead: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs="*", help=argparse.SUPPRESS)
        self.instead = instead

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> NoReturn:
        """Refuse it."""
        raise InvalidValue(f"{option}: {self.instead}")


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Give a parser the options of the table that have these names."""
    for option in OPTIONS:
        if option.name in names:
            parser.add_argument(*option.flags, **option.arguments, default=option.default)


def refuse_options_of_training(parser: argparse.ArgumentParser) -> None:
    """For ``sbbatch tune``, which gets all that was typed beside ``-optimize``."""
    for option in OPTIONS:
        if option.in_tune is not None:
            parser.add_argument(*option.flags, action=Refused, instead=option.in_tune)
    for flag in ("--optimization-log-path", "--trial-id"):
        parser.add_argument(flag, action=Refused, instead=_NO_MODELS)


def env_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that ``--env-kwargs`` and ``--eval-env-kwargs`` stand for, as far as they were given."""
    pairs = {"env_kwargs": args.env_kwargs, "eval_env_kwargs": args.eval_env_kwargs}
    return {key: read_parameters(words, f"--{key.replace('_', '-')}") for key, words in pairs.items() if words}


def train_parser(**texts: Any) -> argparse.ArgumentParser:
    """The parser of ``sbbatch train``, with its ``epilog``; what is not typed does not appear in its result."""
    parser = Parser(prog="sbbatch train", description="Train an agent.", **texts)
    for option in OPTIONS:
        parser.add_argument(*option.flags, **option.arguments, default=argparse.SUPPRESS)
    tuning = "it belongs to tuning; add -optimize, or give it to `sbbatch tune`"
    study = "no study is read; `sbbatch tune` leaves the best trial's settings in a best.yml, which -conf takes"
    for flag in (*_OF_TUNING, *_OF_A_STUDY):
        parser.add_argument(flag, action=Refused, instead=tuning if flag in _OF_TUNING else study)
    return parser


def with_defaults(values: dict[str, Any]) -> argparse.Namespace:
    """All options, those of which nothing is said with their defaults."""
    return argparse.Namespace(**{name: option.default for name, option in BY_NAME.items()} | values)


def setting_overrides(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say about the settings; an ``InvalidValue`` if a key is given twice."""
    options = {
        "n_timesteps": None if args.n_timesteps == -1 else args.n_timesteps,
        "batch_size": args.batch_size,
        "n_steps": args.n_steps,
        "n_envs": args.n_envs,
        "batch_size_callback": args.abs,
        "atari_protocol": args.protocol,
        **env_overrides(args),
    }
    return read_overrides(args.hyperparams, options)


def resumed_options(typed: dict[str, Any], written: dict[str, Any], file: Path) -> argparse.Namespace:
    """The options of a run that is resumed, from what was typed and ``written`` in its ``args.yml``."""
    values = {}
    for name, option in BY_NAME.items():
        if option.on_resume is REFUSED and name in typed:
            raise InvalidValue(f"{option.flags[-1]}: it is for new runs, and --resume continues one; remove it")
        if option.on_resume in (FREE, TYPED) and name in typed:
            values[name] = typed[name]
        elif option.on_resume in (FIXED, FREE):
            values[name] = option.read(written.get(name), f"{file}: {option.flags[-1]}")
            if typed.get(name, values[name]) != values[name]:
                raise InvalidValue(contradiction(option.flags[-1], typed[name], values[name]))
    return with_defaults(values)


def contradiction(name: str, value: Any, before: Any) -> str:
    """The sentence about an option or a setting that is typed with another value than the run has."""
    return f"{name}: got {value}, but the run has {before}; remove it, or begin a new run with -i"


def import_environments(args: argparse.Namespace) -> None:
    """Import the modules of ``--gym-packages`` and of ``--env module:Name-v0``, which becomes ``Name-v0``."""
    import_packages(args.gym_packages)
    if args.env is None:
        return
    module, colon, name = args.env.partition(":")
    if colon:
        import_packages([module], "--env")
        args.env, args.gym_packages = name, [*args.gym_packages, module]
