"""Files that are never half written, and one sentence for a file that cannot be read."""

from __future__ import annotations

import csv
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np

from sbbatch.errors import InvalidType, InvalidValue, UnwritableFile, describe

PathOrFile = str | os.PathLike[str] | io.BufferedIOBase


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """
    Write a file so that at any instant either the old or the whole new one is there.

    :param path: the file; its folder is made if it is missing
    :raises UnwritableFile: it cannot be written; the old file is still there
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable_file(path, error) from error


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], comment: str = "") -> None:
    """Write a table with :func:`atomic_write`, ``comment`` before the header."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    with atomic_write(path) as file:
        file.write((comment + text.getvalue()).encode())


def open_to_write(path: PathOrFile, suffix: str) -> AbstractContextManager[Any]:
    """An open file as it is, or one that :func:`atomic_write` opens, with ``suffix`` if the path has none."""
    return nullcontext(path) if isinstance(path, io.BufferedIOBase) else atomic_write(with_suffix(path, suffix))


def why_unwritable(path: Path, error: OSError) -> str:
    """What the operating system says; it does not say which part of a path is a file."""
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{next(part for part in (path, *path.absolute().parents) if part.exists())} is a file, not a folder"
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def unwritable_file(path: Path, error: OSError) -> UnwritableFile:
    """The one sentence about a file that could not be written."""
    if isinstance(error, UnwritableFile):
        return error
    return UnwritableFile(f"cannot write {path}: {why_unwritable(path, error)}")


def _as_path(path: object, what: str) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidType(f"{what}: got {describe(path)}, expected a path or an open binary file")
    return Path(path)


def with_suffix(path: str | os.PathLike[str], suffix: str) -> Path:
    """A path, with ``suffix`` if it has none, as SB3 does."""
    file = _as_path(path, "file")
    if file.name in ("", ".."):
        raise InvalidValue(f"file: got '{os.fspath(path)}', expected the name of a file, e.g. name{suffix}")
    return file if file.suffix else file.with_name(file.name + suffix)


def output_file(path: Path, *suffixes: str) -> Path:
    """As :func:`with_suffix`, and no other suffix will do."""
    path = with_suffix(path, suffixes[0])
    if path.suffix.lower() not in suffixes:
        raise InvalidValue(f"cannot write {path}: got the suffix '{path.suffix}', expected {' or '.join(suffixes)}")
    return path


def find_file(path: str | os.PathLike[str], suffix: str, what: str) -> Path:
    """A file that exists, written with or without the suffix; ``what`` it is for the message, e.g. ``"model"``."""
    for candidate in (_as_path(path, f"{what} file"), Path(f"{path}{suffix}")):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no such {what} file: {path}")


def check_zip(file: Path | BinaryIO | io.BufferedIOBase, what: str) -> None:
    """Compare every member of an archive with its checksum; ``what`` it is for the message, e.g. ``"model"``."""
    name = str(file) if isinstance(file, Path) else f"the {what} file"
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except Exception as error:  # a wrong bit leads zipfile and zlib to half a dozen of them
        start = file.read_bytes()[:16] if isinstance(file, Path) else b"PK"
        seems = "damaged or truncated; use an older copy" if start.startswith(b"PK") else f"it starts with {start!r}"
        raise InvalidValue(f"{name}: not a {what} file, {seems}") from error
    if damaged is not None:
        raise InvalidValue(f"{name}: damaged, the checksum of '{damaged}' differs; use an older copy")


def save_arrays(path: PathOrFile, state: dict[str, Any]) -> None:
    """
    Write nested dictionaries as one archive of plain arrays; no pickle.

    :param path: file (written atomically; ``.npz`` is added if it has no suffix) or open file
    :param state: strings as keys; values are arrays, numbers, strings, ``None`` or further dictionaries
    """
    arrays: dict[str, Any] = {}

    def detach(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: detach(item) for key, item in value.items()}
        if isinstance(value, np.ndarray):
            assert not value.dtype.hasobject, "objects would be pickled"
            member = f"array{len(arrays)}"
            arrays[member] = value
            return [member]  # no other value is a list, while a dictionary may have any keys
        return value.item() if isinstance(value, np.generic) else value

    tree = json.dumps(detach(state))
    with open_to_write(path, ".npz") as file:
        np.savez(file, **arrays, tree=np.frombuffer(tree.encode(), dtype=np.uint8))


def load_arrays(path: PathOrFile, what: str) -> dict[str, Any]:
    """What :func:`save_arrays` wrote; ``what`` it is for messages, e.g. ``"replay buffer"``."""
    file = path if isinstance(path, io.BufferedIOBase) else find_file(path, ".npz", what)
    check_zip(file, what)
    if isinstance(file, io.BufferedIOBase):
        file.seek(0)

    def attach(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {key: attach(item) for key, item in tree.items()}
        return arrays[tree[0]] if isinstance(tree, list) else tree

    with np.load(file, allow_pickle=False) as arrays:
        try:
            return attach(json.loads(arrays["tree"].tobytes()))
        except (KeyError, ValueError) as error:  # no table of contents, or an array that would need pickle
            name = str(file) if isinstance(file, Path) else "the file"
            raise InvalidValue(f"{name}: not a {what} file of sbbatch") from error
