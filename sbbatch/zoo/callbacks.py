"""What happens beside learning: writing down episodes, keeping checkpoints, stopping when asked."""

from __future__ import annotations

import csv
import json
import signal
import time
from pathlib import Path
from types import FrameType
from typing import IO, Any

from stable_baselines3.common.callbacks import BaseCallback

from sbbatch.zoo.build import save_model
from sbbatch.zoo.progress import say


class StopRequest:
    """
    Ctrl-C and SIGTERM as a wish that is fulfilled between two steps, so that nothing is saved half-way through one.

    A second Ctrl-C interrupts at once. Use as a context manager; the previous handlers come back at its end.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
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

    @property
    def requested(self) -> bool:
        """Whether training should end."""
        return self.signum is not None

    @property
    def exit_code(self) -> int:
        """The shell's convention: 130 for Ctrl-C, 143 for SIGTERM, 0 when nobody asked."""
        return 0 if self.signum is None else 128 + self.signum

    def _handle(self, signum: int, _: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum


class StopWhenAsked(BaseCallback):
    """
    End ``learn`` at the first step after a request.

    :param stop: the request to watch
    """

    def __init__(self, stop: StopRequest) -> None:
        super().__init__()
        self.stop = stop

    def _on_step(self) -> bool:
        return not self.stop.requested


class EpisodeLog(BaseCallback):
    """
    One line per finished training episode, in the format of SB3's ``Monitor`` with one column more: ``steps``, the
    agent steps taken by all environments when the episode ended.

    :param path: a file whose name ends in ``monitor.csv``
    :param env_id: written into its header
    """

    def __init__(self, path: Path, env_id: str) -> None:
        super().__init__()
        self.path = path
        self.env_id = env_id
        self._file: IO[str] | None = None

    def _on_training_start(self) -> None:
        self._start = time.time()
        self._file = self.path.open("w", newline="\n", encoding="utf-8")
        self._file.write(f"#{json.dumps({'t_start': self._start, 'env_id': self.env_id})}\n")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(["r", "l", "t", "steps"])
        self._file.flush()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            episode = info.get("episode")
            if episode is not None and self._file is not None:
                seconds = round(time.time() - self._start, 3)
                self._writer.writerow([float(episode["r"]), int(episode["l"]), seconds, self.num_timesteps])
                self._file.flush()
        return True

    def _on_training_end(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class SaveModel(BaseCallback):
    """
    Save the model, with its normalization, whenever it is called.

    :param path: the model's zip file
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_step(self) -> bool:
        save_model(self.model, self.path)
        return True


class Checkpoint(BaseCallback):
    """
    Save the model now and then, under the zoo's name ``rl_model_<n>_steps.zip``.

    It saves when a rollout has ended, where step counter and replay buffer agree; SB3's ``CheckpointCallback`` saves in
    the middle of a step, when the counter is one transition ahead.

    :param folder: where to
    :param save_freq: agent steps between two saves
    :param replay_buffer: also save the replay buffer, as ``rl_model_replay_buffer_<n>_steps``
    """

    def __init__(self, folder: Path, save_freq: int, replay_buffer: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.save_freq = save_freq
        self.replay_buffer = replay_buffer

    def _on_training_start(self) -> None:
        self._saved_at = self.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        if self.num_timesteps - self._saved_at < self.save_freq:
            return
        self._saved_at = self.num_timesteps
        save_model(self.model, self.folder / f"rl_model_{self.num_timesteps}_steps.zip")
        if self.replay_buffer:
            path = self.folder / f"rl_model_replay_buffer_{self.num_timesteps}_steps"
            self.model.save_replay_buffer(path)  # type: ignore[attr-defined]
        if self.verbose:
            say(f"saved rl_model_{self.num_timesteps}_steps.zip in {self.folder}")
