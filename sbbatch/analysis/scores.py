"""From raw returns to scores that can be compared between games."""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from sbbatch.errors import InvalidValue

Scores = TypeVar("Scores", float, np.ndarray)


class Scaled(Protocol):
    """
    A game with the raw returns of a random policy and of a human (``None``: nobody published one), which its scale is
    made of; ``sbbatch.settings.games.Game`` is one.
    """

    @property
    def name(self) -> str: ...
    @property
    def random(self) -> float: ...
    @property
    def human(self) -> float | None: ...


class Scale(NamedTuple):
    """
    A scale of one's own.

    :param name: what to call it in messages
    :param random: raw return of a uniformly random policy
    :param human: raw return of a human player
    """

    name: str
    random: float
    human: float


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
        raise InvalidValue(
            f"{game.name} has no published human score, so there is no human-normalised one; leave it out of the "
            "average, and say so beside it"
        )
    span = game.human - game.random
    if span == 0 or not np.isfinite(span):
        raise InvalidValue(f"{game.name}: got {game.random:g} and {game.human:g}, expected two different finite scores")
    return (score - game.random) / span
