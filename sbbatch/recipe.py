"""Recipes: a class that is its base class with other defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any


def with_defaults(
    init: Callable[..., Any], defaults: dict[str, Any], ignored: Collection[str] = ()
) -> Callable[..., Any]:
    """
    The same constructor with other default values, which ``inspect.signature`` (and so ``help`` and the command line)
    shows. A recipe lists what it changes and nothing else.

    :param init: constructor of the base class
    :param defaults: name -> default
    :param ignored: keyword arguments that are dropped: what a caller gives to every class and this one has no use for
    """
    signature = inspect.signature(init)
    names = list(signature.parameters)[1:]
    assert set(defaults) <= set(names), f"a recipe sets arguments its base class does not have: {defaults}"

    @functools.wraps(init)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        others = {name: value for name, value in defaults.items() if name not in names[: len(args)]}
        return init(self, *args, **others | {name: value for name, value in kwargs.items() if name not in ignored})

    parameters = signature.parameters.values()
    new = [parameter.replace(default=defaults.get(parameter.name, parameter.default)) for parameter in parameters]
    method.__signature__ = signature.replace(parameters=new)  # type: ignore[attr-defined]
    return method
