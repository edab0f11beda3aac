"""Where runs are kept, in rl-baselines3-zoo's layout: ``logs/<algo>/<env>_<n>/``."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, why_unwritable

try:
    import fcntl
except ImportError:  # Windows, which does not open folders either
    fcntl = None  # type: ignore[assignment]

BATCH_LOG_NAME = "batch_size.csv"
LOCK_NAME = ".lock"
_MAX_RUNS = 1_000_000


@dataclass(frozen=True)
class RunFolder:
    """
    One run's files.

    :param path: the run's folder, e.g. ``logs/qrdqn/ALE-Breakout-v5_1``
    :param env_name: the environment's id without slashes
    """

    path: Path
    env_name: str

    @property
    def parameters(self) -> Path:
        """Folder of ``config.yml``, ``args.yml`` and ``command.txt``."""
        return self.path / self.env_name

    @property
    def config(self) -> Path:
        """Every setting that was made."""
        return self.parameters / "config.yml"

    @property
    def arguments(self) -> Path:
        """Every option of the command."""
        return self.parameters / "args.yml"

    @property
    def command(self) -> Path:
        """The command as it was typed, and those by which the run went on."""
        return self.parameters / "command.txt"

    @property
    def last_model(self) -> Path:
        """The model as it was when training ended."""
        return self.path / f"{self.env_name}.zip"

    @property
    def best_model(self) -> Path:
        """The model with the best evaluation."""
        return self.path / "best_model.zip"

    @property
    def evaluations(self) -> Path:
        """SB3's ``evaluations.npz``."""
        return self.path / "evaluations.npz"

    @property
    def episodes(self) -> Path:
        """Returns of the training episodes, one line each."""
        return self.path / "0.monitor.csv"

    @property
    def batch_sizes(self) -> Path:
        """How the batch size changed, if it did; one line per measurement."""
        return self.path / BATCH_LOG_NAME

    @property
    def curve(self) -> Path:
        """The learning curve."""
        return self.path / "learning_curve.png"

    @property
    def replay_buffer(self) -> Path:
        """Where the replay buffer goes when it is kept; its class adds the suffix."""
        return self.path / "replay_buffer"


def folder_name(env_id: str) -> str:
    """
    An environment id as a file name.

    :param env_id: e.g. ``ALE/Breakout-v5``
    """
    return env_id.replace("/", "-").replace(":", "-")


def create_run_folder(log_folder: Path, algo: str, env_id: str, uuid: str = "") -> RunFolder:
    """
    Make the next free run folder; runs that start at the same moment never share one.

    :param log_folder: e.g. ``logs``
    :param algo: name of the algorithm
    :param env_id: environment
    :param uuid: appended to the folder's name
    :raises InvalidValue: the folder cannot be made or written
    """
    env_name = folder_name(env_id)
    parent = log_folder / algo
    try:
        parent.mkdir(parents=True, exist_ok=True)
        run = RunFolder(claim_numbered(parent, env_name, uuid), env_name)
        run.parameters.mkdir()
        _write_and_sync(run.command, "")
    except OSError as error:
        raise InvalidValue(unwritable(log_folder, error)) from None
    return run


def describe_run(run: RunFolder, config: dict[str, Any], arguments: dict[str, Any], command: list[str]) -> None:
    """
    Write down how a run was started or goes on, as plain YAML that loads without executing anything; a kill in the
    middle leaves what was there.

    :param run: its folder
    :param config: the settings that were made, as written
    :param arguments: every command-line argument
    :param command: the command's words, which are appended to those before
    :raises UnwritableFile: they cannot be written
    """
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
    """
    A run by its folder.

    :param path: e.g. ``logs/qrdqn/ALE-Breakout-v5_1``
    :raises InvalidValue: it is none, or the run was not even begun
    """
    if not path.is_dir():
        raise InvalidValue(f"no such run folder: {path}{_nearest_run(path)}")
    runs = [RunFolder(path, inner.name) for inner in sorted(path.iterdir()) if inner.is_dir()]
    runs = [run for run in runs if run.config.is_file() and run.arguments.is_file()]
    if len(runs) > 1:
        names = " and ".join(run.env_name for run in runs)
        raise InvalidValue(f"{path}: config.yml and args.yml lie in {names}; remove all but those of the run")
    if not runs:
        raise InvalidValue(
            f"{path} is no run folder: it has no folder with config.yml and args.yml{_nearest_run(path)}"
        )
    return runs[0]


