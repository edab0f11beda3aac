"""Suites: environments that share settings. Which sections of a hyperparameter file count for an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sbbatch.envs.atari import atari_game
from sbbatch.envs.make import is_mujoco
from sbbatch.errors import InvalidType, InvalidValue, did_you_mean

Layer = tuple[str, dict[str, Any]]  # where settings were written, and the settings


@dataclass(frozen=True)
class Suite:
    """
    A suite.

    :param members: what it is for, in messages
    :param has: whether an environment can be played in it
    :param implied: settings that its name stands for; a file's section may change them
    :param by_name: whether it is only played when somebody asks for it
    """

    members: str
    has: Callable[[str], bool]
    implied: Mapping[str, Any] = field(default_factory=dict)
    by_name: bool = False


def _is_atari(env_id: str) -> bool:
    return atari_game(env_id) is not None


SUITES = {
    "atari": Suite("Atari games", _is_atari),
    # Kaiser et al. (2020): 100,000 agent steps, which are 400,000 frames.
    "atari100k": Suite("Atari games", _is_atari, {"atari_protocol": "atari100k", "n_timesteps": 100_000}, by_name=True),
    "minatar": Suite("MinAtar games", lambda env_id: env_id.startswith("MinAtar/")),
    "mujoco": Suite("MuJoCo tasks", is_mujoco),
}


def layers(sections: dict[str, Any], file: str, env_id: str, suite: str | None = None) -> list[Layer]:
    """
    The sections that count for an environment, lowest precedence first.

    :param sections: of a hyperparameter file
    :param file: its name in messages
    :param env_id: environment
    :param suite: the suite that was asked for (``None``: the one that follows from the environment)
    :raises UserError: the file has no such suite, the environment is not of that suite, a section is no mapping
    """
    if suite is not None:
        _check_suite(suite, sections, file, env_id)
    else:
        suite = next((name for name, known in SUITES.items() if known.has(env_id) and not known.by_name), None)
    found = _sections(["default"], sections, file)
    if suite is not None:
        implied = SUITES[suite].implied
        found += [(f"suite {suite}", dict(implied))] if implied else []
        found += _sections([suite], sections, file)
    game = atari_game(env_id)
    same_game = [name for name in sections if game is not None and atari_game(name) == game]
    return found + _sections(dict.fromkeys([*same_game, env_id]), sections, file)


def _sections(names: Iterable[str], sections: dict[str, Any], file: str) -> list[Layer]:
    found: list[Layer] = []
    for name in names:
        section = sections.get(name)
        if section is None:
            continue
        if not isinstance(section, dict):
            raise InvalidType(
                f"{file} {name}: got {type(section).__name__} {section!r}, expected a mapping of settings"
            )
        found.append((f"{file} {name}", section))
    return found


def _check_suite(suite: str, sections: dict[str, Any], file: str, env_id: str) -> None:
    offered = [name for name in SUITES if name in sections]
    if suite not in offered:
        # A suite of other agents needs no better spelling, but the names of those that there are.
        hint = f"; known: {', '.join(offered) or 'none'}" if suite in SUITES else did_you_mean(suite, offered)
        raise InvalidValue(f"--suite: {file} has no suite '{suite}'{hint}")
    if not SUITES[suite].has(env_id):
        fitting = [name for name in offered if SUITES[name].has(env_id)]
        hint = f"give {' or '.join(fitting)}, or leave --suite out" if fitting else "leave --suite out"
        raise InvalidValue(f"--suite: {suite} is for {SUITES[suite].members}, and {env_id} is none of them; {hint}")
