"""From raw returns to scores that can be compared between games."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from sbbatch.errors import InvalidValue

Scores = TypeVar("Scores", float, np.ndarray)


class Scaled(Protocol):
    """A game with published raw returns (``None``: nobody did); ``sbbatch.settings.games.Game`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def random(self) -> float: ...
    @property
    def human(self) -> float | None: ...


class Scale(NamedTuple):
    """A scale of one's own."""

    name: str  # what to call it in messages
    random: float  # raw return of a uniformly random policy
    human: float  # raw return of a human player


def human_normalized(game: Scaled, score: Scores) -> Scores:
    """
    The human-normalised score: 0 plays like chance, 1 like a human; it is not clipped. Normalise each run of each game
    before anything is averaged.

    :param game: what was played
    :param score: raw return of whole games, or an array of them
    :return: ``(score - random) / (human - random)``
    :raises InvalidValue: the game has no scale
    """
    if game.human is None:
        raise InvalidValue(f"{game.name} has no published human score; leave it out of the average, and say so")
    span = game.human - game.random
    if span == 0 or not np.isfinite(span):
        raise InvalidValue(f"{game.name}: got {game.random:g} and {game.human:g}, expected two different finite scores")
    return (score - game.random) / span
