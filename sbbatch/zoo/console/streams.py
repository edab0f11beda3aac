"""Standard output and error whose loss does not end a run: a model is worth more than what is said about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class LastingStream:
    """
    A standard stream that goes on as if nothing had happened when nobody takes what is written: a reader such as
    ``head`` that has left, a full disk, a terminal that was closed, or none at all.

    :param stream: ``sys.stdout`` or ``sys.stderr``
    :param name: for the message, which goes to the other one
    """

    def __init__(self, stream: TextIO | None, name: str) -> None:
        # Python has no stream at all where the shell closed it (`>&-`).
        self._stream = _nowhere() if stream is None or stream.closed else stream
        self._name = name
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="backslashreplace")  # a terminal without '±' is no reason to stop either

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As a file's; what cannot be written is dropped, which is told once."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError) as error:  # ValueError: closed by somebody in this process
            return self._lose(error)

    def flush(self) -> None:
        """As a file's."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> int:
        lost, self._stream = self._stream, _nowhere()
        # Its buffer is still full, and would fail once more when Python ends.
        with suppress(OSError, ValueError):  # it has no descriptor: not a real file, or closed
            os.dup2(self._stream.fileno(), lost.fileno())
        if self._name != "standard error":
            print(f"sbbatch: warning: {self._name} is lost ({error}); going on without it", file=sys.stderr)
        return 0


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Put :class:`LastingStream` in the place of standard output and error for a while."""
    before = sys.stdout, sys.stderr
    if isinstance(before[0], LastingStream):
        yield
        return
    out, err = LastingStream(sys.stdout, "standard output"), LastingStream(sys.stderr, "standard error")
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        out.flush()  # what is lost in here is still told
        err.flush()
        sys.stdout, sys.stderr = before
