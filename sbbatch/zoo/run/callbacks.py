"""What happens beside learning: writing down episodes, keeping checkpoints, stopping when asked."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from stable_baselines3.common.callbacks import BaseCallback

from sbbatch.batch import BatchSizeCallback
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write
from sbbatch.zoo.console.progress import find_batch_callback, warn
from sbbatch.zoo.logs.batch_log import COLUMNS, Row, lines_of, read_batch_log
from sbbatch.zoo.logs.kept_logs import EPISODE_COLUMNS, kept_rows
from sbbatch.zoo.logs.logger import WriteErrors
from sbbatch.zoo.run.build import save_model


class StopRequest:
    """
    A context manager that turns Ctrl-C and SIGTERM into a request, which is met between two steps, so that nothing is
    saved half-way through one.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._interrupts = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            try:
                self._previous[signum] = signal.signal(signum, self._handle)
            except ValueError:  # only the main thread may set handlers; elsewhere there is nothing to catch
                break
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """In here a second Ctrl-C interrupts at once; elsewhere, where files are saved, it changes nothing."""
        self._interrupts = True
        try:
            yield
        finally:
            self._interrupts = False

    @property
    def requested(self) -> bool:
        """Whether training should end."""
        return self.signum is not None

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 for Ctrl-C, 143 for SIGTERM, 0 when nobody asked."""
        return 0 if self.signum is None else 128 + self.signum

    def _handle(self, signum: int, _: FrameType | None) -> None:
        if self._interrupts and self.signum is not None and signum == signal.SIGINT:
            self._interrupts = False  # a third one would come in between of what the second one set going
            raise KeyboardInterrupt
        self.signum = signum


class StopWhenAsked(BaseCallback):
    """End ``learn`` at the first step after a request."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__()
        self.stop = stop

    def _on_step(self) -> bool:
        return not self.stop.requested


class _LogFile(BaseCallback):
    """A text file that grows line by line during training, and whose loss does not end it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._errors = WriteErrors()
        self._file: IO[str] | None = None

    def _open(self, text: str) -> None:
        """Begin the file with a text, whole at any instant."""
        with atomic_write(self.path) as file:
            file.write(text.encode())
        self._file = self.path.open("a", newline="\n", encoding="utf-8")

    def _append(self, text: str) -> None:
        if self._file is not None:
            with self._errors.told(self.path):
                self._file.write(text)
                self._file.flush()

    def _on_training_end(self) -> None:
        if self._file is not None:
            with self._errors.told(self.path):
                self._file.close()
            self._file = None


class EpisodeLog(_LogFile):
    """
    One line per finished training episode, in the format of SB3's ``Monitor`` with one column more: ``steps``, the
    agent steps taken by all environments when the episode ended. A resumed run keeps its lines up to the model's step
    counter, and their seconds continue without the break.
    """

    def __init__(self, path: Path, env_id: str, resumes: bool = False) -> None:
        super().__init__(path)
        self.env_id = env_id
        self.resumes = resumes

    def _on_training_start(self) -> None:
        kept, _, rows = kept_rows(self.path, "steps", self.num_timesteps) if self.resumes else ("", [], [])
        self._start = time.time() - (float(rows[-1][EPISODE_COLUMNS.index("t")]) if rows else 0.0)
        header = json.dumps({"t_start": self._start, "env_id": self.env_id})
        self._open(kept or f"#{header}\n{','.join(EPISODE_COLUMNS)}\n")

    def _on_step(self) -> bool:
        for episode in (info["episode"] for info in self.locals["infos"] if "episode" in info):
            seconds = round(time.time() - self._start, 3)
            self._append(f"{float(episode['r'])},{int(episode['l'])},{seconds},{self.num_timesteps}\n")
        return True


class BatchSizeLog(_LogFile):
    """
    One line per measurement of an agent that adapts its batch size, after one of the size it starts with; an agent
    whose batch size is fixed leaves no file. A file that is already there is continued after its lines up to the
    model's step counter.
    """

    def _on_training_start(self) -> None:
        self._start = self.num_timesteps
        self._followed: BatchSizeCallback | None = None

    def _on_step(self) -> bool:
        if self._followed is None:  # not before the first step: by then every other callback has begun too
            self._followed = find_batch_callback(self.model)
            if self._followed is None:
                return True
            self._n_seen = self._begin(self._followed)
        # Not by the step counter: several measurements may share a step.
        new = self._followed.history[self._n_seen :]
        self._n_seen = len(self._followed.history)
        if new:
            self._append(lines_of(new))
        return True

    def _on_training_end(self) -> None:
        if self._followed is not None:
            self._on_step()  # what the last update measured
        super()._on_training_end()

    def _begin(self, followed: BatchSizeCallback) -> int:
        """Open the file, with its old lines or the starting size in it; how many measurements it already has."""
        rows: list[Row] = []
        try:
            rows = [row for row in read_batch_log(self.path) if row["timesteps"] <= self._start]
        except FileNotFoundError:
            pass
        except InvalidValue as error:
            warn(f"{error}; starting over")
        assert followed.size is not None
        rows = rows or [{"timesteps": self._start, "size": followed.size}]
        with self._errors.told(self.path):
            self._open(f"{','.join(COLUMNS)}\n{lines_of(rows)}")
        return sum(entry["timesteps"] <= rows[-1]["timesteps"] for entry in followed.history)


class Checkpoint(BaseCallback):
    """
    Save the model every ``save_freq`` agent steps, under the zoo's name ``rl_model_<n>_steps.zip``, on demand with its
    replay buffer as ``rl_model_replay_buffer_<n>_steps``.

    It saves before a rollout begins, when step counter, replay buffer and weights agree; SB3's ``CheckpointCallback``
    saves when the counter is one transition ahead. The model is written last: its file says that all is complete.

    :param saved_at: agent steps at the last save (``None``: those at which training begins)
    """

    def __init__(self, folder: Path, save_freq: int, replay_buffer: bool = False, saved_at: int | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.save_freq = save_freq
        self.replay_buffer = replay_buffer
        self.saved_at = saved_at
        self._errors = WriteErrors()

    def _on_training_start(self) -> None:
        self.saved_at = self.num_timesteps if self.saved_at is None else self.saved_at

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        assert self.saved_at is not None
        if self.num_timesteps - self.saved_at < self.save_freq:
            return
        self.saved_at = self.num_timesteps
        model = self.folder / f"rl_model_{self.num_timesteps}_steps.zip"
        with self._errors.told(model):
            if self.replay_buffer:
                path = self.folder / f"rl_model_replay_buffer_{self.num_timesteps}_steps"
                self.model.save_replay_buffer(path)  # type: ignore[attr-defined]
            save_model(self.model, model)
