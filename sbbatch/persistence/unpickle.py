"""
The pickles of SB3's files, read without running them.

While a pickle is read, every class and function it names is a placeholder; what is needed is then built from these, for
the names below. An allow-list of real classes in ``find_class`` would not be safe: a pickle may call a class it names
with any arguments, set its attributes (``ReLU.forward``), and hand NumPy a made-up state of a dtype.
"""

from __future__ import annotations

import importlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sbbatch.errors import reason_of

_NUMBERS = "biuf"  # kinds of arrays that hold numbers; any other could hold objects
_OPTIMIZERS = ("adam", "adamax", "adamw", "nadam", "radam", "rmsprop", "sgd")
# Classes that may be named, though never called: the module they are defined in, and what they extend.
_CLASSES: dict[str, type] = {
    "torch.nn.modules.activation": th.nn.Module,
    "torch.nn.modules.linear": th.nn.Identity,
    **{f"torch.optim.{name}": th.optim.Optimizer for name in _OPTIMIZERS},
    "stable_baselines3.common.sb2_compat.rmsprop_tf_like": th.optim.Optimizer,
    "stable_baselines3.common.torch_layers": BaseFeaturesExtractor,
    "stable_baselines3.common.buffers": BaseBuffer,
    "stable_baselines3.common.policies": BasePolicy,
    "stable_baselines3.dqn.policies": BasePolicy,
    "sb3_contrib.qrdqn.policies": BasePolicy,
}
_Build = Callable[[Any], Any]  # builds a part of what was read


class UnreadablePickle(ValueError):
    """Bytes that are no pickle, or one that cannot be built as it stands."""


class UnknownName(UnreadablePickle):
    """A class or function that is needed and not in the lists; its name is the message."""


class SavedVecNormalize(dict[str, Any]):
    """The settings and statistics that ``VecNormalize.save`` wrote."""


def unpickle(data: bytes) -> Any:
    """
    What was pickled, by any protocol.

    :raises UnknownName: it needs something that is not known here
    :raises UnreadablePickle: it is damaged, or not what it says it is
    """
    done: dict[int, Any] = {}  # a pickle may name one part a thousand times: nested, building each time would not end

    def build(value: Any) -> Any:
        if id(value) not in done:
            done[id(value)] = _built(value, build)
        return done[id(value)]

    try:
        return build(_Reader(io.BytesIO(data)).load())
    except UnreadablePickle:
        raise
    except Exception as error:  # damaged bytes may raise anything
        raise UnreadablePickle(reason_of(error)) from error


class _Placeholder:
    """
    What a pickle says about an object; a class that is named and not called is the subclass itself. The methods, which
    a pickle may call, note what they get.
    """

    name: ClassVar[str]  # of the class or function, with its module
    arguments: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]

    def __new__(cls, *arguments: Any, **_: Any) -> _Placeholder:
        made = super().__new__(cls)
        made.arguments, made.state, made.items = arguments, None, {}
        return made

    def __call__(self, *arguments: Any) -> _Placeholder:
        return type(self)(*arguments)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """Of lists, deques and sets, none of which is needed."""

    add = append


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type[_Placeholder]:
        return type("_Placeholder", (_Placeholder,), {"name": f"{module}.{name}"})


