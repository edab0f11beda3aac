"""What an argument may be stands in the signature that takes it, and nowhere else."""

# No postponed annotations here: such modules are read as well.

from functools import partial
from typing import Annotated, Literal

import numpy as np
import pytest

from sbbatch.arguments import Argument, Count, Fraction, Within, check_arguments, checked, declared
from sbbatch.errors import InvalidType, InvalidValue


class Plain:
    @checked
    def __init__(
        self,
        size: Count,
        rate: Fraction | None = None,
        kind: Literal["log", "linear"] = "log",
        cls: type[Exception] | None = None,
        own: Annotated[int | str, lambda name, value: str(value)] = "own",
        *,
        free=None,
    ):
        self.given = (size, rate, kind, cls, own, free)


def test_a_class_without_postponed_annotations_is_read():
    arguments = declared(Plain)
    assert list(arguments) == ["size", "rate", "kind", "cls", "own", "free"]
    assert arguments["size"] == Argument("size", arguments["size"].default, (int,), Within(1))
    assert arguments["rate"].kinds == (float, type(None))
    assert arguments["rate"].limits == Within(0.0, 1.0)
    assert arguments["free"].kinds == ()
    assert arguments["own"].kinds == (int, str)


def test_numbers_of_numpy_become_pythons():
    made = Plain(np.uint8(3), np.float32(0.5), free=np.int64(1))
    assert made.given == (3, 0.5, "log", None, "own", 1)
    assert [type(value) for value in made.given[:2]] == [int, float]
    assert Plain(1, own=np.int64(7)).given[4] == "7"


@pytest.mark.parametrize(
    ("kwargs", "error", "named"),
    [
        ({"size": 0}, InvalidValue, "size"),
        ({"size": 1.5}, InvalidType, "size"),
        ({"size": True}, InvalidType, "size"),
        ({"size": None}, InvalidType, "size"),
        ({"rate": 1.5}, InvalidValue, "rate"),
        ({"rate": float("nan")}, InvalidValue, "rate"),
        ({"rate": "0.5"}, InvalidType, "rate"),
        ({"kind": "linaer"}, InvalidValue, "did you mean 'linear'?"),
        ({"kind": 3}, InvalidType, "kind"),
        ({"cls": int}, InvalidType, "cls"),
        ({"sise": 3}, InvalidType, "Plain: unknown argument 'sise'; did you mean 'size'?"),
    ],
)
def test_what_is_not_declared_is_refused_by_name(kwargs, error, named):
    with pytest.raises(error, match=named.replace("?", r"\?")):
        Plain(**{"size": 1} | kwargs)


def test_values_are_checked_against_a_function_as_well():
    def learn(n_steps: Annotated[int, Within(-1)] = 1): ...

    assert check_arguments(learn, {"n_steps": np.int64(-1), "other": "x"}) == {"n_steps": -1}
    with pytest.raises(InvalidValue, match="in a file: n_steps"):
        check_arguments(learn, {"n_steps": -2}, "in a file: ")


def test_a_message_can_say_where_the_argument_stands():
    @partial(checked, prefix="policy_kwargs: ")
    def init(self, size: Count): ...

    with pytest.raises(InvalidValue, match="policy_kwargs: size: got 0"):
        init(object(), 0)
