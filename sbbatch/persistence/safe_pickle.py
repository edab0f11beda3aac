"""
Pickles read without running them. Every class and function that a pickle names becomes a note, so that nothing is
imported or called while it is read; what is wanted is then built from the notes by functions of ours.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

_NUMBERS = "biuf"  # kinds of arrays that hold numbers; any other could hold objects


class Note:
    """
    What a pickle says about an object. A class that is named and not called is the subclass itself.

    The attributes begin with an underscore and methods do as little as possible: a pickle decides what they get.
    """

    name: ClassVar[str] = ""  # of the class or function, with its module

    def __new__(cls, *args: Any, **kwargs: Any) -> Note:
        note = super().__new__(cls)
        note._args, note._state, note._items = args, None, {}
        return note

    _args: tuple[Any, ...]
    _state: Any
    _items: dict[Any, Any]

    def __call__(self, *args: Any) -> Note:
        """What was made is called in its turn, as cloudpickle does with the type of code."""
        return type(self)(*args)

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value

    def append(self, value: Any) -> None:
        """As a list's: how ``deque`` and others are filled."""
        self._items[len(self._items)] = value

    add = append


class _NoteTaker(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[Note]:
        return type("Note", (Note,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference to something outside of the file")


class UnreadablePickle(ValueError):
    """Bytes that are no pickle, or one that cannot be built as it stands."""


class UnknownName(UnreadablePickle):
    """A pickle needs a class or function that is not among the known ones; its name is the message."""


Maker = Callable[["Builder", Note], Any]


def read_notes(data: bytes) -> Any:
    """
    Read a pickle, with a :class:`Note` in the place of every object that is no number, text or plain container.

    :param data: a pickle of any protocol
    :raises UnreadablePickle: it is damaged
    """
    try:
        return _NoteTaker(io.BytesIO(data)).load()
    except Exception as error:  # damaged bytes may raise anything
        raise UnreadablePickle(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Known:
    """
    What may be built from notes.

    :param classes: name -> the class that is meant where one is named and not called
    :param makers: name -> a function that makes the object from its note, with the builder for what is inside
    """

    classes: Mapping[str, Any]
    makers: Mapping[str, Maker]

    def build(self, notes: Any) -> Any:
        """
        :param notes: what :func:`read_notes` gave, or a part of it
        :return: the same with objects in the place of notes
        :raises UnknownName: a note that is not known
        :raises UnreadablePickle: a note that lacks something
        """
        try:
            return Builder(self).build(notes)
        except UnreadablePickle:
            raise
        except Exception as error:  # whatever the makers meet in a file that somebody has changed
            raise UnreadablePickle(f"{type(error).__name__}: {error}") from error


class Builder:
    """
    Builds one tree of notes.

    :param known: what may be built
    """

    def __init__(self, known: Known) -> None:
        self._known = known
        # Each part once, also if it is named a thousand times: nested twice fifty levels deep it would never end.
        self._done: dict[int, Any] = {}

    def build(self, value: Any) -> Any:
        """
        :param value: a note, or a plain value with notes in it
        """
        if id(value) not in self._done:
            self._done[id(value)] = self._built(value)
        return self._done[id(value)]

    def _built(self, value: Any) -> Any:
        if isinstance(value, type) and issubclass(value, Note):
            return self._find(self._known.classes, value.name)
        if isinstance(value, Note):
            return self._find(self._known.makers, value.name)(self, value)
        if isinstance(value, dict):
            return {self.build(key): self.build(item) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return type(value)([self.build(item) for item in value])
        return value

    @staticmethod
    def _find(known: Mapping[str, Any], name: str) -> Any:
        if name not in known:
            raise UnknownName(name)
        return known[name]


def state_of(note: Note) -> dict[str, Any]:
    """
    The attributes of an object, as notes.

    :param note: of an object whose state is a dictionary
    :raises UnreadablePickle: it is none
    """
    state = note._state[0] if isinstance(note._state, tuple) and note._state else note._state
    if not isinstance(state, dict):
        raise UnreadablePickle(f"{note.name} without attributes")
    return state


def arguments_of(note: Note) -> tuple[Any, ...]:
    """
    What an object was made with, as notes.

    :param note: of the object
    """
    return note._args


def _dtype(builder: Builder, note: Note) -> np.dtype:
    code = note._args[0]
    dtype = np.dtype(code if isinstance(code, str) else None)
    if not isinstance(code, str) or dtype.kind not in _NUMBERS:
        raise UnreadablePickle(f"an array of {code!r}")
    return dtype if note._state is None else dtype.newbyteorder(note._state[1])


def _array(builder: Builder, note: Note) -> np.ndarray:
    """``_reconstruct`` makes an empty array, the state fills it."""
    _, shape, dtype, fortran, data = note._state
    return np.frombuffer(data, builder.build(dtype)).reshape(shape, order="F" if fortran else "C").copy()


def _array_of_bytes(builder: Builder, note: Note) -> np.ndarray:
    data, dtype, shape, order = note._args
    return np.frombuffer(data, builder.build(dtype)).reshape(shape, order=order).copy()


def _scalar(builder: Builder, note: Note) -> np.generic:
    dtype, data = note._args
    return np.frombuffer(data, builder.build(dtype))[0]


def _ordered(builder: Builder, note: Note) -> OrderedDict[Any, Any]:
    return OrderedDict((builder.build(key), builder.build(value)) for key, value in note._items.items())


# NumPy's parts under the names of NumPy 1 and 2.
NUMPY: dict[str, Maker] = {
    "numpy.dtype": _dtype,
    "collections.OrderedDict": _ordered,
    **{
        f"numpy.{core}.{name}": maker
        for core in ("core", "_core")
        for name, maker in {
            "multiarray._reconstruct": _array,
            "multiarray.scalar": _scalar,
            "numeric._frombuffer": _array_of_bytes,
        }.items()
    },
}
