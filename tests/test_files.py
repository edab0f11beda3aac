"""Files are written whole or not at all, and a damaged one is refused in a sentence."""

import errno
import io
import os
import stat
import zipfile

import numpy as np
import pytest

from sbbatch.errors import InvalidValue, UnwritableFile
from sbbatch.files import atomic_write, check_zip, find_file, load_arrays, save_arrays, with_suffix

STATE = {
    "frames": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "empty": np.zeros((0, 5), dtype=np.float32),
    "scalar": np.float32(0.5),
    "sampler": {"priorities": np.linspace(0, 1, 5), "largest": 1.5, "n_stored": 7},
    "rng": {"bit_generator": "PCG64", "state": {"state": 2**127 + 1, "inc": 3}, "has_uint32": 0},
    "flags": {"on": True, "off": False, "none": None},
    "memories": {"": {"array": np.array([1, 2])}, "array": {"array": {"array": np.array([3.0])}}},
    "nothing": {},
}


def assert_same_tree(given, expected):
    assert type(given) is type(expected) or isinstance(expected, np.generic)
    if isinstance(expected, dict):
        assert given.keys() == expected.keys()
        for key in expected:
            assert_same_tree(given[key], expected[key])
    elif isinstance(expected, np.ndarray):
        assert given.dtype == expected.dtype
        np.testing.assert_array_equal(given, expected)
    else:
        assert given == expected


@pytest.fixture
def archive(tmp_path):
    """A small archive of two members: one stored, one compressed."""
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", '{"batch_size": 8}' * 10, zipfile.ZIP_DEFLATED)
        file.writestr("policy.pth", bytes(range(20)), zipfile.ZIP_STORED)
    return path


def refusal_of(path, what="model"):
    with pytest.raises(InvalidValue) as refusal:
        check_zip(path, what)
    message = str(refusal.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


# ------------------------------------------------------------------------------------------------------------ writing


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "m.zip"
    path.write_bytes(b"old")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"half of the new")
            raise error

    with pytest.raises((KeyboardInterrupt, UnwritableFile)):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.zip"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.zip"
    path.write_bytes(b"old")
    process = os.fork()
    if process == 0:
        with atomic_write(path) as file:
            file.write(b"half of the new")
            file.flush()
            os.kill(os.getpid(), 9)
    os.waitpid(process, 0)
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "runs" / "dqn" / "m.zip"  # folders are made
    with atomic_write(path) as file:
        file.write(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["m.zip"]


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    for name, reason in (("file/m.zip", "file is a file, not a folder"), ("x" * 300, "name too long")):
        with pytest.raises(UnwritableFile, match=f"cannot write .*: .*{reason}$"), atomic_write(tmp_path / name):
            pass


def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").write_bytes(b"")
    with atomic_write(tmp_path / "m.zip") as file:
        file.write(b"new")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "m.zip")}
    assert len(modes) == 1


@pytest.mark.parametrize(
    ("given", "expected"), [("m", "m.zip"), ("m.zip", "m.zip"), ("m.best", "m.best"), ("a.b/m", "a.b/m.zip")]
)
def test_a_path_without_a_suffix_gets_one(given, expected):
    assert str(with_suffix(given, ".zip")) == expected


@pytest.mark.parametrize("given", ["", "a/.."])
def test_a_path_that_ends_in_no_name_is_refused(given):
    with pytest.raises(InvalidValue):
        with_suffix(given, ".zip")


def test_a_file_is_found_with_and_without_its_suffix(archive):
    assert find_file(archive, ".zip", "model") == archive
    assert find_file(str(archive.with_suffix("")), ".zip", "model") == archive
    with pytest.raises(FileNotFoundError, match=r"^no such model file: .*nope$"):
        find_file(archive.parent / "nope", ".zip", "model")


# ----------------------------------------------------------------------------------------------------------- checking


def test_a_sound_archive_passes(archive):
    check_zip(archive, "model")
    check_zip(io.BytesIO(archive.read_bytes()), "model")


def test_another_file_is_shown_by_its_first_bytes(archive):
    archive.write_bytes(b"<html><head><title>404 Not Found</title>")
    assert "it starts with b'<html>" in refusal_of(archive)


@pytest.mark.filterwarnings("error")
def test_a_file_cut_short_anywhere_is_refused_and_closed(archive):
    whole = archive.read_bytes()
    for size in range(2, len(whole)):
        archive.write_bytes(whole[:size])
        assert "truncated" in refusal_of(archive)


def test_a_flipped_bit_is_refused_or_harmless(archive):
    whole = archive.read_bytes()
    with zipfile.ZipFile(archive) as file:
        members = {name: file.read(name) for name in file.namelist()}
    n_refused = 0
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            check_zip(io.BytesIO(damaged), "model")
        except InvalidValue:
            n_refused += 1
            continue
        with zipfile.ZipFile(io.BytesIO(damaged)) as file:  # a date, an attribute, a name: the contents are as written
            assert {file.read(name) for name in file.namelist()} <= set(members.values())
    # every bit of the contents: 20 stored bytes and the compressed ones
    assert n_refused > 8 * 20


# ------------------------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("kind", ["path", "memory", "file"])
def test_nested_dictionaries_come_back_as_they_were(tmp_path, kind):
    path = tmp_path / "buffer.npz"
    if kind == "path":
        save_arrays(tmp_path / "buffer", STATE)
        assert_same_tree(load_arrays(path, "replay buffer"), STATE)
        return
    with io.BytesIO() if kind == "memory" else path.open("w+b") as file:
        save_arrays(file, STATE)
        file.seek(0)
        assert_same_tree(load_arrays(file, "replay buffer"), STATE)


def test_a_failed_write_of_arrays_keeps_the_old_ones(tmp_path):
    path = tmp_path / "buffer.npz"
    save_arrays(path, STATE)
    with pytest.raises(TypeError, match="JSON"):
        save_arrays(path, {"cannot be written": object()})
    assert_same_tree(load_arrays(path, "replay buffer"), STATE)


def test_nothing_is_ever_pickled(tmp_path):
    path = tmp_path / "buffer.npz"
    with pytest.raises(AssertionError, match="objects would be pickled"):
        save_arrays(path, {"a": np.array([object()])})
    assert not path.exists()


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": np.ones(3)},
        {"tree": np.frombuffer(b"{", np.uint8)},
        {"tree": np.frombuffer(b'{"a": ["array0"]}', np.uint8), "array0": np.array([{"run": "me"}], dtype=object)},
    ],
    ids=["no tree", "no JSON", "a pickle"],
)
def test_an_archive_of_something_else_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(InvalidValue, match=r"other\.npz: not a replay buffer file of sbbatch"):
        load_arrays(tmp_path / "other", "replay buffer")


def test_a_flipped_bit_of_saved_arrays_is_refused_or_harmless(tmp_path):
    path = tmp_path / "buffer.npz"
    small = {"a": np.arange(5), "n": {"x": 1.5}}
    save_arrays(path, small)
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 5):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            loaded = load_arrays(io.BytesIO(damaged), "replay buffer")
        except InvalidValue:
            continue
        assert_same_tree(loaded, small)
