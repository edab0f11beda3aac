"""Nobody listens any more: the run goes on all the same."""

import io
import os
import sys

import pytest

from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.cli import guarded

SHORT = ["--algo", "dqn", "-n", "200", "--seed", "0", "--num-threads", "1", "--eval-freq", "100"]
PARAMS = ["-params", "learning_starts:100", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]


def without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


def full_disk():
    return open("/dev/full", "w")


def ascii_only():
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (lambda: None, ""),
        (closed, ""),
        (ascii_only, ""),
        (without_reader, "standard output is lost ([Errno 32] Broken pipe); going on without it"),
        (full_disk, "standard output is lost ([Errno 28] No space left on device); going on without it"),
    ],
)
def test_a_lost_output_does_not_end_a_run(tmp_path, capsys, monkeypatch, stream, told):
    monkeypatch.setattr(sys, "stdout", stream())
    assert train.main([*SHORT, "-f", str(tmp_path), "--no-progress", *PARAMS]) == 0
    assert (tmp_path / "dqn/CartPole-v1_1/CartPole-v1.zip").exists()
    text = capsys.readouterr().err
    assert told in text
    assert text.count("warning") == bool(told)


def test_what_is_lost_at_the_very_end_is_told_too(capsys, monkeypatch):
    before = without_reader()
    monkeypatch.setattr(sys, "stdout", before)
    assert guarded(lambda argv=None: print("a line that is only buffered") or 0)() == 0
    assert sys.stdout is before
    assert "standard output is lost" in capsys.readouterr().err
    before.close()  # nothing is left that could fail
