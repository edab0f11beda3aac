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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import sbbatch
from sbbatch.arguments import Argument, Count, Fraction, Positive, Within, check_arguments, declared
from sbbatch.envs.atari import atari_game
from sbbatch.errors import InvalidType, InvalidValue, check_keywords, check_names, did_you_mean
from sbbatch.settings.games import read_game
from sbbatch.settings.imports import BASE_CLASSES, ENV_ARGUMENTS, read_classes, read_keyword_arguments
from sbbatch.settings.reader import hyperparams_folder, read_command_line_value, read_literal, read_yaml
from sbbatch.settings.schema import from_text, plain
from sbbatch.settings.suites import Section, sections_for

COMMAND_LINE = "command line"
CLASS_DEFAULT = "class default"


@dataclass(frozen=True)
class RunArguments:
    """What a section may hold besides the constructor's arguments, in rl-baselines3-zoo's words."""

    n_timesteps: Count
    policy: str
    n_envs: Count = 1
    frame_stack: Annotated[int, Within(1, 1024)] | None = None  # far more only fill the memory
    normalize: Any = None
    atari_protocol: str | None = None
    callback: Any = None
    env_wrapper: Any = None
    vec_env_wrapper: Any = None
    env_kwargs: Any = None
    eval_env_kwargs: Any = None


@dataclass(frozen=True)
class NormalizeArguments:
    """What ``normalize`` may hold: numbers of ``VecNormalize``, which checks none of them."""

    norm_obs: bool = True
    norm_reward: bool = True
    clip_obs: Positive = 10.0
    clip_reward: Positive = 10.0
    gamma: Fraction = 0.99
    epsilon: Positive = 1e-8