def _nearest_run(path: Path) -> str:
    """The commonest mistake is a folder of runs, or a file of one."""
    folder = path if path.is_dir() else path.parent
    configs = sorted([*folder.glob("*/config.yml"), *folder.glob("*/*/config.yml")], key=lambda p: p.stat().st_mtime)
    return f"; did you mean {configs[-1].parents[1]}?" if configs else ""


@contextmanager
def alone_in(run: RunFolder) -> Iterator[None]:
    """
    No other process trains in this folder meanwhile; what a killed one held has fallen with it.

    :param run: the run
    :raises InvalidValue: one does
    """
    # A file of its own: those that are written anew become other files, and folders are locked while that happens.
    handle = None if fcntl is None else os.open(run.parameters / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if handle is not None and not _locked(handle):
            raise InvalidValue(f"the run in {run.path} is still going on; wait for its end, or stop it")
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _locked(handle: int) -> bool:
    """Whether nobody else has the lock; a file system without locks cannot tell."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def discard_run(run: RunFolder) -> None:
    """
    Remove the folder of a run that was refused before its first step.

    :param run: its folder
    """
    shutil.rmtree(run.path, ignore_errors=True)


def probe_folder(folder: Path, option: str = "-f") -> None:
    """
    Try whether a folder can be written, without making it: a mistake must leave nothing behind.

    :param folder: existing or not
    :param option: the option that names it
    :raises InvalidValue: a file is in the way, or the nearest existing folder cannot be written
    """
    try:
        nearest = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise InvalidValue(unwritable(folder, error, option)) from None


def run_of(model: Path, env_id: str) -> RunFolder | None:
    """
    The run that a model file lies in, ``None`` for a file that was taken elsewhere.

    :param model: any of the run's models
    :param env_id: environment
    """
    run = RunFolder(model.parent, folder_name(env_id))
    if not run.config.is_file():
        return None
    return run


def find_run(log_folder: Path, algo: str, env_id: str, number: int = 0) -> RunFolder:
    """
    An existing run.

    :param log_folder: e.g. ``logs``
    :param algo: name of the algorithm
    :param env_id: environment
    :param number: which run; 0: the latest, -1: files that lie in the algorithm's folder itself
    :raises InvalidValue: there is none
    """
    env_name = folder_name(env_id)
    if number == -1:
        return RunFolder(log_folder / algo, env_name)
    runs = sorted(_runs(log_folder / algo, env_name))
    for found, path in reversed(runs):
        if number in (0, found):
            return RunFolder(path, env_name)
    known = f"; runs there: {', '.join(str(n) for n, _ in runs)}" if runs else ""
    wanted = f"run {number}" if number else "no run"
    text = f"{wanted} of {algo} on {env_id} {'does not exist' if number else ''}".strip()
    raise InvalidValue(f"{text} in {log_folder / algo}{known}; train one with `sbbatch train` or give -f")


def unwritable(path: Path, error: OSError, option: str = "-f") -> str:
    """
    Why a folder cannot be written, in one sentence.

    :param path: what was to be written
    :param error: what the operating system said
    :param option: the option that names the folder
    """
    return f"cannot write to {path}: {why_unwritable(path, error)}; give another folder with {option}"


def claim_numbered(parent: Path, name: str, uuid: str = "") -> Path:
    """
    Make the folder ``<name>_<n>`` with the next free n.

    ``mkdir`` of an existing folder fails, so a folder belongs to whoever made it; the others take the next n.

    :param parent: an existing folder
    :param name: the common beginning
    :param uuid: appended, if any
    """
    number = max((found for found, _ in _runs(parent, name)), default=0)
    while number < _MAX_RUNS:
        number += 1
        path = parent / (f"{name}_{number}" + (f"_{uuid}" if uuid else ""))
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise OSError(errno.EEXIST, f"more than {_MAX_RUNS} runs")


def _runs(parent: Path, name: str) -> list[tuple[int, Path]]:
    """Number and folder of each ``<name>_<n>`` and ``<name>_<n>_<uuid>``."""
    pattern = re.compile(rf"{re.escape(name)}_(\d+)(_[0-9a-f-]{{36}})?")
    found = []
    for path in parent.iterdir() if parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and path.is_dir():
            found.append((int(match.group(1)), path))
    return found


def _write_and_sync(path: Path, text: str) -> None:
    """A full disk often shows only when the data are really written."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def plain(value: Any) -> Any:
    """
    Values that safe YAML can write: classes and paths become text, tuples lists.

    :param value: a setting or an argument
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, type):
        return f"nn.{value.__name__}" if value.__module__.startswith("torch.nn") else value.__name__
    return str(value)
