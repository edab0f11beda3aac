"""Going on with a run in its own folder: what it was, which of its models is the newest whole one, what may change."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue, UserError, check_int
from sbbatch.files import check_zip
from sbbatch.persistence.model_file import ModelFile
from sbbatch.persistence.normalization import statistics_of
from sbbatch.settings.imports import allow_imports, import_packages
from sbbatch.settings.reader import read_yaml
from sbbatch.settings.resolution import Settings, require_algorithm, resolve, run_value
from sbbatch.zoo.commands.cli import MAX_SEED
from sbbatch.zoo.console.progress import say, warn
from sbbatch.zoo.logs.folders import RunFolder, open_run
from sbbatch.zoo.logs.track import require_wandb
from sbbatch.zoo.run.build import check_trained_in
from sbbatch.zoo.run.request import Request, Resumption, check_saves_replay, make_parser, overrides_of

# Options that the run's args.yml has a say in, and in it alone: the rest is in config.yml, or belongs to a new run.
_WRITTEN = (
    "algo",
    "env",
    "seed",
    "device",
    "num_threads",
    "eval_freq",
    "eval_episodes",
    "eval_max_steps",
    "n_eval_envs",
    "save_freq",
    "save_replay_buffer",
    "log_folder",
    "tensorboard_log",
    "log_interval",
    "progress",
    "verbose",
    "vec_env",
    "truncate_last_trajectory",
    "track",
    "wandb_project_name",
    "wandb_entity",
    "wandb_group",
    "wandb_tags",
)
# Those that do not change what is learned, so that a run may go on with others. The last two are never taken from a
# file: what they name is imported.
FREE_OPTIONS = {
    "resume",
    "n_timesteps",
    "device",
    "num_threads",
    "progress",
    "verbose",
    "save_freq",
    "save_replay_buffer",
    "truncate_last_trajectory",
    "tensorboard_log",
    "log_interval",
    "track",
    "wandb_project_name",
    "wandb_entity",
    "wandb_group",
    "wandb_tags",
    "gym_packages",
    "allow_import",
}
_OF_NEW_RUNS = ("seeds", "jobs", "trained_agent", "conf_file", "uuid")
_OF_SETTINGS = {"batch_size", "n_steps", "n_envs", "abs", "protocol", "hyperparams", "env_kwargs", "eval_env_kwargs"}


@dataclass(frozen=True)
class SavedModel:
    """
    A model file of a run that is whole.

    :param path: the file
    :param steps: its agent steps
    :param replay_buffer: file of the replay buffer that was saved with it
    """

    path: Path
    steps: int
    replay_buffer: Path | None


def read_resumption(words: list[str]) -> Request:
    """
    Read ``--resume RUN_FOLDER`` and the run it names; nothing is built.

    :param words: the command line
    :raises UserError: no such run, nothing to go on with, or an option that contradicts the run
    """
    given = _given_options(words)
    run = open_run(given["resume"])
    written = read_yaml(run.arguments)
    args = _arguments_of(run, written, given)
    cls = require_algorithm(args.algo)
    import_packages(args.gym_packages)
    settings = _settings_of(run, args)
    _check_agrees(run, given, written, settings)
    _check_length(run, given, settings)
    if "n_timesteps" in given:
        settings = resolve(args.algo, args.env, {"n_timesteps": args.n_timesteps}, run_file=run.config)
    settings = allow_imports(settings, args.allow_import)
    check_saves_replay(args, cls)
    if args.track:
        require_wandb()
    saved = newest_model(run, cls, args.env, run_value(settings, "normalize") is not None)
    began_at = _steps_before(run, written)
    total = began_at + int(run_value(settings, "n_timesteps"))
    resumption = Resumption(run, written, saved.path, saved.steps, saved.replay_buffer, began_at, total)
    return Request(args, cls, args.env, settings, args.seed, words, resumption)


def _given_options(words: list[str]) -> dict[str, Any]:
    """What was typed, without defaults and without the values that stand for them."""
    parser = make_parser()
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    given = vars(parser.parse_args(words))
    for name in _OF_NEW_RUNS:
        if name in given:
            raise InvalidValue(f"{_option(name)}: it is for new runs, and --resume goes on with one; remove it")
    return {name: value for name, value in given.items() if not (name in ("n_timesteps", "seed") and value == -1)}


def _option(name: str) -> str:
    """An option as people type it."""
    return next((action.option_strings[-1] for action in make_parser()._actions if action.dest == name), name)


def _arguments_of(run: RunFolder, written: dict[str, Any], given: dict[str, Any]) -> argparse.Namespace:
    """The options of the run as if they had been typed again, so that they are checked in the same way."""
    parser = make_parser()
    words = [word for name in _WRITTEN for word in _as_words(parser, name, written.get(name))]
    try:
        args = parser.parse_args(words)
    except InvalidValue as error:
        raise InvalidValue(f"{run.arguments}: {error}") from None
    vars(args).update({name: value for name, value in given.items() if name in FREE_OPTIONS})
    _check_environment(run, args)
    check_int(f"{run.arguments} seed", args.seed, 0, MAX_SEED)
    return args


def _as_words(parser: argparse.ArgumentParser, name: str, value: Any) -> list[str]:
    """An option as it would be typed; with an equals sign, so that a value may begin with a dash."""
    actions = [action for action in parser._actions if action.dest == name]
    if value is None:
        return []
    if isinstance(value, bool) and actions[0].nargs == 0:
        return [action.option_strings[-1] for action in actions if action.const is value]
    return [f"{actions[0].option_strings[-1]}={item}" for item in (value if isinstance(value, list) else [value])]


def _check_environment(run: RunFolder, args: argparse.Namespace) -> None:
    """A file must not have modules imported, as the id ``module:Name-v0`` would."""
    if ":" in args.env:
        raise InvalidValue(f"{run.arguments} env: got '{args.env}', expected an id without a module")


def _settings_of(run: RunFolder, args: argparse.Namespace) -> Settings:
    try:
        args.env = canonical_id(args.env)
    except InvalidValue:
        remedy = "give --gym-packages again if a package registers it"
        raise InvalidValue(f"{run.arguments}: unknown environment '{args.env}'; {remedy}") from None
    return resolve(args.algo, args.env, run_file=run.config)


def _check_agrees(run: RunFolder, given: dict[str, Any], written: dict[str, Any], settings: Settings) -> None:
    """Options that say something else than the run."""
    for name, value in given.items():
        if name in FREE_OPTIONS or name in _OF_SETTINGS:
            continue
        value = canonical_id(value) if name == "env" else value
        before = written.get(name)
        if _plain(value) != _plain(before):
            raise InvalidValue(_contradiction(name, value, before, run))
    args = make_parser().parse_args([])
    vars(args).update({name: value for name, value in given.items() if name in _OF_SETTINGS})
    for key, value in overrides_of(args).items():
        before = settings[key].given if key in settings else None
        if value != before:
            raise InvalidValue(_contradiction(key, value, before, run))


def _plain(value: Any) -> Any:
    return [str(item) for item in value] if isinstance(value, list) else str(value)


def _contradiction(name: str, value: Any, before: Any, run: RunFolder) -> str:
    return (
        f"{_option(name)}: got {_plain(value)}, but the run in {run.path} has {_plain(before)}; remove it, or begin a "
        "new run with -i"
    )


def _check_length(run: RunFolder, given: dict[str, Any], settings: Settings) -> None:
    length = int(run_value(settings, "n_timesteps"))
    if given.get("n_timesteps", length) < length:
        raise InvalidValue(
            f"--n-timesteps: got {given['n_timesteps']}, but the run in {run.path} is for {length}; it can only become "
            "longer"
        )


def _steps_before(run: RunFolder, written: dict[str, Any]) -> int:
    """Agent steps of the model that the run began with."""
    return check_int(f"{run.arguments} steps_before", written.get("steps_before", 0), 0)


def newest_model(run: RunFolder, cls: type, env_id: str, normalized: bool) -> SavedModel:
    """
    The model to go on with: of those with a replay buffer the newest, else the newest of all. An agent that learns from
    replay loses more with its memory than with the steps since an older checkpoint.

    Damaged files are told and left aside.

    :param run: its folder
    :param cls: the algorithm
    :param env_id: environment
    :param normalized: whether its environments are
    :raises InvalidValue: there is none
    """
    paths = [run.last_model, run.best_model, *sorted(run.path.glob("rl_model_*_steps.zip"))]
    found = {path: _steps_of(path, env_id, normalized) for path in paths if path.is_file()}
    steps = {path: n for path, n in found.items() if n is not None}
    buffers: dict[Path, Path] = {}
    if issubclass(cls, OffPolicyAlgorithm):
        beside = {path: find_replay_buffer(path) for path in steps}
        buffers = {path: buffer for path, buffer in beside.items() if buffer is not None}
    while buffers:
        path = max(buffers, key=lambda one: steps[one])
        if _is_whole(buffers[path]):
            return SavedModel(path, steps[path], buffers[path])
        del buffers[path]
    if not steps:
        raise InvalidValue(f"{run.path} has no model to go on with; begin the run anew, see {run.command}")
    path = max(steps, key=lambda one: (steps[one], one != run.best_model))
    return SavedModel(path, steps[path], None)


def _steps_of(path: Path, env_id: str, normalized: bool) -> int | None:
    """Agent steps of a model; ``None``: it cannot be gone on with."""
    try:
        plain = ModelFile(path).plain
        steps = check_int(f"{path}: num_timesteps", plain.get("num_timesteps"), 0)
        statistics = statistics_of(path)
        if normalized and not statistics.is_file():
            raise InvalidValue(f"{path} has no statistics of its normalized environment in {statistics.name}")
        if normalized:
            check_zip(statistics, "statistics")
    except UserError as error:
        warn(f"{error}; {path.name} is left aside")
        return None
    check_trained_in(plain.get("env_id"), env_id, str(path))
    return steps


def _is_whole(buffer: Path) -> bool:
    if buffer.suffix != ".npz":
        return True  # of SB3's own classes, whose pickles have no checksums
    try:
        check_zip(buffer, "replay buffer")
    except InvalidValue as error:
        warn(f"{error}; {buffer.name} is left aside")
        return False
    return True


def find_replay_buffer(model: Path) -> Path | None:
    """
    The replay buffer that was saved together with a model.

    :param model: ``<env>.zip`` or ``rl_model_<n>_steps.zip``
    """
    if model.stem == "best_model":
        return None  # the buffer beside it belongs to the last model
    name = "replay_buffer"
    if model.stem.startswith("rl_model_"):
        name = model.stem.replace("rl_model_", "rl_model_replay_buffer_", 1)
    return next(iter(sorted(model.parent.glob(f"{name}.*"))), None)


def last_checkpoint(resumption: Resumption) -> int:
    """
    Agent steps of the newest checkpoint that is not later than the model that goes on, or those at which the run began.

    :param resumption: the run
    """
    names = [path.stem.split("_")[2] for path in resumption.folder.path.glob("rl_model_*_steps.zip")]
    numbers = [int(name) for name in names if name.isdecimal()]
    return max((number for number in numbers if number <= resumption.steps), default=resumption.began_at)


def describe_resumption(resumption: Resumption, replays: bool) -> None:
    """
    Say from where a run goes on, and what it has lost.

    :param resumption: the run
    :param replays: whether the agent learns from replay
    """
    run, steps = resumption.folder, resumption.steps
    say(f"going on with {resumption.model} at {steps:,} of {resumption.total:,} agent steps")
    if replays and resumption.replay_buffer is None:
        say("no replay buffer was saved with it: it starts with an empty one (see --save-replay-buffer)")
    if run.best_model.is_file():
        best = ModelFile(run.best_model).plain.get("num_timesteps", 0)
        if best > steps:
            say(f"{run.best_model} is of {best:,} agent steps, which come again; it stays until a better one")
