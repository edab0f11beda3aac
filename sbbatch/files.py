"""Files that are never half written, and sentences for files that cannot be read."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sbbatch.errors import InvalidType, InvalidValue, UnwritableFile, describe

try:
    import fcntl
except ImportError:  # Windows, which does not open folders either: see _folder_lock
    fcntl = None  # type: ignore[assignment]

# Not just ".tmp": a folder may hold those of other programs.
_UNFINISHED = ".sbbatch-tmp"

PathOrFile = str | os.PathLike[str] | io.BufferedIOBase


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """
    Write a file so that at any instant either the old or the whole new one is there.

    The bytes go to a temporary file in the same folder, are flushed to disk, and take the place of the old file in one
    rename. Nothing of a failed write stays behind, and what a killed one left is removed by the next.

    :param path: the file; its folder is made if it is missing
    :raises UnwritableFile: it cannot be written; the old file is still there
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent, path.name)
        with _folder_lock(path.parent, alone=False), _replacing(path) as file:
            yield file
    except OSError as error:
        raise unwritable_file(path, error) from error


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_UNFINISHED, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp's 0600 would lock out colleagues
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_abandoned(folder: Path, name: str = "") -> None:
    """
    Remove what killed writers left unfinished; a folder in which anybody writes at the moment is left alone.

    :param folder: an existing folder
    :param name: how the name of the file that was to be written begins
    """
    with _folder_lock(folder, alone=True) as locked:
        for path in folder.iterdir() if locked else ():
            if path.name.startswith(f".{name}") and path.name.endswith(_UNFINISHED):
                with suppress(OSError):  # somebody else's, or in a folder that is only read: it does no harm
                    path.unlink()


@contextmanager
def _folder_lock(folder: Path, alone: bool) -> Iterator[bool]:
    """
    Writers share this lock, so whoever gets it alone knows that none of them is alive: it falls with its process.

    Yields whether it was got. Where there are no locks nobody gets it, and nothing is ever removed.
    """
    handle = None
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
        locked = True
    except OSError:
        locked = False
    try:
        yield locked
    finally:
        if handle is not None:
            os.close(handle)


def why_unwritable(path: Path, error: OSError) -> str:
    """
    What the operating system means, in plain words.

    :param path: what was to be written
    :param error: what it said
    """
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{_file_on_the_way(path)} is a file, not a folder"
    reasons = {
        errno.EROFS: "the file system is read-only",
        errno.ENOSPC: "no space is left on the device",
        errno.EDQUOT: "the disk quota is used up",
        errno.EACCES: "permission denied",
        errno.ENAMETOOLONG: "the name is too long",
    }
    return reasons.get(error.errno or 0, error.strerror or str(error))


def unwritable_file(path: Path, error: OSError) -> UnwritableFile:
    """
    The one sentence about a file that could not be written.

    :param path: the file
    :param error: what the operating system said
    """
    if isinstance(error, UnwritableFile):
        return error
    remedy = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return UnwritableFile(f"cannot write {path}: {why_unwritable(path, error)}{remedy}")


def _file_on_the_way(path: Path) -> Path:
    """The first part of a path that exists and is not a folder."""
    for part in [*reversed(path.absolute().parents), path]:
        if part.exists() and not part.is_dir():
            return part
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def with_suffix(path: str | os.PathLike[str], suffix: str) -> Path:
    """
    SB3's habit: a path without a suffix gets one.

    :param path: as the user wrote it
    :param suffix: e.g. ``".zip"``
    :raises InvalidType: no path
    :raises InvalidValue: a path that ends in no name
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidType(f"file: got {describe(path)}, expected a path or an open binary file")
    if Path(path).name in ("", ".."):
        raise InvalidValue(f"file: got '{os.fspath(path)}', expected the name of a file, e.g. name{suffix}")
    path = Path(path)
    return path if path.suffix else path.with_name(path.name + suffix)


def output_file(path: Path, *suffixes: str) -> Path:
    """
    A file that is to be written; what its name promises must be what is in it.

    :param path: as the user wrote it; without a suffix it gets the first
    :param suffixes: those there are, e.g. ``".png"``
    :raises InvalidValue: it has another
    """
    path = with_suffix(path, suffixes[0])
    if path.suffix.lower() not in suffixes:
        raise InvalidValue(f"cannot write {path}: got the suffix '{path.suffix}', expected {' or '.join(suffixes)}")
    return path


def find_file(path: str | os.PathLike[str], suffix: str, what: str) -> Path:
    """
    :param path: as the user wrote it, with or without the suffix
    :param suffix: e.g. ``".zip"``
    :param what: for the message, e.g. ``"model"``
    :raises FileNotFoundError: neither exists; the message names the path that was asked for
    :raises InvalidType: no path
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidType(f"{what} file: got {describe(path)}, expected a path or an open binary file")
    for candidate in (Path(path), Path(f"{path}{suffix}")):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no such {what} file: {path}")


