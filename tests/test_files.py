"""Files are written whole or not at all, and a damaged one is refused in a sentence."""

import errno
import io
import os
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from sbbatch.errors import InvalidValue, UnwritableFile
from sbbatch.files import (
    atomic_write,
    check_zip,
    find_file,
    load_arrays,
    remove_abandoned,
    save_arrays,
    with_suffix,
)

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


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "m.zip"
    path.write_bytes(b"old")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["m.zip"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "ENOSPC"), "cannot write {}: no space is left on the device; free some space"),
        (OSError(errno.EDQUOT, "EDQUOT"), "cannot write {}: the disk quota is used up; free some space"),
        (OSError(errno.EIO, "Input/output error"), "cannot write {}: Input/output error"),
        (OSError("something else"), "cannot write {}: something else"),
    ],
)
def test_a_failed_first_write_leaves_no_file_and_is_named(tmp_path, error, sentence):
    def write_half():
        with atomic_write(tmp_path / "m.zip") as file:
            file.write(b"half")
            raise error

    with pytest.raises(UnwritableFile) as caught:
        write_half()
    assert str(caught.value) == sentence.format(tmp_path / "m.zip")
    assert isinstance(caught.value, OSError)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_and_a_name_that_is_too_long_are_told(tmp_path):
    (tmp_path / "file").touch()
    for name, reason in (("file/m.zip", "file is a file, not a folder"), ("x" * 300, "the name is too long")):
        with pytest.raises(UnwritableFile, match=f"cannot write .*: .*{reason}$"), atomic_write(tmp_path / name):
            pass


def killed_while_writing(path):
    code = f"import os; from sbbatch.files import *\nwith atomic_write(Path({str(path)!r})): os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    killed_while_writing(tmp_path / "m.zip")
    killed_while_writing(tmp_path / "other.zip")
    with atomic_write(tmp_path / "m.zip"):
        assert len(os.listdir(tmp_path)) == 2  # the other one and its own
    remove_abandoned(tmp_path)
    assert os.listdir(tmp_path) == ["m.zip"]


def test_what_somebody_is_writing_is_never_removed(tmp_path):
    (tmp_path / ".of another program.tmp").touch()
    with atomic_write(tmp_path / "m.zip") as first:
        first.write(b"first")
        remove_abandoned(tmp_path)
        with atomic_write(tmp_path / "m.zip") as second:
            second.write(b"second")
    remove_abandoned(tmp_path)
    assert (tmp_path / "m.zip").read_bytes() == b"first"
    assert sorted(os.listdir(tmp_path)) == [".of another program.tmp", "m.zip"]


def test_the_old_file_is_there_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "m.zip"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["m.zip"]


