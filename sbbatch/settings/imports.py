"""Callbacks and wrappers that a YAML file names by import path, in rl-baselines3-zoo's words.

A file that loads safely must not be able to run a program. So a path is imported only if its module is on a list, or
was allowed on the command line; what it leads to must be a class that is defined in such a module and is of the kind
its key asks for.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack, VecNormalize

from sbbatch.errors import InvalidType, InvalidValue, built, check_keywords, describe, did_you_mean
from sbbatch.settings.reader import read_literal

# Modules, with all that lies below them, whose callbacks and wrappers write files at most.
KNOWN_MODULES = (
    "gymnasium.wrappers",
    "rl_zoo3.callbacks",
    "rl_zoo3.wrappers",
    "sb3_contrib.common.wrappers",
    "sbbatch.batch",
    "stable_baselines3.common.atari_wrappers",
    "stable_baselines3.common.callbacks",
    "stable_baselines3.common.monitor",
    "stable_baselines3.common.vec_env",
)
# Key of a hyperparameter file -> what its classes must be.
KINDS: dict[str, type] = {"callback": BaseCallback, "env_wrapper": gym.Wrapper, "vec_env_wrapper": VecEnvWrapper}
WRAPPERS = ("env_wrapper", "vec_env_wrapper")  # those that a trained agent needs to play
# Keys whose value is a mapping of keyword arguments for the environment.
ENV_ARGUMENTS = ("env_kwargs", "eval_env_kwargs")

_HAVE_KEYS: dict[type, str] = {VecNormalize: "normalize", VecFrameStack: "frame_stack"}
_EXPECTED = "expected an import path such as gymnasium.wrappers.TimeLimit"
_PATH = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*", re.ASCII)  # no part begins with an underscore


@dataclass(frozen=True)
class Imported:
    """
    A class as a file names it; nothing is imported before :meth:`load`.

    :param where: file, section and key, the beginning of every message
    :param key: the key, one of :data:`KINDS`
    :param path: import path, e.g. ``"gymnasium.wrappers.TimeLimit"``
    :param kwargs: keyword arguments
    :param allowed: modules allowed besides :data:`KNOWN_MODULES`
    """

    where: str
    key: str
    path: str
    kwargs: dict[str, Any]
    allowed: tuple[str, ...] = ()

    def load(self) -> type:
        """
        Import the class, and compare the keyword arguments with its constructor.

        :raises UserError: not allowed, not there, of another kind, or with other arguments
        """
        module, _, name = self.path.rpartition(".")
        self._check_allowed(module)
        cls = getattr(self._module(module), name, None)
        kind = KINDS[self.key]
        if not (isinstance(cls, type) and issubclass(cls, kind)):
            fitting = [key for key, item in vars(sys.modules[module]).items() if _is_kind(item, kind)]
            problem = "no class" if not isinstance(cls, type) else f"no {kind.__name__}"
            raise InvalidType(f"{self.where}: {self.path} is {problem}{did_you_mean(name, fitting)}")
        self._check_allowed(cls.__module__)
        if cls in _HAVE_KEYS:
            raise InvalidValue(f"{self.where}: {name} has a key of its own; give {_HAVE_KEYS[cls]} instead")
        check_keywords(f"{self.where}: {name}", self.kwargs, cls, self._taken(cls))
        return cls

    def make(self, *inner: Any) -> Any:
        """
        :param inner: the environment to wrap, if it is a wrapper
        :raises UserError: see :meth:`load`; or the class refuses its arguments
        """
        return built(self.where, self.load(), *inner, **self.kwargs)

    def _taken(self, cls: type) -> list[str]:
        """The environment, which nobody can write into a file."""
        return [] if self.key == "callback" else list(inspect.signature(cls).parameters)[:1]

    def _check_allowed(self, module: str) -> None:
        if not any(f"{module}.".startswith(f"{name}.") for name in (*KNOWN_MODULES, *self.allowed)):
            remedy = f"give --allow-import {module} if you trust it" if module else "expected module.Class"
            raise InvalidValue(f"{self.where}: {self.path} is not from a module that is known to be harmless; {remedy}")

    def _module(self, name: str) -> Any:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise InvalidValue(f"{self.where}: {name} cannot be imported ({error})") from None


def _is_kind(item: object, kind: type) -> bool:
    return isinstance(item, type) and issubclass(item, kind) and item is not kind


def read_part(where: str, key: str, value: Any) -> tuple[Imported, ...] | dict[str, Any] | None:
    """
    Read the value of one of :data:`KINDS` or :data:`ENV_ARGUMENTS`; nothing is imported.

    :param where: file, section and key, the beginning of every message
    :param key: the key
    :param value: for classes a path, a mapping from one path to its keyword arguments, or a list of these
    :return: classes in their order, the innermost wrapper first; or keyword arguments; ``None``: neither
    :raises UserError: another form
    """
    if value is None:
        return None
    if key in ENV_ARGUMENTS:
        return _keyword_arguments(where, read_literal(value, where) if isinstance(value, str) else value)
    return tuple(_one(where, key, item) for item in (value if isinstance(value, list) else [value]))


def _one(where: str, key: str, item: Any) -> Imported:
    path, kwargs = item, None
    if isinstance(item, dict):
        if len(item) != 1:
            names = ", ".join(map(str, item)) or "none"
            raise InvalidValue(
                f"{where}: got {len(item)} names in one mapping ({names}); indent arguments below a name"
            )
        ((path, kwargs),) = item.items()
    if not isinstance(path, str):
        raise InvalidType(
            f"{where}: got {describe(path)}, expected an import path such as gymnasium.wrappers.TimeLimit"
        )
    if not _PATH.fullmatch(path):
        raise InvalidValue(f"{where}: got '{path}', {_EXPECTED}")
    return Imported(where, key, path, _keyword_arguments(f"{where} {path}", {} if kwargs is None else kwargs))


def _keyword_arguments(where: str, value: Any) -> dict[str, Any]:
    if not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
        raise InvalidType(f"{where}: got {describe(value)}, expected a mapping of keyword arguments")
    return value


def allow_imports(
    settings: dict[str, Any], modules: Sequence[str], keys: Sequence[str] = tuple(KINDS)
) -> dict[str, Any]:
    """
    Settings whose callbacks and wrappers may come from further modules; each is imported now, so that a mistake is told
    before anything is built.

    :param settings: the resolved settings
    :param modules: as given to ``--allow-import``
    :param keys: those of :data:`KINDS` that will be used
    :raises UserError: see :meth:`Imported.load`
    """
    for name in modules:
        _check_name("--allow-import", name)
    if modules:
        _look_in_working_folder()
    allowed = dict(settings)
    for key in keys:
        if key in settings and settings[key].value:
            parts = tuple(replace(part, allowed=tuple(modules)) for part in settings[key].value)
            for part in parts:
                part.load()
            allowed[key] = replace(settings[key], value=parts)
    return allowed


def import_packages(names: Sequence[str], option: str = "--gym-packages") -> None:
    """
    Import packages that register environments.

    :param names: of modules
    :param option: the option they were given to
    :raises InvalidValue: one cannot be imported
    """
    if names:
        _look_in_working_folder()
    for name in names:
        _check_name(option, name)
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InvalidValue(f"{option}: {name} cannot be imported ({error})") from None


def import_environments(args: argparse.Namespace) -> None:
    """
    Import what the command line says about packages; ``module:Name-v0``, Gymnasium's other way, becomes ``Name-v0``.

    :param args: the command line, with ``--env`` and ``--gym-packages``
    :raises InvalidValue: a module cannot be imported
    """
    import_packages(args.gym_packages)
    module, colon, name = args.env.partition(":")
    if colon:
        import_packages([module], "--env")
        args.env, args.gym_packages = name, [*args.gym_packages, module]


def _check_name(option: str, name: str) -> None:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InvalidValue(f"{option}: got '{name}', expected the name of a module such as my_package.wrappers")


def _look_in_working_folder() -> None:
    """A user's own module lies there, where an installed command does not look; last, so that it hides no library."""
    folder = os.getcwd()
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)
