"""Where SB3's logger writes: tables, TensorBoard, and a file that goes on when its run does."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write
from sbbatch.zoo.run.callbacks import LenientWriter
from sbbatch.zoo.logs.folders import RunFolder, claim_numbered, folder_name, unwritable
from sbbatch.zoo.logs.kept_logs import kept_table
from sbbatch.zoo.run.request import Request


class ContinuedCSV(CSVOutputFormat):
    """
    SB3's table after the rows that it already has; those later than the model that goes on are dropped.

    :param path: a ``progress.csv``
    :param steps: agent steps of the model
    """

    def __init__(self, path: Path, steps: int) -> None:
        kept, columns = kept_table(path, steps)
        with atomic_write(path) as file:
            file.write(kept.encode())
        # Not SB3's constructor, which would empty the file.
        self.file = path.open("r+", encoding="utf-8", newline="\n")
        self.file.seek(0, os.SEEK_END)
        self.keys = columns
        self.separator, self.quotechar = ",", '"'


def make_logger(request: Request, folder: RunFolder, more: list[KVWriter]) -> Logger:
    """
    SB3's logger: ``progress.csv``, TensorBoard if asked for, tables if there is no progress bar.

    :param request: the run
    :param folder: its folder
    :param more: further formats
    """
    table = folder.path / "progress.csv"
    goes_on = request.resumption
    own = CSVOutputFormat(str(table)) if goes_on is None else ContinuedCSV(table, goes_on.steps)
    formats: list[KVWriter] = [LenientWriter(own, table)]
    if request.args.verbose > 1 or (request.args.verbose == 1 and not request.shows_progress):
        formats.append(HumanOutputFormat(sys.stdout))
    if request.args.tensorboard_log is not None:
        formats.append(_tensorboard(request))
    return Logger(str(folder.path), [*formats, *more])


def _tensorboard(request: Request) -> KVWriter:
    parent = request.args.tensorboard_log / folder_name(request.env_id)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        target = claim_numbered(parent, request.args.algo.upper())
    except OSError as error:
        raise InvalidValue(unwritable(parent, error, "-tb")) from None
    try:
        return LenientWriter(TensorBoardOutputFormat(str(target)), target)
    except AssertionError:
        raise InvalidValue("-tb needs tensorboard; run pip install 'sbbatch[plots]'") from None
