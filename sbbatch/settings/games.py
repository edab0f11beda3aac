"""What is known about an Atari game: its ids, sets and scores, and settings of its own, one file a game.

The files are ``hyperparams/atari/<Game>.yml``, for the 60 games of the small-batch paper and two more of the usual 57.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sbbatch.arguments import declared
from sbbatch.envs.atari import require_atari_game
from sbbatch.errors import InvalidValue, check_names, did_you_mean
from sbbatch.settings.reader import hyperparams_folder, read_yaml

# Which games a set has, says each game's file. atari20, atari60: the small-batch paper; atari26: Atari 100k; atari57:
# the games with a human score that most papers average over.
GAME_SETS = ("atari20", "atari26", "atari57", "atari60")


@dataclass(frozen=True)
class Game:
    """
    The facts about one game.

    :param name: as Gymnasium writes it, e.g. ``MsPacman``
    :param ale_id: its id in Gymnasium
    :param noframeskip_id: its id without sticky actions and frame skip (``None``: there is none)
    :param rom: as ale-py writes it, e.g. ``ms_pacman``
    :param sets: those of :data:`GAME_SETS` it belongs to
    :param random: raw return of a uniformly random policy
    :param random_source: who says so
    :param human: raw return of a human player (``None``: nobody published one)
    :param human_source: who says so
    :param overrides: agent -> settings that it should have in this game alone
    """

    name: str
    ale_id: str
    noframeskip_id: str | None
    rom: str
    sets: list[str]
    random: float
    random_source: str
    human: float | None
    human_source: str | None
    overrides: dict[str, dict[str, Any]]


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


def overrides_of(algo: str, game: str) -> tuple[str, dict[str, Any]]:
    """
    The settings that an agent should have in one game alone.

    :param algo: name of the algorithm
    :param game: the game's name
    :return: where they are written, and the settings; empty if the game has no file or none for the agent
    """
    path = hyperparams_folder() / "atari" / f"{game}.yml"
    overrides = read_game(path).overrides if path.exists() else {}
    return f"hyperparams/atari/{path.name} overrides {algo}", dict(overrides.get(algo, {}))


def read_game(path: Path) -> Game:
    """
    Read the file of a game; nothing may be missing, and nothing may be there that has no meaning.

    :param path: ``<Game>.yml``
    :raises UserError: no such file, an unknown or missing key, a value of the wrong type
    """
    shown = f"hyperparams/atari/{path.name}"
    content, known = read_yaml(path, shown), declared(Game)
    check_names(shown, content, known)
    for name in known:
        if name not in content:
            raise InvalidValue(f"{shown}: missing key {name}")
    return Game(**{name: known[name].check(value, f"{shown} {name}") for name, value in content.items()})
