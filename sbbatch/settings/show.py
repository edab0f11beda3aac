"""Every setting of a run with where it came from, as text to read and to search: ``sbbatch train --show-config``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sbbatch.envs.atari import atari_game
from sbbatch.settings.resolution import CLASS_DEFAULT, RUN_KEYS, Setting, Settings, run_protocol, run_value
from sbbatch.settings.schema import plain

RUN_DEFAULT = "run default"  # of what is no argument of the class
_WIDEST = 40  # characters of a value; a longer one pushes its own origin aside and no other

Row = tuple[str, str, str]  # key, value, origin


def show_settings(cls: Any, env_id: str, settings: Settings) -> str:
    """
    One line per value: key, value, origin. What the run is made of comes first, then the class's arguments, of which
    mappings have a line for each entry.
    """
    known = _run_defaults(cls, env_id) | settings
    of_run = [row for key in sorted(RUN_KEYS) for row in _rows(key, known[key])]
    of_class = [row for key in known if key not in RUN_KEYS for row in _rows(key, known[key])]
    rows = of_run + sorted(of_class + _network_rows(cls, settings))
    keys = max(len(key) for key, _, _ in rows)
    values = min(max(len(value) for _, value, _ in rows), _WIDEST)
    return "\n".join(f"{key:<{keys}}  {value:<{values}}  {origin}" for key, value, origin in rows)


def _run_defaults(cls: Any, env_id: str) -> Settings:
    """What the run does where nobody says anything. The policy depends on the environment, which is not made yet."""
    policy = "CnnPolicy" if atari_game(env_id) is not None else "(by the observations)"
    defaults: dict[str, Any] = dict.fromkeys(RUN_KEYS) | {"n_envs": 1, "policy": policy}
    shown = {key: Setting(value, value, RUN_DEFAULT) for key, value in defaults.items()}
    protocol = run_protocol(env_id, cls, {})
    return shown | ({} if protocol is None else {"atari_protocol": Setting(protocol, protocol, CLASS_DEFAULT)})


def _rows(key: str, setting: Setting) -> Iterator[Row]:
    # Schedules and calls are shown as they were written; mappings may have been written as one text, numbers as others.
    read = setting.value != {} and isinstance(setting.value, (int, float, list, tuple, dict))
    for name, value in _entries(key, setting.value if read else setting.given):
        yield name, _text(value), setting.origin


def _entries(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _entries(f"{key}.{name}", inner)
    else:
        yield key, value


def _network_rows(cls: Any, settings: Settings) -> list[Row]:
    """The recipe's own ``policy_kwargs``, of which the settings hold only what somebody changed."""
    defaults, policy = getattr(cls, "network_defaults", None), run_value(settings, "policy")
    if defaults is None or policy is None or "policy_kwargs" not in settings:
        return []
    given, head = settings["policy_kwargs"].value or {}, settings["head"].value
    merged = defaults.under(given, cls.policy_aliases[policy], head)
    told = {name for name, _ in _entries("policy_kwargs", given)} | {"policy_kwargs.head_class"}  # which is `head`
    own = [(name, value) for name, value in _entries("policy_kwargs", merged) if name not in told]
    return [(name, _text(value), CLASS_DEFAULT) for name, value in own]


def _text(value: Any) -> str:
    """A value as a file would have it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return " ".join(str(plain(value)).split())
