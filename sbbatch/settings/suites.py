"""Suites: environments that share settings. Which sections of a hyperparameter file count for an environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sbbatch.envs.atari import atari_game
from sbbatch.envs.make import is_mujoco
from sbbatch.errors import InvalidValue, check_keywords

Section = tuple[str, Mapping[str, Any]]  # file and name, for messages, and the settings in it


@dataclass(frozen=True)
class Suite:
    """Environments that share settings."""

    has: Callable[[str], Any]  # whether an environment belongs to it
    # Settings that its name stands for. Such a suite only counts when somebody asks for it.
    implied: Mapping[str, Any] = field(default_factory=dict)


SUITES = {
    "atari": Suite(atari_game),
    # Kaiser et al. (2020): 100,000 agent steps, which are 400,000 frames.
    "atari100k": Suite(atari_game, {"atari_protocol": "atari100k", "n_timesteps": 100_000}),
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
    """
    if suite is None:
        suite = next((name for name, known in SUITES.items() if known.has(env_id) and not known.implied), "")
    elif suite not in SUITES or suite not in sections:
        offered = ", ".join(name for name in SUITES if name in sections)
        raise InvalidValue(f"--suite: {file} has no suite '{suite}'; known: {offered}")
    elif not SUITES[suite].has(env_id):
        raise InvalidValue(f"--suite: {suite} is not for {env_id}; remove --suite")
    game = atari_game(env_id)
    same_game = [name for name in sections if game is not None and atari_game(name) == game]
    found: list[Section] = []
    for name in dict.fromkeys(["default", suite, *same_game, env_id]):
        if name == suite and name in SUITES and SUITES[name].implied:
            found.append((f"suite {name}", SUITES[name].implied))
        if sections.get(name) is not None:
            check_keywords(f"{file} {name}", sections[name], None)
            found.append((f"{file} {name}", sections[name]))
    return found
