"""Train, tune, play, record and plot: what ``sbbatch`` does at the command line, as functions."""

from __future__ import annotations


def register(replace: bool = False) -> list[str]:
    """See :func:`sbbatch.zoo.rl_zoo3.register`; rl_zoo3 is imported when this is called and not before."""
    from sbbatch.zoo import rl_zoo3

    return rl_zoo3.register(replace)
