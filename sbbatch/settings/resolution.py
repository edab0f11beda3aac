"""From YAML files and the command line to checked settings, each of which knows where it came from.

Order of precedence, lowest first:

1. the class's own default,
2. the file's ``default`` section,
3. the suite: what its name stands for, then its section (``atari``, ``minatar``, ``mujoco`` follow from the
   environment; ``atari100k`` is only played when asked for),
4. the environment's section,
5. the overrides of the game's file ``hyperparams/atari/<Game>.yml``,
6. the command line.

A file given by ``-conf`` takes the place of ``hyperparams/<algo>.yml`` and is complete: what it says is what the user
wants, so the files of the games have no say in it. For a run that exists, its ``config.yml`` takes the place of 2 to 5.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sbbatch
from sbbatch.envs.atari import atari_game
from sbbatch.errors import InvalidType, InvalidValue, check_bool, check_int, check_names, check_number, did_you_mean
from sbbatch.settings.games import overrides_of
from sbbatch.settings.imports import ENV_ARGUMENTS, KINDS, read_part
from sbbatch.settings.reader import hyperparams_folder, read_command_line_value, read_literal, read_yaml
from sbbatch.settings.schema import Argument, convert, keyword_arguments
from sbbatch.settings.suites import Layer, layers

COMMAND_LINE = "command line"
CLASS_DEFAULT = "class default"

# What a section may hold besides the constructor's arguments, in rl-baselines3-zoo's words.
RUN_KEYS = {"n_timesteps", "policy", "n_envs", "frame_stack", "normalize", "atari_protocol", *KINDS, *ENV_ARGUMENTS}
# Set by flags or by the code, never by a section.
_NOT_IN_FILES = {"env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}
_FLAGS = {"env": "--env", "seed": "--seed", "device": "--device", "verbose": "--verbose", "tensorboard_log": "-tb"}
_NORMALIZE_FLAGS = {"norm_obs", "norm_reward"}
_NORMALIZE_NUMBERS = {"clip_obs", "clip_reward", "gamma", "epsilon"}
_MAX_FRAME_STACK = 1024  # far more only fill the memory


@dataclass(frozen=True)
class Setting:
    """
    One hyperparameter with its history.

    :param value: what the constructor gets
    :param given: what was written, before schedules and literals were read
    :param origin: ``class default``, ``command line``, or file and section
    """

    value: Any
    given: Any
    origin: str

    @property
    def explicit(self) -> bool:
        """Whether anybody set it."""
        return self.origin != CLASS_DEFAULT


Settings = dict[str, Setting]


def require_algorithm(name: str) -> type:
    """
    The class of an algorithm.

    :param name: as given to ``--algo``
    :raises InvalidValue: there is no such algorithm
    """
    if name not in sbbatch.ALGORITHMS:
        raise InvalidValue(f"unknown algorithm '{name}'{did_you_mean(name, sbbatch.ALGORITHMS)}")
    return sbbatch.ALGORITHMS[name]


def read_sections(algo: str, conf_file: Path | None = None) -> tuple[dict[str, Any], str]:
    """
    Read an algorithm's hyperparameter file.

    :param algo: name of the algorithm
    :param conf_file: another file to read instead
    :return: its sections, and the file's name for messages
    """
    if conf_file is not None:
        return read_yaml(conf_file), str(conf_file)
    path = hyperparams_folder() / f"{algo}.yml"
    return (read_yaml(path, f"hyperparams/{path.name}") if path.exists() else {}), f"hyperparams/{path.name}"


def read_parameters(pairs: Iterable[str], option: str = "-params") -> dict[str, Any]:
    """
    Read ``-params key:value ...``.

    :param pairs: the words as typed
    :param option: the option they were given to
    :raises InvalidValue: a word without a colon, or a key given twice
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        key, colon, text = pair.partition(":")
        if not colon or not key.isidentifier():
            hint = "; did you mean " + pair.replace("=", ":", 1) + "?" if "=" in pair else ""
            raise InvalidValue(f"{option}: expected key:value, got '{pair}'{hint}")
        if key in values:
            raise InvalidValue(f"{option}: {key} is given twice")
        values[key] = read_command_line_value(text, f"{COMMAND_LINE} {key}")
    return values