def _built(value: Any, build: _Build) -> Any:
    if isinstance(value, type) and issubclass(value, _Placeholder):
        return _class_of(value.name)
    if isinstance(value, _Placeholder):
        if value.name not in _MAKERS:
            raise UnknownName(value.name)
        return _MAKERS[value.name](build, value)
    if isinstance(value, dict):
        return {build(key): build(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)([build(item) for item in value])
    return value


def _class_of(name: str) -> type:
    module, _, own = name.rpartition(".")
    found = getattr(importlib.import_module(module), own, None) if module in _CLASSES else None
    if not (isinstance(found, type) and issubclass(found, _CLASSES[module])):
        raise UnknownName(name)
    return found


_Maker = Callable[[_Build, _Placeholder], Any]


def _made_of(make: Callable[..., Any], *names: str) -> _Maker:
    """Makes an object of some of its attributes; the others, such as its random numbers, are not even looked at."""

    def maker(build: _Build, placeholder: _Placeholder) -> Any:
        state = placeholder.state[0] if isinstance(placeholder.state, tuple) else placeholder.state
        if not isinstance(state, dict):
            raise UnreadablePickle(f"{placeholder.name} without attributes")
        return make(*(build(state.get(name)) for name in names))

    return maker


def _called_with(make: Callable[..., Any]) -> _Maker:
    """Makes an object of what it was called with."""
    return lambda build, placeholder: make(*map(build, placeholder.arguments))


def _dtype(build: _Build, placeholder: _Placeholder) -> np.dtype:
    code = placeholder.arguments[0]
    dtype = np.dtype(code) if isinstance(code, str) else None
    if dtype is None or dtype.kind not in _NUMBERS:
        raise UnreadablePickle(f"an array of {code!r}")
    return dtype if placeholder.state is None else dtype.newbyteorder(placeholder.state[1])


def _array(build: _Build, placeholder: _Placeholder) -> np.ndarray:
    """``_reconstruct`` makes an empty array, the state fills it."""
    _, shape, dtype, fortran, data = placeholder.state
    return _numbers(data, build(dtype), shape, "F" if fortran else "C")


def _numbers(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, np.dtype):
        raise UnreadablePickle(f"an array of {dtype!r}")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy()


def _moments(mean: np.ndarray, var: np.ndarray, count: Any) -> RunningMeanStd:
    statistics = RunningMeanStd(shape=mean.shape)
    statistics.mean, statistics.var, statistics.count = mean, var, float(count)
    return statistics


_SETTINGS = ("training", "norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys")
_VEC_NORMALIZE = (*_SETTINGS, "obs_rms", "ret_rms")
_SPACES = {
    "box.Box": _made_of(lambda low, high, dtype: spaces.Box(low, high, dtype=dtype.type), "low", "high", "dtype"),
    # Gym's had no start.
    "discrete.Discrete": _made_of(lambda n, start: spaces.Discrete(int(n), start=int(start or 0)), "n", "start"),
    "multi_discrete.MultiDiscrete": _made_of(lambda n, start: spaces.MultiDiscrete(n, start=start), "nvec", "start"),
    "multi_binary.MultiBinary": _made_of(spaces.MultiBinary, "n"),
    "dict.Dict": _made_of(lambda parts: spaces.Dict(OrderedDict(parts)), "spaces"),  # a plain one would be sorted
}
_ARRAYS = {
    "multiarray._reconstruct": _array,
    "multiarray.scalar": _called_with(lambda dtype, data: _numbers(data, dtype, -1, "C")[0]),
    "numeric._frombuffer": _called_with(_numbers),
}
_SCHEDULES = {
    "ConstantSchedule": _made_of(lambda val: ConstantSchedule(float(val)), "val"),
    "LinearSchedule": _made_of(lambda *ends: LinearSchedule(*map(float, ends)), "start", "end", "end_fraction"),
    "FloatSchedule": _made_of(FloatSchedule, "value_schedule"),
}
# Objects that may be made, by the class or function that the pickle names.
_MAKERS: dict[str, _Maker] = {
    "numpy.dtype": _dtype,
    **{f"numpy.{core}.{name}": maker for core in ("core", "_core") for name, maker in _ARRAYS.items()},  # NumPy 1 and 2
    "collections.OrderedDict": lambda build, made: OrderedDict((build(k), build(v)) for k, v in made.items.items()),
    **{f"{library}.spaces.{name}": maker for library in ("gymnasium", "gym") for name, maker in _SPACES.items()},
    **{f"stable_baselines3.common.utils.{name}": maker for name, maker in _SCHEDULES.items()},
    # rl-baselines3-zoo's `lin_...`, which falls to 0
    "rl_zoo3.utils.SimpleLinearSchedule": _made_of(lambda v: LinearSchedule(float(v), 0.0, 1.0), "initial_value"),
    "stable_baselines3.common.type_aliases.TrainFreq": _called_with(lambda n, unit: TrainFreq(int(n), unit)),
    "stable_baselines3.common.type_aliases.TrainFrequencyUnit": _called_with(TrainFrequencyUnit),
    "stable_baselines3.common.running_mean_std.RunningMeanStd": _made_of(_moments, "mean", "var", "count"),
    "stable_baselines3.common.vec_env.vec_normalize.VecNormalize": _made_of(
        lambda *values: SavedVecNormalize(zip(_VEC_NORMALIZE, values, strict=True)), *_VEC_NORMALIZE
    ),
}
