"""
What is known about an Atari game: its ids, sets and scores, and settings of its own, ``hyperparams/atari/<Game>.yml``.
There are the 60 games of the small-batch paper and two more of the usual 57.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sbbatch.arguments import check_arguments, declared
from sbbatch.envs.atari import require_atari_game
from sbbatch.errors import InvalidValue, check_names, did_you_mean
from sbbatch.settings.reader import hyperparams_folder, read_yaml

# Which games a set has, says each game's file. atari20, atari60: the small-batch paper; atari26: Atari 100k; atari57:
# the games with a human score that most papers average over.
GAME_SETS = ("atari20", "atari26", "atari57", "atari60")


@dataclass(frozen=True)
class Game:
    """The facts about one game."""

    name: str  # as Gymnasium writes it, e.g. MsPacman
    ale_id: str  # in Gymnasium
    noframeskip_id: str | None  # likewise, without sticky actions and frame skip, if there is such an id
    rom: str  # as ale-py writes it, e.g. ms_pacman
    sets: list[str]  # those of GAME_SETS it belongs to
    random: float  # raw return of a uniformly random policy
    random_source: str  # who says so
    human: float | None  # raw return of a human player, if anybody published one
    human_source: str | None
    overrides: dict[str, dict[str, Any]]  # agent -> settings that it should have in this game alone


def find_game(name: str) -> Game:
    """
    A game by its name.

    :param name: any spelling, e.g. ``"Breakout"``, ``"ALE/Breakout-v5"``, ``"ms_pacman"``
    :raises InvalidValue: no Atari game, or one without a file
    """
    game = require_atari_game(name)
    if game not in games():
        raise InvalidValue(f"no facts about {game}: it is none of the {len(games())} games of hyperparams/atari")
    return games()[game]


@lru_cache(maxsize=1)
def games() -> dict[str, Game]:
    """All games that have a file, by name, in alphabetical order."""
    return {path.stem: read_game(path) for path in sorted((hyperparams_folder() / "atari").glob("*.yml"))}


def game_set(name: str) -> tuple[str, ...]:
    """
    The names of the games of a set, in alphabetical order.

    :param name: one of :data:`GAME_SETS`
    :raises InvalidValue: no such set
    """
    if name not in GAME_SETS:
        raise InvalidValue(f"unknown set of games '{name}'{did_you_mean(name, GAME_SETS)}")
    return tuple(game.name for game in games().values() if name in game.sets)


def read_game(path: Path) -> Game:
    """Read ``<Game>.yml``; nothing may be missing, and nothing may be there that has no meaning."""
    shown = f"hyperparams/atari/{path.name}"
    content, known = read_yaml(path, shown), declared(Game)
    check_names(shown, content, known)
    if missing := set(known) - set(content):
        raise InvalidValue(f"{shown}: missing key {', '.join(sorted(missing))}")
    return Game(**check_arguments(Game, content, f"{shown} "))
