"""Suites: environments that share settings. Which sections of a hyperparameter file count for an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sbbatch.envs.atari import atari_game
from sbbatch.envs.make import is_mujoco
from sbbatch.errors import InvalidType, InvalidValue, describe, did_you_mean

Section = tuple[str, Mapping[str, Any]]  # file and name, for messages, and the settings in it


@dataclass(frozen=True)
class Suite:
    """
    A suite.

    :param has: whether an environment belongs to it
    :param implied: settings that its name stands for; it only counts when somebody asks for it, and a file's section
        may change them
    """

    has: Callable[[str], bool]
    implied: Mapping[str, Any] = field(default_factory=dict)


def _is_atari(env_id: str) -> bool:
    return atari_game(env_id) is not None


SUITES = {
    "atari": Suite(_is_atari),
    # Kaiser et al. (2020): 100,000 agent steps, which are 400,000 frames.
    "atari100k": Suite(_is_atari, {"atari_protocol": "atari100k", "n_timesteps": 100_000}),
    "minatar": Suite(lambda env_id: env_id.startswith("MinAtar/")),
    "mujoco": Suite(is_mujoco),
}


def sections_for(env_id: str, sections: Mapping[str, Any], file: str, suite: str | None = None) -> list[Section]:
    """
    The sections that count for an environment, lowest precedence first.

    :param env_id: environment
    :param sections: of a hyperparameter file
    :param file: its name in messages
    :param suite: the suite that was asked for (``None``: the one that follows from the environment)
    :raises UserError: the file has no such suite, the environment is not of that suite, a section is no mapping
    """
    if suite is None:
        suite = next((name for name, known in SUITES.items() if known.has(env_id) and not known.implied), "")
    else:
        _check_suite(suite, sections, file, env_id)
    game = atari_game(env_id)
    same_game = [name for name in sections if game is not None and atari_game(name) == game]
    found: list[Section] = []
    for name in dict.fromkeys(["default", suite, *same_game, env_id]):
        if name == suite and name in SUITES and SUITES[name].implied:
            found.append((f"suite {name}", SUITES[name].implied))
        section = sections.get(name)
        if not (section is None or isinstance(section, dict)):
            raise InvalidType(f"{file} {name}: got {describe(section)}, expected a mapping of settings")
        if section is not None:
            found.append((f"{file} {name}", section))
    return found


def _check_suite(suite: str, sections: Mapping[str, Any], file: str, env_id: str) -> None:
    offered = [name for name in SUITES if name in sections]
    if suite not in offered:
        # A suite of other agents is spelt well: it needs no better spelling, but the names of those that there are.
        hint = f"; known: {', '.join(offered)}" if suite in SUITES else did_you_mean(suite, offered)
        raise InvalidValue(f"--suite: {file} has no suite '{suite}'{hint}")
    if not SUITES[suite].has(env_id):
        raise InvalidValue(f"--suite: {suite} is not for {env_id}; remove --suite")
