"""Recipes: a class that is its base class with other defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any


def with_defaults(
    init: Callable[..., None], defaults: dict[str, Any], ignored: Collection[str] = ()
) -> Callable[..., None]:
    """
    A constructor of the same arguments in the same order, with other default values.

    It exists so that a recipe lists what it changes and nothing else, while ``inspect.signature`` (and so ``help``, the
    command line and its error messages) shows the real defaults.

    :param init: constructor of the base class
    :param defaults: name -> default
    :param ignored: keyword arguments that are dropped: what a caller gives to every class and this one has no use for
    :return: the new constructor
    """
    signature = inspect.signature(init)
    names = list(signature.parameters)[1:]
    unknown = set(defaults) - set(names)
    assert not unknown, f"a recipe sets arguments its base class does not have: {unknown}"

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the class's __init__
        others = {name: value for name, value in defaults.items() if name not in names[: len(args)]}
        init(self, *args, **others | {name: value for name, value in kwargs.items() if name not in ignored})

    parameters = signature.parameters.values()
    new = [parameter.replace(default=defaults.get(parameter.name, parameter.default)) for parameter in parameters]
    __init__.__signature__ = signature.replace(parameters=new)  # type: ignore[attr-defined]
    return __init__