def read_overrides(pairs: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """
    What the command line says about the settings.

    :param pairs: words of ``-params``
    :param options: values of the options that stand for a setting (``None``: not given)
    :raises InvalidValue: a word without a colon, or a key given twice
    """
    overrides = read_parameters(pairs)
    given = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key in overrides:
            raise InvalidValue(f"{key} is given twice: as an option and with -params")
    return overrides | given


def resolve(
    algo: str,
    env_id: str,
    overrides: Mapping[str, Any] | None = None,
    conf_file: Path | None = None,
    run_file: Path | None = None,
    suite: str | None = None,
) -> Settings:
    """
    All settings of a run, in the order of precedence above, checked before anything is built.

    :param algo: name of the algorithm
    :param env_id: environment
    :param overrides: what the command line says
    :param conf_file: a hyperparameter file instead of the packaged ones
    :param run_file: the ``config.yml`` of a run, which is complete, instead of both
    :param suite: the suite (``None``: the one that follows from the environment)
    :raises UserError: an unknown key, a wrong type, a missing length of the run
    """
    cls = require_algorithm(algo)
    known = {name: arg for name, arg in keyword_arguments(cls).items() if name not in _NOT_IN_FILES}
    if run_file is not None:
        file, written = str(run_file), [(str(run_file), read_yaml(run_file))]
    else:
        written, file = _file_layers(algo, env_id, conf_file, suite)
    settings: Settings = {
        name: Setting(argument.default, argument.default, CLASS_DEFAULT)
        for name, argument in known.items()
        if argument.default is not inspect.Parameter.empty
    }
    for origin, layer in [*written, (COMMAND_LINE, dict(overrides or {}))]:
        for key in layer:
            if key in _FLAGS:
                raise InvalidType(f"{origin}: '{key}' is no hyperparameter; give it as {_FLAGS[key]}")
        if "batch_size" in layer and "batch_size" not in known:
            raise InvalidType(
                f"{origin}: {cls.__name__} has no batch_size: a gradient step learns from n_steps * n_envs / "
                "n_minibatches samples; give --n-steps N, or -params n_minibatches:N"
            )
        check_names(origin, layer, set(known) | RUN_KEYS)
        settings.update({key: _setting(key, value, origin, known) for key, value in layer.items()})
    if "n_timesteps" not in settings:
        raise InvalidValue(f"missing key n_timesteps in {file} section {env_id}; write it there or give -n")
    _check_policy(settings, cls)
    return settings


def explicit_values(settings: Settings) -> dict[str, Any]:
    """What was set by files and command line, as it was written: the content of ``config.yml``."""
    return {key: setting.given for key, setting in sorted(settings.items()) if setting.explicit}


def constructor_values(settings: Settings) -> dict[str, Any]:
    """The explicit constructor arguments, without the policy."""
    return {key: s.value for key, s in settings.items() if s.explicit and key not in RUN_KEYS}


def run_value(settings: Settings, key: str, otherwise: Any = None) -> Any:
    """
    The value of one of :data:`RUN_KEYS`.

    :param settings: the resolved settings
    :param key: its name
    :param otherwise: its value when nobody set it
    """
    return settings[key].value if key in settings else otherwise


def with_origin(message: str, settings: Settings) -> str:
    """
    Tell where a value came from, in a constructor's message about it.

    :param message: e.g. ``batch_size: got 0, expected an int >= 1``
    :param settings: the resolved settings
    """
    setting = settings.get(message.partition(":")[0])
    return f"{setting.origin} {message}" if setting is not None and setting.explicit else message


def _file_layers(algo: str, env_id: str, conf_file: Path | None, suite: str | None) -> tuple[list[Layer], str]:
    """What the files say, lowest precedence first, and the main file's name for messages."""
    sections, file = read_sections(algo, conf_file)
    found = layers(sections, file, env_id, suite)
    if conf_file is not None and not found and env_id not in sections:
        raise InvalidValue(
            f"{file}: no section is for {env_id}, so nothing in it counts{did_you_mean(env_id, sections)}"
        )
    game = atari_game(env_id)
    if game is not None and conf_file is None:
        found.append(overrides_of(algo, game))
    return found, file


def _setting(key: str, value: Any, origin: str, known: dict[str, Argument]) -> Setting:
    where = f"{origin} {key}"
    read = _run_value(where, key, value) if key in RUN_KEYS else convert(where, value, known[key])
    return Setting(read, value, origin)


def _run_value(where: str, key: str, value: Any) -> Any:
    """Check a value that is not a constructor's argument."""
    if key == "n_timesteps":
        # The zoo's files write `!!float 1e6`, so a whole float is a habit here and not a mistake.
        whole = isinstance(value, float) and value.is_integer()
        return check_int(where, int(value) if whole else value, 1)
    if key == "n_envs":
        return check_int(where, value, 1)
    if key == "frame_stack":
        return None if value is None else check_int(where, value, 1, _MAX_FRAME_STACK)
    if key in KINDS or key in ENV_ARGUMENTS:
        return read_part(where, key, value)
    if key == "normalize":
        return _normalize(where, value)
    if not (isinstance(value, str) or (key == "atari_protocol" and value is None)):
        raise InvalidType(f"{where}: got {type(value).__name__} {value!r}, expected text")
    return value


def _normalize(where: str, value: Any) -> dict[str, Any] | None:
    """``true`` or VecNormalize's arguments; ``None`` means no normalization."""
    if isinstance(value, str):
        value = read_literal(value, where)
    if value is None or isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict):
        raise InvalidType(f"{where}: got {type(value).__name__} {value!r}, expected true, false or a mapping")
    check_names(where, value, _NORMALIZE_FLAGS | _NORMALIZE_NUMBERS)
    for key, item in value.items():
        if key in _NORMALIZE_FLAGS:
            check_bool(f"{where} {key}", item)
        else:
            check_number(f"{where} {key}", item, 0.0, 1.0 if key == "gamma" else math.inf, open_low=key != "gamma")
    return value


def _check_policy(settings: Settings, cls: type) -> None:
    """The policy's name, which SB3 would refuse with a list instead of the nearest one."""
    aliases = getattr(cls, "policy_aliases", {})
    policy = settings.get("policy")
    if policy is not None and policy.value not in aliases:
        raise InvalidValue(
            f"{policy.origin} policy: unknown policy '{policy.value}'{did_you_mean(policy.value, aliases)}"
        )