def test_missing_folders_are_made(tmp_path):
    path = tmp_path / "runs" / "dqn" / "m.zip"
    with atomic_write(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


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


@pytest.mark.parametrize("given", ["", ".", "..", "a/..", "/"])
def test_a_path_that_ends_in_no_name_is_refused(given):
    with pytest.raises(InvalidValue, match="expected the name of a file"):
        with_suffix(given, ".zip")


def test_a_file_is_found_with_and_without_its_suffix(archive):
    assert find_file(archive, ".zip", "model") == archive
    assert find_file(str(archive.with_suffix("")), ".zip", "model") == archive


def test_a_missing_file_is_named_as_it_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no such model file: .*nope$"):
        find_file(tmp_path / "nope", ".zip", "model")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder$"):
        find_file(tmp_path / "folder", ".zip", "model")


# ----------------------------------------------------------------------------------------------------------- checking


def test_a_sound_archive_passes(archive):
    check_zip(archive, "model")
    check_zip(io.BytesIO(archive.read_bytes()), "model")


def test_an_empty_file_is_called_empty(archive):
    archive.write_bytes(b"")
    assert "empty (0 bytes), expected a model file" in refusal_of(archive)


def test_a_web_page_is_shown_by_its_first_bytes(archive):
    archive.write_bytes(b"<html><head><title>404 Not Found</title>")
    assert "not a model file (it starts with b'<html>" in refusal_of(archive)


def test_a_file_cut_short_anywhere_is_refused(archive):
    whole = archive.read_bytes()
    for size in range(1, len(whole)):
        archive.write_bytes(whole[:size])
        message = refusal_of(archive)
        # one byte is not enough to recognise an archive
        assert f"truncated or damaged after {size} bytes" in message or size == 1


def test_an_archive_in_an_archive_does_not_hide_that_the_outer_one_was_cut_short(archive):
    inner = archive.read_bytes()  # as a model holds `.pth` files, which are archives themselves
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("policy.pth", inner)
        file.writestr("data", bytes(50))
    whole = archive.read_bytes()
    check_zip(archive, "model")
    for size in range(2, len(whole)):
        archive.write_bytes(whole[:size])
        assert f"truncated or damaged after {size} bytes" in refusal_of(archive)


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
        except InvalidValue as refusal:
            assert "\n" not in str(refusal)  # noqa: PT017 - most bits must be refused, some need not
            n_refused += 1
            continue
        with zipfile.ZipFile(io.BytesIO(damaged)) as file:  # a date, an attribute: what is read is what was written
            assert {name: file.read(name) for name in file.namelist()} == members
    # every bit of the contents: 20 stored bytes and the compressed ones
    assert n_refused > 8 * 20


def test_a_flipped_bit_of_the_contents_names_the_member(archive):
    damaged = bytearray(archive.read_bytes())
    damaged[bytes(damaged).index(bytes(range(20))) + 9] ^= 4
    archive.write_bytes(damaged)
    assert "the checksum of 'policy.pth' differs; use an older copy" in refusal_of(archive)


def test_a_damaged_open_file_is_refused_too(archive):
    with pytest.raises(InvalidValue, match=r"^the model file: not a model file, or cut short"):
        check_zip(io.BytesIO(archive.read_bytes()[:40]), "model")


@pytest.mark.filterwarnings("error")
def test_a_refusal_leaves_no_file_open(archive):
    archive.write_bytes(b"PK")
    refusal_of(archive)


# ------------------------------------------------------------------------------------------------------------- arrays


def test_nested_dictionaries_come_back_as_they_were(tmp_path):
    path = tmp_path / "buffer.npz"
    save_arrays(path, STATE)
    assert_same_tree(load_arrays(path, "replay buffer"), STATE)


def test_an_open_file_works_as_well(tmp_path):
    file = io.BytesIO()
    save_arrays(file, STATE)
    file.seek(0)
    assert_same_tree(load_arrays(file, "replay buffer"), STATE)
    with (tmp_path / "b").open("wb") as written:
        save_arrays(written, STATE)
    with (tmp_path / "b").open("rb") as read:
        assert_same_tree(load_arrays(read, "replay buffer"), STATE)


def test_a_failed_write_of_arrays_keeps_the_old_ones(tmp_path):
    path = tmp_path / "buffer.npz"
    save_arrays(path, STATE)
    with pytest.raises(TypeError, match="JSON"):
        save_arrays(path, {"cannot be written": object()})
    assert_same_tree(load_arrays(path, "replay buffer"), STATE)
    assert os.listdir(tmp_path) == ["buffer.npz"]


def test_nothing_is_ever_pickled(tmp_path):
    path = tmp_path / "buffer.npz"
    with pytest.raises(AssertionError, match="objects would be pickled"):
        save_arrays(path, {"a": np.array([object()])})
    assert not path.exists()
    save_arrays(path, STATE)
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_a_file_with_a_pickle_is_refused(tmp_path):
    path = tmp_path / "buffer.npz"
    tree = np.frombuffer(b'{"a": ["array0"]}', dtype=np.uint8)
    np.savez(path, tree=tree, array0=np.array([{"run": "me"}], dtype=object))
    with pytest.raises(InvalidValue, match=r"buffer\.npz: not a replay buffer file of sbbatch"):
        load_arrays(path, "replay buffer")


@pytest.mark.parametrize("arrays", [{"a": np.ones(3)}, {"tree": np.ones(3)}, {"tree": np.frombuffer(b"{", np.uint8)}])
def test_an_archive_of_something_else_is_refused(tmp_path, arrays):
    path = tmp_path / "other.npz"
    np.savez(path, **arrays)
    with pytest.raises(InvalidValue, match=r"other\.npz: not a replay buffer file of sbbatch"):
        load_arrays(path, "replay buffer")


def test_a_model_file_is_not_a_replay_buffer(archive):
    with pytest.raises(InvalidValue, match="not a replay buffer file of sbbatch"):
        load_arrays(archive, "replay buffer")


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
