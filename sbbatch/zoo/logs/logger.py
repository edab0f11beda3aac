"""SB3's logger with the formats of a run, none of which may end it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, unwritable_file
from sbbatch.zoo.console.progress import warn
from sbbatch.zoo.logs.folders import RunFolder, claim_numbered, unwritable
from sbbatch.zoo.logs.kept_logs import STEP_COLUMN, kept_rows


class WriteErrors:
    """For files that training can do without: the first failure to write is told, and training goes on."""

    def __init__(self) -> None:
        self._told = False

    @contextmanager
    def told(self, path: Path) -> Iterator[None]:
        """Around the writing of a file."""
        try:
            yield
            self._told = False
        except OSError as error:
            if not self._told:
                warn(f"{unwritable_file(path, error)}; training goes on")
            self._told = True


class OptionalWriter(KVWriter):
    """A format of SB3's logger whose file or folder may fail."""

    def __init__(self, writer: KVWriter, path: Path) -> None:
        self._writer, self._path, self._errors = writer, path, WriteErrors()

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """As the format's."""
        with self._errors.told(self._path):
            self._writer.write(key_values, key_excluded, step)

    def close(self) -> None:
        """As the format's."""
        with self._errors.told(self._path):
            self._writer.close()


class ContinuedCSV(CSVOutputFormat):
    """SB3's table after the rows that it already has up to ``steps``, those of the model that is resumed from."""

    def __init__(self, path: Path, steps: int) -> None:
        kept, columns, _ = kept_rows(path, STEP_COLUMN, steps)
        with atomic_write(path) as file:
            file.write(kept.encode())
        # Not SB3's constructor, which would empty the file.
        self.file = path.open("r+", encoding="utf-8", newline="\n")
        self.file.seek(0, os.SEEK_END)
        self.keys = columns
        self.separator, self.quotechar = ",", '"'


def make_logger(folder: RunFolder, *, tensorboard: Path | None, tables: bool, kept_steps: int | None) -> Logger:
    """
    SB3's logger: ``progress.csv``, and on demand tables on standard output and TensorBoard in a numbered folder.

    :param kept_steps: agent steps up to which ``progress.csv`` keeps what it has; ``None``: a new run
    """
    path = folder.path / "progress.csv"
    table = CSVOutputFormat(str(path)) if kept_steps is None else ContinuedCSV(path, kept_steps)
    formats: list[KVWriter] = [OptionalWriter(table, path)]
    if tables:
        formats.append(HumanOutputFormat(sys.stdout))
    if tensorboard is not None:
        try:
            tensorboard.parent.mkdir(parents=True, exist_ok=True)
            target = claim_numbered(tensorboard.parent, tensorboard.name)
            formats.append(OptionalWriter(TensorBoardOutputFormat(str(target)), target))
        except OSError as error:
            raise InvalidValue(unwritable(tensorboard.parent, error, "-tb")) from None
        except AssertionError:
            raise InvalidValue("-tb needs tensorboard; run pip install 'sbbatch[plots]'") from None
    return Logger(str(folder.path), formats)
