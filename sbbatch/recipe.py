"""Recipes: a class that is its base class with other defaults."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

from sbbatch.errors import InvalidType, did_you_mean


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
    :raises InvalidType: when called with an argument that does not exist; the message offers the nearest name
    """
    signature = inspect.signature(init)
    unknown = set(defaults) - set(signature.parameters)
    assert not unknown, f"a recipe sets arguments its base class does not have: {unknown}"
    parameters = [
        parameter.replace(default=defaults.get(name, parameter.default))
        for name, parameter in signature.parameters.items()
    ]
    signature = signature.replace(parameters=parameters)
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it becomes the class's __init__
        kwargs = {name: value for name, value in kwargs.items() if name not in ignored}
        for name in kwargs:
            if not takes_any and name not in signature.parameters:
                hint = did_you_mean(name, list(signature.parameters)[1:])
                raise InvalidType(f"{type(self).__name__}: unknown argument '{name}'{hint}")
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        init(*bound.args, **bound.kwargs)

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__
