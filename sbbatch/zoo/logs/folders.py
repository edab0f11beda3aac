"""Where runs are kept, in rl-baselines3-zoo's layout: ``logs/<algo>/<env>_<n>/``."""

from __future__ import annotations

import itertools
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue, UserError
from sbbatch.files import atomic_write, why_unwritable
from sbbatch.settings.reader import read_yaml
from sbbatch.settings.schema import plain

BATCH_LOG_NAME = "batch_size.csv"
LOCK_NAME = ".lock"


class RunFolder:
    """One run's files: those in ``path``, and in a folder there with the name of the environment."""

    def __init__(self, path: Path, env_name: str) -> None:
        self.path = path
        self.env_name = env_name
        self.parameters = path / env_name
        self.config = self.parameters / "config.yml"  # every setting that was made
        self.arguments = self.parameters / "args.yml"  # every option of the command
        self.command = self.parameters / "command.txt"  # as it was typed, and those that resumed the run
        self.last_model = path / f"{env_name}.zip"
        self.best_model = path / "best_model.zip"
        self.evaluations = path / "evaluations.npz"  # SB3's
        self.episodes = path / "0.monitor.csv"  # returns of the training episodes, one line each
        self.batch_sizes = path / BATCH_LOG_NAME  # how the batch size changed, if it did
        self.replay_buffer = path / "replay_buffer"  # to which its class adds the suffix


def folder_name(env_id: str) -> str:
    """An environment id, such as ``ALE/Breakout-v5``, as a file name."""
    return env_id.replace("/", "-").replace(":", "-")


def create_run_folder(log_folder: Path, algo: str, env_id: str, uuid: str = "") -> RunFolder:
    """Make the next free run folder, with a UUID in its name on demand; an ``InvalidValue`` if it cannot be written."""
    env_name = folder_name(env_id)
    parent = log_folder / algo
    try:
        parent.mkdir(parents=True, exist_ok=True)
        run = RunFolder(claim_numbered(parent, env_name, uuid), env_name)
        run.parameters.mkdir()
    except OSError as error:
        raise InvalidValue(unwritable(log_folder, error)) from None
    return run


def describe_run(run: RunFolder, config: dict[str, Any], arguments: dict[str, Any], command: list[str]) -> None:
    """Write down in plain YAML how a run was started, or resumed: then ``command`` is appended to those before."""
    before = run.command.read_text(encoding="utf-8") if run.command.is_file() else ""
    texts = {
        run.config: yaml.safe_dump(plain(config), sort_keys=True),
        run.arguments: yaml.safe_dump(plain(arguments), sort_keys=True),
        run.command: before + shlex.join(command) + "\n",
    }
    for path, text in texts.items():
        with atomic_write(path) as file:
            file.write(text.encode())


def open_run(path: Path) -> RunFolder:
    """A run by its folder, e.g. ``logs/qrdqn/ALE-Breakout-v5_1``; an ``InvalidValue`` if it is none."""
    for arguments in sorted(path.glob("*/args.yml")):
        run = RunFolder(path, arguments.parent.name)
        if run.config.is_file():
            return run
    # The commonest mistake is a folder of runs, or a file of one.
    folder = path if path.is_dir() else path.parent
    configs = sorted([*folder.glob("*/config.yml"), *folder.glob("*/*/config.yml")], key=lambda p: p.stat().st_mtime)
    hint = f"; did you mean {configs[-1].parents[1]}?" if configs else ""
    raise InvalidValue(f"{path} is no run folder: it has no config.yml and args.yml{hint}")


@contextmanager
def alone_in(run: RunFolder) -> Iterator[None]:
    """No other process trains in this folder meanwhile, or an ``InvalidValue``; the lock of a killed one falls."""
    lock = FileLock(run.parameters / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InvalidValue(f"the run in {run.path} is still in progress; wait for its end, or stop it") from None
    try:
        yield
    finally:
        lock.release()


def probe_folder(folder: Path, option: str = "-f") -> None:
    """Raise ``InvalidValue`` if the folder that an option names cannot be written; it is not made yet."""
    try:
        nearest = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InvalidValue(unwritable(folder, error, option)) from None


def run_of(model: Path, env_id: str) -> RunFolder | None:
    """The run that a model file lies in, ``None`` for a file that was taken elsewhere."""
    run = RunFolder(model.parent, folder_name(env_id))
    return run if run.config.is_file() else None


def find_run(log_folder: Path, algo: str, env_id: str, number: int = 0) -> RunFolder:
    """A run by its number (0: the latest, -1: the files in the algorithm's folder itself), or an ``InvalidValue``."""
    env_name = folder_name(env_id)
    if number == -1:
        return RunFolder(log_folder / algo, env_name)
    runs = sorted(_runs(log_folder / algo, env_name))
    for found, path in reversed(runs):
        if number in (0, found):
            return RunFolder(path, env_name)
    known = f"; runs there: {', '.join(str(n) for n, _ in runs)}" if runs else ""
    text = f"run {number} of {algo} on {env_id} does not exist" if number else f"no run of {algo} on {env_id}"
    raise InvalidValue(f"{text} in {log_folder / algo}{known}; train one with `sbbatch train` or give -f")


def id_of_run(env_id: str, find: Callable[[], RunFolder | None]) -> str:
    """
    The canonical id of an environment that was trained in; if it is unknown, the options of its run are named.

    :param find: the run, asked for only then
    :raises InvalidValue: no such environment
    """
    try:
        return canonical_id(env_id)
    except InvalidValue as error:
        packages: list[str] = []
        with suppress(UserError):
            run = find()
            packages = [] if run is None else read_yaml(run.arguments).get("gym_packages") or []
        if not packages:
            raise
        given = " ".join(f"--gym-packages {name}" for name in packages)
        raise InvalidValue(f"unknown environment '{env_id}'; its run had {given}: give the same again") from error


def unwritable(path: Path, error: OSError, option: str = "-f") -> str:
    """One sentence about a folder that cannot be written, with the option that names it."""
    return f"cannot write to {path}: {why_unwritable(path, error)}; give another folder with {option}"


def claim_numbered(parent: Path, name: str, uuid: str = "") -> Path:
    """Make the folder ``<name>_<n>`` or ``<name>_<n>_<uuid>`` with the next free n; two processes never share one."""
    for number in itertools.count(max((found for found, _ in _runs(parent, name)), default=0) + 1):
        path = parent / (f"{name}_{number}" + (f"_{uuid}" if uuid else ""))
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise AssertionError("unreachable")


def _runs(parent: Path, name: str) -> list[tuple[int, Path]]:
    """Number and folder of each ``<name>_<n>`` and ``<name>_<n>_<uuid>``."""
    pattern = re.compile(rf"{re.escape(name)}_(\d+)(_[0-9a-f-]{{36}})?")
    folders = [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
    return [(int(match.group(1)), path) for path in folders if (match := pattern.fullmatch(path.name))]
