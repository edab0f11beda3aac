"""A run as one command of ``sbbatch train`` with a folder of its own, whose done file is written when it has ended."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from filelock import FileLock, Timeout

from sbbatch.files import atomic_write
from sbbatch.studies.results import Result, read_columns, read_result
from sbbatch.studies.study import ROOT, Run
from sbbatch.version import __version__

ATTEMPTS = 5
LOST, BUSY = "lost", "busy"  # with its machine; elsewhere
_LET_GO = 5.0  # seconds in which a worker that was killed lets go of its run
_FINAL = (2, 3)  # exit codes: a setting that the agent cannot have, and numbers that became NaN; it would end so again
_HOUSEKEEPING = ("--no-progress", "--log-interval", "-2", "--num-threads", "1")


@dataclass(frozen=True)
class Command:
    """
    A run with its place on disk.

    :param run: what is run
    :param root: folder of all studies
    """

    run: Run
    root: Path

    @property
    def folder(self) -> Path:
        """Holds ``done.json`` or ``failed.txt``, ``output.txt``, and in ``train`` what `sbbatch train` writes."""
        return self.root / self.run.study / self.run.id

    @property
    def _train(self) -> Path:
        return (self.folder / "train").absolute()

    @property
    def words(self) -> list[str]:
        """The whole command after ``sbbatch``."""
        first, *others = (word.replace(ROOT, str(self.root.absolute())) for word in self.run.words)
        return [first, "-f", str(self._train), *_HOUSEKEEPING, *others]

    @property
    def state(self) -> str:
        """``"done"``, ``"failed"`` or ``"missing"``."""
        states = {"done": self.folder / "done.json", "failed": self.folder / "failed.txt"}
        return next((state for state, path in states.items() if path.exists()), "missing")

    def done(self) -> dict[str, Any]:
        """How a run that is done was made (command, versions, attempts), and its result."""
        return dict(json.loads((self.folder / "done.json").read_text(encoding="utf-8")))

    def result(self) -> Result:
        """Of a run that is done; its folder may be gone."""
        return Result.of(self.run, self.done()["result"])

    def execute(self) -> str:
        """
        Run it here, unless it is done or another process is at it; one that dies is begun again.

        :return: its state, or ``"stopped"`` (by the user) or ``BUSY`` (elsewhere)
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=_LET_GO):
                self._end_orphan()
                attempts = range(1, ATTEMPTS + 1)
                return "done" if self.state == "done" else next(filter(None, map(self._attempt, attempts)))
        except Timeout:
            return BUSY

    def _end_orphan(self) -> None:
        """A worker that was killed may have left its training behind, which would write into the next one."""
        for process in psutil.process_iter(["cmdline"]):
            if str(self._train) in (process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    process.wait()

    def _attempt(self, number: int) -> str | None:
        """``None``: it died, and may be tried again."""
        (self.folder / "failed.txt").unlink(missing_ok=True)
        shutil.rmtree(self._train, ignore_errors=True)
        program, began = [sys.executable, "-m", "sbbatch.zoo.commands.cli", *self.words], time.monotonic()
        with (self.folder / "output.txt").open("w+", encoding="utf-8", errors="replace") as output:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            code = subprocess.run(program, stdout=output, stderr=subprocess.STDOUT, env=environment).returncode
            output.seek(0)
            last_line = (output.read().strip().splitlines() or [""])[-1]
        if code == 0:
            folders = [path.parent for path in self._train.glob("*/*/evaluations.npz")]
            return self.finish(folders[0], time.monotonic() - began, number) if folders else "stopped"
        if code not in _FINAL and number < ATTEMPTS:
            return None
        (self.folder / "failed.txt").write_text(f"exit code {code}: {last_line}\n", encoding="utf-8")
        return "failed"

    def finish(self, folder: Path, seconds: float | None = None, attempts: int = 1) -> str:
        """
        Write the done file, if the training came to its end.

        :param folder: that `sbbatch train` made, inside this one
        :param seconds: wall time (``None``: until the last training episode ended)
        :param attempts: how often it was begun
        :return: ``"done"``, or ``"stopped"``
        """
        if not is_complete(folder, self.run.steps):
            return "stopped"
        if seconds is None:
            seconds = float(read_columns(folder / "0.monitor.csv", "t").max())
        self.write_done(read_result(self.run, folder, seconds), attempts)
        return "done"

    def write_done(self, result: Result, attempts: int) -> None:
        """
        :param result: of the run
        :param attempts: how often it was begun (0: elsewhere)
        """
        command = shlex.join(["sbbatch", *self.run.words])
        versions = installed_versions() if attempts else {}
        done = {"command": command, "versions": versions, "attempts": attempts, "result": result.numbers()}
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.folder / "done.json") as file:
            file.write(json.dumps(done, indent=1).encode())


def is_complete(folder: Path, steps: int) -> bool:
    """
    Whether a training came to its end, where it is evaluated; one that was interrupted is not.

    :param folder: that `sbbatch train` made
    :param steps: that it should have
    """
    path = folder / "evaluations.npz"
    if not path.exists():
        return False
    with np.load(path, allow_pickle=False) as evaluations:
        return bool(evaluations["timesteps"][-1] >= steps)


@cache
def installed_versions() -> dict[str, str]:
    """Of what decides the numbers: Python, packages, and our own commit where this is a checkout of it."""
    found = {"python": platform.python_version(), "sbbatch": __version__}
    found |= {name: metadata.version(name) for name in ("torch", "numpy", "stable-baselines3", "gymnasium")}
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists() and shutil.which("git"):
        program = ["git", "-C", str(root), "describe", "--always", "--dirty"]
        found["commit"] = subprocess.run(program, capture_output=True, text=True).stdout.strip()
    return found
