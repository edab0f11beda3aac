"""What is known about an Atari game: its ids, sets and scores, and settings of its own, one file a game.

The files are ``hyperparams/atari/<Game>.yml``, for the 60 games of the small-batch paper and two more of the usual 57.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import sbbatch
from sbbatch.envs.atari import require_atari_game
from sbbatch.errors import InvalidType, InvalidValue, check_names, check_number, describe, did_you_mean
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
    sets: tuple[str, ...]
    random: float
    random_source: str
    human: float | None
    human_source: str | None
    overrides: Mapping[str, Mapping[str, Any]]


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
    paths = sorted((hyperparams_folder() / "atari").glob("*.yml"))
    return {path.stem: read_game(path, shown_name(path)) for path in paths}


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
    shown = shown_name(path)
    overrides = read_game(path, shown).overrides if path.exists() else {}
    return f"{shown} overrides {algo}", dict(overrides.get(algo, {}))


def shown_name(path: Path) -> str:
    """
    How messages call the file of a game.

    :param path: the file
    """
    return f"hyperparams/atari/{path.name}"


def read_game(path: Path, shown: str | None = None) -> Game:
    """
    Read the file of a game; nothing may be missing, and nothing may be there that has no meaning.

    :param path: ``<Game>.yml``
    :param shown: the file's name in messages
    :raises UserError: no such file, an unknown or missing key, a value of the wrong type
    """
    shown = shown or str(path)
    content = read_yaml(path, shown)
    names = [field.name for field in fields(Game)]
    check_names(shown, content, names)
    for name in names:
        if name not in content:
            raise InvalidValue(f"{shown}: missing key {name}")
    _check_texts(shown, content)
    if content["name"] != path.stem:
        raise InvalidValue(f"{shown} name: got '{content['name']}', expected the file's own name '{path.stem}'")
    random, human = _scores(shown, content)
    sets, overrides = _sets(shown, content["sets"]), _overrides(shown, content["overrides"])
    return Game(**{**content, "sets": sets, "random": random, "human": human, "overrides": overrides})


def _check_texts(shown: str, content: dict[str, Any]) -> None:
    for name in ("name", "ale_id", "rom", "random_source", "noframeskip_id", "human_source"):
        absent = content[name] is None and name in ("noframeskip_id", "human_source")
        if not (absent or isinstance(content[name], str)):
            raise InvalidType(f"{shown} {name}: got {describe(content[name])}, expected text")


def _scores(shown: str, content: dict[str, Any]) -> tuple[float, float | None]:
    random, human = check_number(f"{shown} random", content["random"]), content["human"]
    if (human is None) != (content["human_source"] is None):
        raise InvalidValue(f"{shown}: give both human and human_source, or null for both")
    return random, None if human is None else check_number(f"{shown} human", human)


def _sets(shown: str, given: Any) -> tuple[str, ...]:
    if not isinstance(given, list):
        raise InvalidType(f"{shown} sets: got {describe(given)}, expected a list")
    for name in given:
        if name not in GAME_SETS:
            raise InvalidValue(f"{shown} sets: unknown set '{name}'{did_you_mean(str(name), GAME_SETS)}")
    if len(set(given)) < len(given):
        raise InvalidValue(f"{shown} sets: a set is named twice")
    return tuple(given)


def _overrides(shown: str, given: Any) -> dict[str, dict[str, Any]]:
    """Whether an agent has these arguments is checked where they are used, as for every other section."""
    if not isinstance(given, dict):
        raise InvalidType(f"{shown} overrides: got {describe(given)}, expected a mapping from agents to settings")
    for algo, settings in given.items():
        if algo not in sbbatch.ALGORITHMS:
            hint = did_you_mean(str(algo), sbbatch.ALGORITHMS)
            raise InvalidValue(f"{shown} overrides: unknown algorithm '{algo}'{hint}")
        if not isinstance(settings, dict):
            raise InvalidType(f"{shown} overrides {algo}: got {describe(settings)}, expected a mapping of settings")
    return given
