"""The entry point of the command line, outside the package: importing PyTorch takes seconds, and Ctrl-C comes early."""

from __future__ import annotations

import sys


def main(*words: str) -> int:
    """
    ``sbbatch ...``.

    :param words: what comes before the words of the command line, e.g. ``"train"``
    :return: exit code
    """
    try:
        from sbbatch.zoo.cli import main as command
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return command([*words, *sys.argv[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
