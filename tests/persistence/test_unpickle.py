"""A pickle is read without anything in it being imported, called or changed."""

import pickle
from collections import OrderedDict
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sbbatch.persistence.unpickle import UnknownName, UnreadablePickle, unpickle

PROTOCOLS = range(3, pickle.HIGHEST_PROTOCOL + 1)


class Attack:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def read(value, protocol=pickle.HIGHEST_PROTOCOL):
    return unpickle(cloudpickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["f4", "i8", "?", ">i4"])
def test_arrays_are_read_as_they_were(dtype, protocol):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for value in (array, array.T, array[:, 1], array[0, 0], array[:0]):
        found = read(value, protocol)
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, np.array([1.0, np.inf, 3.0]), dtype=np.float64),
        spaces.Box(0, 255, (3, 8, 8), np.uint8),
        spaces.Discrete(3, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary([2, 2]),
        spaces.Dict(OrderedDict(z=spaces.Discrete(2), a=spaces.Box(0.0, 1.0, (2,)))),
    ],
    ids=str,
)
def test_spaces_are_read_as_they_were(space, protocol):
    space.sample()  # they have a generator from then on, which is pickled too
    found = read(space, protocol)
    assert found == space
    assert type(found) is type(space)
    assert found.dtype == space.dtype
    if isinstance(space, spaces.Dict):
        assert list(found) == list(space)


@pytest.mark.parametrize(
    "schedule",
    [ConstantSchedule(0.2), LinearSchedule(1.0, 0.1, 0.3), FloatSchedule(0.5), FloatSchedule(LinearSchedule(1, 0, 1))],
)
def test_schedules_are_read_as_they_were(schedule):
    found = read(schedule)
    assert [found(p) for p in (1.0, 0.8, 0.4, 0.0)] == [schedule(p) for p in (1.0, 0.8, 0.4, 0.0)]


def test_the_rest_of_what_an_agent_of_sb3_keeps_is_read_as_it_was():
    value = {
        "freq": TrainFreq(4, TrainFrequencyUnit.EPISODE),
        "classes": (th.nn.Tanh, th.nn.Identity, th.optim.RMSprop),
        "ordered": OrderedDict(a=1),
        "n": [1, None],
    }
    assert read(value) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_called(tmp_path, protocol):
    marker = tmp_path / "ran"
    data = pickle.dumps({"a": [1, Attack(Path.touch, marker)], "b": 2}, protocol=protocol)
    with pytest.raises(UnknownName, match=r"getattr|touch"):
        unpickle(data)
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists()


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "sly.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Sly: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UnknownName, match=r"sly\.Sly"):
        unpickle(b"csly\nSly\n.")
    assert not (tmp_path / "ran").exists()


RELU = f"c{th.nn.ReLU.__module__}\nReLU\n".encode()


@pytest.mark.parametrize("attribute", [b"forward", b"name", b"__setstate__", b"__new__"])
def test_classes_cannot_be_changed(attribute):
    # The BUILD opcode sets attributes of whatever lies on the stack, a class as well.
    before = th.nn.ReLU.forward
    with pytest.raises(UnreadablePickle):
        unpickle(RELU + b"(N}X" + len(attribute).to_bytes(4, "little") + attribute + b"X\x04\x00\x00\x00gonestb.")
    assert th.nn.ReLU.forward is before
    assert unpickle(RELU + b".") is th.nn.ReLU


def test_a_class_that_may_be_named_may_not_be_called():
    with pytest.raises(UnknownName, match="ReLU"):
        unpickle(RELU + b")R.")


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "builtins.getattr",
        "torch.load",
        "torch.os.system",
        "torch.optim.adam.torch",
        "stable_baselines3.common.policies.nn",
        "stable_baselines3.common.policies.FlattenExtractor",
    ],
)
def test_only_classes_of_the_listed_kinds_may_be_named(name):
    module, _, own = name.rpartition(".")
    with pytest.raises(UnknownName, match=name):
        unpickle(f"c{module}\n{own}\n.".encode())


def test_a_name_with_dots_is_not_followed():
    with pytest.raises(UnknownName):
        unpickle(b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93.")


def test_arrays_of_objects_are_refused():
    for dtype in (object, [("a", object)], "U3", "M8[s]"):
        with pytest.raises(UnreadablePickle):
            read(np.zeros(1, dtype=dtype))

    with pytest.raises(UnreadablePickle):
        read(Attack(np._core.numeric._frombuffer, b"\0" * 8, "O", (1,), "C"))


def test_a_pickle_that_contains_itself_or_grows_without_end_is_no_trap():
    own = []
    own.append(own)
    with pytest.raises(UnreadablePickle, match="Recursion"):
        unpickle(pickle.dumps(own))
    bomb = []
    for _ in range(60):
        bomb = [bomb, bomb]
    assert len(unpickle(pickle.dumps(bomb))) == 2


def test_damaged_bytes_are_unreadable_whatever_they_were():
    data = bytearray(cloudpickle.dumps({"space": spaces.Box(-1, 1, (2,)), "f": FloatSchedule(0.1), "c": th.nn.ReLU}))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        try:
            unpickle(bytes(damaged))
        except UnreadablePickle:
            refused += 1
    assert refused > 500
