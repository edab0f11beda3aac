"""The helpers behind every sentence: what is wrong, what was given, what is allowed."""

import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sbbatch.errors import (
    InvalidType,
    InvalidValue,
    UserError,
    built,
    check_int,
    check_keywords,
    check_number,
    check_schedule,
    describe,
    describe_space,
    reason_of,
    restored,
)


def sentence(error, call, *args, **kwargs):
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("value", [np.zeros((40, 40)), th.optim.SGD([th.zeros(1)], lr=0.1), "x\ny", {"a": "b" * 200}])
def test_any_value_is_described_in_one_short_line(value):
    text = describe(value)
    assert text.startswith(type(value).__name__)
    assert "\n" not in text
    assert len(text) < 90


def test_a_dictionary_space_is_described_by_its_parts():
    space = spaces.Dict({"image": spaces.Box(0, 255, (4, 84, 84), np.uint8), "lives": spaces.Discrete(4)})
    assert describe_space(space) == "Dict(image: Box(4, 84, 84) of uint8, lives: Discrete(4))"


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (lambda p: None, InvalidType, "beta: at the progress remaining 1: got NoneType None"),
        (lambda p: math.nan, InvalidValue, "got nan"),
        (lambda p: 1.0 if p > 0.7 else 2.0, InvalidValue, "beta: at the progress remaining 0.5: got 2.0"),
        (lambda p: 1e-3 / p, InvalidValue, "beta: at the progress remaining 0 the schedule fails (ZeroDivisionError"),
        (lambda: 1.0, InvalidValue, "takes 0 positional arguments"),
        (-1, InvalidValue, "beta: got -1, expected a finite number in [0, 1]"),
        ("x", InvalidType, "beta: got str 'x'"),
    ],
)
def test_a_schedule_is_tried_from_beginning_to_end(schedule, error, message):
    assert message in sentence(error, check_schedule, "beta", schedule, 0.0, 1.0)


def function(a, b=1, *, eps=0.1): ...


def flexible(a, **kwargs): ...


@pytest.mark.parametrize(
    ("given", "target", "message"),
    [
        (5, function, "kw: got int 5, expected a dictionary of keyword arguments"),
        ({"ep": 1}, function, "kw: unknown key 'ep'; did you mean 'eps'?"),
        ({"a": 1}, function, "kw: 'a' is set by the agent"),
        ({3: 1}, flexible, "kw: got dict {3: 1}, expected"),
        ({3: 1}, None, "kw: got dict {3: 1}, expected"),
    ],
)
def test_keyword_arguments_are_compared_with_the_real_signature(given, target, message):
    assert message in sentence(InvalidType, check_keywords, "kw", given, target, {"a"})


def test_what_a_foreign_class_refuses_is_told_in_one_line_with_its_reason():
    parameters = [th.nn.Parameter(th.zeros(1))]
    text = sentence(InvalidValue, built, "optimizer_kwargs", th.optim.Adam, parameters, eps=-1)
    assert text == "optimizer_kwargs: Adam cannot be made (Invalid epsilon value: -1)"
    assert isinstance(built("optimizer_kwargs", th.optim.Adam, parameters, eps=1), th.optim.Adam)


def test_an_error_of_ours_keeps_its_traceback():
    class Ours:
        def __init__(self):
            raise ValueError("a bug")

    Ours.__module__ = "sbbatch.networks"
    with pytest.raises(ValueError, match="a bug") as caught:
        built("features_extractor_kwargs", Ours)
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("error", [KeyError("rng"), InvalidValue("size: got 3")])
def test_a_state_that_cannot_be_taken_over_comes_with_a_remedy(error):
    def take_over():
        with restored("the callback", "leave it out"):
            raise error

    text = sentence(InvalidValue, take_over)
    assert text == f"the callback: the saved state cannot be taken over ({reason_of(error)}); leave it out"


@pytest.mark.parametrize(
    ("check", "value"),
    [(check_int, 10**400), (check_int, -(10**400)), (check_int, 2**63), (check_number, 10**400)],
    ids=["int", "negative", "int64", "float"],
)
def test_numbers_that_no_computer_counts_to_are_refused_in_a_line(check, value):
    with pytest.raises(InvalidValue) as told:
        check("n", value)
    assert len(str(told.value)) < 140