RUN_KEYS = set(declared(RunArguments))
# Set by flags or by the code, never by a section.
_NOT_IN_FILES = {"policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}
_FLAGS = {"env": "--env", "seed": "--seed", "device": "--device", "verbose": "--verbose", "tensorboard_log": "-tb"}
# What rl-baselines3-zoo's files write for Atari games, and the protocol that does the same.
ATARI_WRAPPER, ATARI_WRAPPER_PROTOCOL = "stable_baselines3.common.atari_wrappers.AtariWrapper", "sb3"


@dataclass(frozen=True)
class Setting:
    """One hyperparameter with its history."""

    value: Any  # what the constructor gets
    given: Any  # what was written, as a file would have it
    origin: str  # class default, command line, or file and section

    @property
    def explicit(self) -> bool:
        """Whether anybody set it."""
        return self.origin != CLASS_DEFAULT


Settings = dict[str, Setting]


def require_algorithm(name: str) -> type:
    """The class of an algorithm by its name."""
    if name not in sbbatch.ALGORITHMS:
        raise InvalidValue(f"unknown algorithm '{name}'{did_you_mean(name, sbbatch.ALGORITHMS)}")
    return sbbatch.ALGORITHMS[name]


def read_parameters(pairs: Iterable[str], option: str = "-params") -> dict[str, Any]:
    """Read ``-params key:value ...``, the words as typed."""
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
    """What ``-params`` and the options that stand for a setting (``None``: not given) say."""
    overrides = read_parameters(pairs)
    given = {key: value for key, value in options.items() if value is not None}
    for key in overrides.keys() & given:
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
    known = {name: argument for name, argument in declared(cls).items() if name not in _NOT_IN_FILES}
    if run_file is None:
        file, sections = _sections_of_files(algo, env_id, conf_file, suite)
    else:
        file, sections = str(run_file), [(str(run_file), read_yaml(run_file))]
    settings = {
        name: Setting(argument.default, plain(argument.default), CLASS_DEFAULT)
        for name, argument in known.items()
        if argument.default is not inspect.Parameter.empty
    }
    for origin, section in [*sections, (COMMAND_LINE, overrides or {})]:
        _check_keys(origin, section, known, cls)
        for key, value in section.items():
            where = f"{origin} {key}"
            read = _run_value(where, key, value) if key in RUN_KEYS else convert(where, value, known[key])
            settings[key] = Setting(read, plain(value), origin)
    if "n_timesteps" not in settings:
        raise InvalidValue(f"missing key n_timesteps in {file} section {env_id}; write it there or give -n")
    policy, policies = settings.get("policy"), getattr(cls, "policy_aliases", {})
    if policy is not None and policy.value not in policies:  # SB3 would not name the nearest
        hint = did_you_mean(policy.value, policies)
        raise InvalidValue(f"{policy.origin} policy: unknown policy '{policy.value}'{hint}")
    return settings


def _sections_of_files(algo: str, env_id: str, conf_file: Path | None, suite: str | None) -> tuple[str, list[Section]]:
    """The main file's name for messages, and what the files say, lowest precedence first."""
    path = hyperparams_folder() / f"{algo}.yml" if conf_file is None else conf_file
    file = f"hyperparams/{path.name}" if conf_file is None else str(conf_file)
    sections = read_yaml(path, file) if conf_file is not None or path.exists() else {}
    found = sections_for(env_id, sections, file, suite)
    if conf_file is not None and not found and env_id not in sections:
        raise InvalidValue(f"{file}: no section is for {env_id}{did_you_mean(env_id, sections)}")
    game_file = hyperparams_folder() / "atari" / f"{atari_game(env_id)}.yml"
    if conf_file is None and game_file.exists():
        origin = f"hyperparams/atari/{game_file.name} overrides {algo}"
        found.append((origin, read_game(game_file).overrides.get(algo, {})))
    return file, found


def convert(where: str, value: Any, argument: Argument) -> Any:
    """
    :param where: file, section and key, the beginning of every message
    :param value: what a YAML file or the command line says, or the object itself
    :param argument: the argument it is meant for
    :return: what the constructor gets
    """
    if isinstance(value, (str, list, dict)):
        value = from_text(where, value, argument)
    argument.check(value, where)
    return value  # as it was given: some checks return what the constructor makes of it


def _check_keys(origin: str, section: Mapping[str, Any], known: Mapping[str, Argument], cls: type) -> None:
    for key in section:
        if key in _FLAGS:
            raise InvalidType(f"{origin}: '{key}' is no hyperparameter; give it as {_FLAGS[key]}")
    if "batch_size" in section and "batch_size" not in known:
        raise InvalidType(
            f"{origin}: {cls.__name__} has no batch_size: a gradient step learns from n_steps * n_envs / "
            "n_minibatches samples; give --n-steps N, or -params n_minibatches:N"
        )
    check_names(origin, section, {*known, *RUN_KEYS})


def _run_value(where: str, key: str, value: Any) -> Any:
    if key in BASE_CLASSES:
        return read_classes(where, key, value)
    if key in ENV_ARGUMENTS:
        return read_keyword_arguments(where, value)
    if key == "normalize":
        return _read_normalize(where, value)
    if key == "n_timesteps" and isinstance(value, float) and value.is_integer():
        value = int(value)  # the zoo's files write `!!float 1e6`
    return declared(RunArguments)[key].check(value, where)


def _read_normalize(where: str, value: Any) -> dict[str, Any] | None:
    """``true`` or VecNormalize's arguments; ``None`` means no normalization."""
    value = read_literal(value, where) if isinstance(value, str) else value
    if value is None or isinstance(value, bool):
        return {} if value else None
    check_keywords(where, value, NormalizeArguments)
    return check_arguments(NormalizeArguments, value, f"{where} ")


def explicit_values(settings: Settings) -> dict[str, Any]:
    """What was set by files and command line, as it was written: the content of ``config.yml``."""
    return {key: setting.given for key, setting in sorted(settings.items()) if setting.explicit}


def constructor_values(settings: Settings) -> dict[str, Any]:
    """The explicit constructor arguments, without the policy."""
    return {key: s.value for key, s in settings.items() if s.explicit and key not in RUN_KEYS}


def run_value(settings: Settings, key: str, otherwise: Any = None) -> Any:
    """The value of one of :data:`RUN_KEYS`."""
    return settings[key].value if key in settings else otherwise


def with_origin(message: str, settings: Settings) -> str:
    """A constructor's message such as ``batch_size: got 0, ...`` with where the value came from."""
    setting = settings.get(message.partition(":")[0])
    return f"{setting.origin} {message}" if setting is not None and setting.explicit else message


def run_protocol(env_id: str, cls: Any, settings: Settings) -> str | None:
    """The Atari protocol of a run: what the settings say, else the algorithm's own in an Atari game."""
    given = run_value(settings, "atari_protocol")
    if atari_game(env_id) is None:
        return given
    if not any(wrapper.path == ATARI_WRAPPER for wrapper in run_value(settings, "env_wrapper") or ()):
        return given or cls.atari_protocol
    if given not in (None, ATARI_WRAPPER_PROTOCOL):
        raise InvalidValue(
            f"env_wrapper: AtariWrapper stands for the protocol {ATARI_WRAPPER_PROTOCOL}, but "
            f"{settings['atari_protocol'].origin} has atari_protocol '{given}'; remove one of them"
        )
    return ATARI_WRAPPER_PROTOCOL