def check_zip(file: Path | BinaryIO | io.BufferedIOBase, what: str) -> None:
    """
    Say what is wrong with a damaged archive; every member is compared with its checksum.

    :param file: path or open file
    :param what: for the message, e.g. ``"model"``
    :raises InvalidValue: not an archive, cut short, or a member whose checksum differs
    """
    name = str(file) if isinstance(file, Path) else f"the {what} file"
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
            n_found, n_written = len(archive.namelist()), _n_members(archive)
    except (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError) as error:  # whatever a wrong bit leads to
        raise InvalidValue(f"{name}: {_what_it_is(file, what)}") from error
    except zipfile.zlib.error as error:  # type: ignore[attr-defined]
        raise InvalidValue(f"{name}: damaged, a compressed part cannot be read") from error
    if damaged is not None:
        raise InvalidValue(f"{name}: damaged, the checksum of '{damaged}' differs; use an older copy")
    if n_found != n_written:
        raise InvalidValue(f"{name}: damaged, {n_found} of {n_written} members found; use an older copy")


def _n_members(archive: zipfile.ZipFile) -> int:
    """
    How many members the end of an archive promises; zipfile overlooks those behind a damaged length field, and takes
    the end of an archive inside the archive (a ``.pth``) for its own where the file was cut short.
    """
    assert archive.fp is not None
    archive.fp.seek(-len(archive.comment) - 22, os.SEEK_END)
    end = archive.fp.read(22)
    first = min((member.header_offset for member in archive.infolist()), default=0)
    if first != 0 or not end.startswith(b"PK\5\6"):
        raise zipfile.BadZipFile("the archive does not begin and end where the file does")
    return int.from_bytes(end[10:12], "little")


def _what_it_is(file: Path | BinaryIO | io.BufferedIOBase, what: str) -> str:
    if not isinstance(file, Path):
        return f"not a {what} file, or cut short"
    with file.open("rb") as stream:
        start, size = stream.read(16), file.stat().st_size
    if not start:
        return f"empty (0 bytes), expected a {what} file"
    if start.startswith(b"PK"):
        return f"truncated or damaged after {size} bytes, no end of the archive found; use an older copy"
    return f"not a {what} file (it starts with {start!r})"


def save_arrays(path: PathOrFile, state: dict[str, Any], suffix: str = ".npz") -> None:
    """
    Write nested dictionaries of arrays and numbers as one archive of plain arrays; no pickle.

    :param path: file (written atomically) or open file
    :param state: strings as keys; values are arrays, numbers, strings, ``None`` or further dictionaries
    :param suffix: added to a path that has none
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _detach_arrays(state, arrays, "")
    arrays["tree"] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
    if isinstance(path, io.BufferedIOBase):
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return
    with atomic_write(with_suffix(path, suffix)) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load_arrays(path: PathOrFile, what: str, suffix: str = ".npz") -> dict[str, Any]:
    """
    :param path: file or open file that :func:`save_arrays` wrote
    :param what: for messages, e.g. ``"replay buffer"``
    :param suffix: tried if there is no file of the given name
    :raises FileNotFoundError: no such file
    :raises InvalidValue: damaged, or something else
    """
    file = path if isinstance(path, io.BufferedIOBase) else find_file(path, suffix, what)
    check_zip(file, what)
    if isinstance(file, io.BufferedIOBase):
        file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        try:
            return _attach_arrays(json.loads(arrays["tree"].tobytes()), arrays)
        except (KeyError, ValueError) as error:  # no table of contents, or an array that would need pickle
            name = str(file) if isinstance(file, Path) else "the file"
            raise InvalidValue(f"{name}: not a {what} file of sbbatch") from error


def _detach_arrays(value: Any, arrays: dict[str, np.ndarray], name: str) -> Any:
    if isinstance(value, dict):
        return {key: _detach_arrays(item, arrays, f"{name}/{key}") for key, item in value.items()}
    if isinstance(value, np.ndarray):
        assert not value.dtype.hasobject, f"{name}: objects would be pickled"
        member = f"array{len(arrays)}"
        arrays[member] = value
        return [member]  # no other value is a list, while a dictionary may have any keys
    if isinstance(value, np.generic):
        return value.item()
    return value


def _attach_arrays(tree: Any, arrays: Any) -> Any:
    if isinstance(tree, list):
        return arrays[tree[0]]
    if isinstance(tree, dict):
        return {key: _attach_arrays(item, arrays) for key, item in tree.items()}
    return tree
