"""
Callbacks and wrappers that a YAML file names by import path, in rl-baselines3-zoo's words.

A file must not be able to run a program: a path is imported only if its module is on a list, or was allowed on the
command line, and must lead to a class that is defined in such a module and is of the kind its key asks for.
"""

from __future__ import annotations

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
    "sbbatch.analysis",
    "sbbatch.batch",
    "stable_baselines3.common.atari_wrappers",
    "stable_baselines3.common.callbacks",
    "stable_baselines3.common.monitor",
    "stable_baselines3.common.vec_env",
)
# Key of a hyperparameter file -> base class of what it may name.
BASE_CLASSES = {"callback": BaseCallback, "env_wrapper": gym.Wrapper, "vec_env_wrapper": VecEnvWrapper}
WRAPPERS = ("env_wrapper", "vec_env_wrapper")  # those that a trained agent needs to play
# Keys whose value is a mapping of keyword arguments for the environment.
ENV_ARGUMENTS = ("env_kwargs", "eval_env_kwargs")

_HAVE_KEYS: dict[type, str] = {VecNormalize: "normalize", VecFrameStack: "frame_stack"}
_PATH = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*", re.ASCII)  # no part begins with an underscore


@dataclass(frozen=True)
class ClassSpec:
    """A class as a file names it; nothing is imported before :meth:`load`."""

    where: str  # file, section and key, the beginning of every message
    key: str  # one of BASE_CLASSES
    path: str  # e.g. gymnasium.wrappers.TimeLimit
    kwargs: dict[str, Any]
    allowed: tuple[str, ...] = ()  # modules besides KNOWN_MODULES

    def load(self) -> type:
        """Import the class, and compare the keyword arguments with its constructor."""
        module, _, name = self.path.rpartition(".")
        self._check_allowed(module)
        content, base = vars(_import(module, self.where, bool(self.allowed))), BASE_CLASSES[self.key]
        cls = content.get(name)
        if not _is_subclass(cls, base):
            fitting = [key for key, item in content.items() if _is_subclass(item, base) and item is not base]
            raise InvalidType(f"{self.where}: {self.path} is no {base.__name__}{did_you_mean(name, fitting)}")
        self._check_allowed(cls.__module__)
        if cls in _HAVE_KEYS:
            raise InvalidValue(f"{self.where}: {name} has a key of its own; give {_HAVE_KEYS[cls]} instead")
        # The environment cannot be written into a file.
        taken = [] if self.key == "callback" else list(inspect.signature(cls).parameters)[:1]
        check_keywords(f"{self.where}: {name}", self.kwargs, cls, taken)
        return cls

    def make(self, *inner: Any) -> Any:
        """An object of the class; ``inner`` is the environment to wrap, if it is a wrapper."""
        return built(self.where, self.load(), *inner, **self.kwargs)

    def _check_allowed(self, module: str) -> None:
        if not any(f"{module}.".startswith(f"{name}.") for name in (*KNOWN_MODULES, *self.allowed)):
            remedy = f"give --allow-import {module} if you trust it" if module else "expected module.Class"
            raise InvalidValue(f"{self.where}: {self.path} is not from a module that is known to be harmless; {remedy}")


def _is_subclass(item: Any, base: type) -> bool:
    return isinstance(item, type) and issubclass(item, base)


def read_classes(where: str, key: str, value: Any) -> tuple[ClassSpec, ...] | None:
    """
    Read the value of one of :data:`BASE_CLASSES`; nothing is imported.

    :param where: file, section and key, the beginning of every message
    :param key: the key
    :param value: a path, a mapping from one path to its keyword arguments, or a list of these
    :return: the classes in their order, the innermost wrapper first; ``None``: there are none
    """
    if value is None:
        return None
    specs = []
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and len(item) != 1:
            raise InvalidValue(f"{where}: got {len(item)} names in one mapping; indent arguments below a name")
        path, kwargs = next(iter(item.items())) if isinstance(item, dict) else (item, None)
        if not (isinstance(path, str) and _PATH.fullmatch(path)):
            raise InvalidType(f"{where}: got {describe(path)}, expected a path such as gymnasium.wrappers.TimeLimit")
        specs.append(ClassSpec(where, key, path, read_keyword_arguments(f"{where} {path}", kwargs) or {}))
    return tuple(specs)


def read_keyword_arguments(where: str, value: Any) -> dict[str, Any] | None:
    """Read the value of one of :data:`ENV_ARGUMENTS`: a mapping, the text of one, or ``None``."""
    if isinstance(value, str):
        value = read_literal(value, where)
    if value is not None:
        check_keywords(where, value, None)
    return value


def allow_imports(
    settings: dict[str, Any], modules: Sequence[str], keys: Sequence[str] = tuple(BASE_CLASSES)
) -> dict[str, Any]:
    """
    Settings whose callbacks and wrappers may come from further modules; each is imported now, so that a mistake is told
    before anything is built.

    :param settings: the resolved settings
    :param modules: as given to ``--allow-import``
    :param keys: those of :data:`BASE_CLASSES` that will be used
    """
    allowed = dict(settings)
    for key in keys:
        if key in settings and settings[key].value:
            specs = tuple(replace(spec, allowed=tuple(modules)) for spec in settings[key].value)
            for spec in specs:
                spec.load()
            allowed[key] = replace(settings[key], value=specs)
    return allowed


def import_packages(names: Sequence[str], option: str = "--gym-packages") -> None:
    """Import packages that register environments, as given to ``option``."""
    for name in names:
        _import(name, option, also_from_here=True)


def _import(name: str, where: str, also_from_here: bool) -> Any:
    """From the working folder too, where an installed command does not look; last, so that it hides no library."""
    if also_from_here and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except (ImportError, TypeError, ValueError) as error:  # the last two: no name of a module
        raise InvalidValue(f"{where}: {name} cannot be imported ({error})") from None
