"""The classes and objects of SB3's own files by their names: what is built from them without being trusted."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import sb3_contrib.qrdqn.policies as qrdqn_policies
import stable_baselines3.dqn.policies as dqn_policies
import torch as th
from gymnasium import spaces
from stable_baselines3.common import buffers, policies, torch_layers
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sbbatch.persistence.safe_pickle import NUMPY, Builder, Known, Maker, Note, UnreadablePickle, arguments_of, state_of

_ACTIVATIONS = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.Identity,
    nn.LeakyReLU,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.Sigmoid,
    nn.SiLU,
    nn.Softplus,
    nn.Tanh,
)
_OPTIMIZERS = (
    th.optim.Adam,
    th.optim.AdamW,
    th.optim.Adamax,
    th.optim.NAdam,
    th.optim.RAdam,
    th.optim.RMSprop,
    th.optim.SGD,
    RMSpropTFLike,
)


def _classes_of(module: Any, base: type) -> list[type]:
    return [found for _, found in inspect.getmembers(module, inspect.isclass) if issubclass(found, base)]


def _by_name(classes: Iterable[type]) -> dict[str, type]:
    return {f"{cls.__module__}.{cls.__qualname__}": cls for cls in classes}


def _attributes(builder: Builder, note: Note, *names: str) -> list[Any]:
    """Some attributes, in order; what else the object had, its random numbers above all, is not even looked at."""
    state = state_of(note)
    missing = [name for name in names if name not in state]
    if missing:
        raise UnreadablePickle(f"{note.name} without {missing[0]}")
    return [builder.build(state[name]) for name in names]


def _box(builder: Builder, note: Note) -> spaces.Box:
    low, high, dtype = _attributes(builder, note, "low", "high", "dtype")
    return spaces.Box(low, high, dtype=dtype.type)


def _discrete(builder: Builder, note: Note) -> spaces.Discrete:
    (n,) = _attributes(builder, note, "n")
    start = builder.build(state_of(note).get("start", 0))  # Gym had none
    return spaces.Discrete(int(n), start=int(start))


def _multi_discrete(builder: Builder, note: Note) -> spaces.MultiDiscrete:
    (nvec,) = _attributes(builder, note, "nvec")
    return spaces.MultiDiscrete(nvec, start=builder.build(state_of(note).get("start")))


def _multi_binary(builder: Builder, note: Note) -> spaces.MultiBinary:
    (n,) = _attributes(builder, note, "n")
    return spaces.MultiBinary(n)


def _dict(builder: Builder, note: Note) -> spaces.Dict:
    (parts,) = _attributes(builder, note, "spaces")
    return spaces.Dict(OrderedDict(parts))  # a plain dictionary would be sorted


def _constant(builder: Builder, note: Note) -> ConstantSchedule:
    return ConstantSchedule(float(*_attributes(builder, note, "val")))


def _linear(builder: Builder, note: Note) -> LinearSchedule:
    return LinearSchedule(*map(float, _attributes(builder, note, "start", "end", "end_fraction")))


def _float(builder: Builder, note: Note) -> FloatSchedule:
    return FloatSchedule(*_attributes(builder, note, "value_schedule"))


def _zoo_linear(builder: Builder, note: Note) -> LinearSchedule:
    """rl-baselines3-zoo's ``lin_...``: falls to 0."""
    return LinearSchedule(float(*_attributes(builder, note, "initial_value")), 0.0, 1.0)


def _train_freq(builder: Builder, note: Note) -> TrainFreq:
    frequency, unit = map(builder.build, arguments_of(note))
    return TrainFreq(int(frequency), unit)


def _frequency_unit(builder: Builder, note: Note) -> TrainFrequencyUnit:
    return TrainFrequencyUnit(builder.build(arguments_of(note)[0]))


def _moments(builder: Builder, note: Note) -> RunningMeanStd:
    mean, var, count = _attributes(builder, note, "mean", "var", "count")
    statistics = RunningMeanStd(shape=mean.shape)
    statistics.mean, statistics.var, statistics.count = mean, var, float(count)
    return statistics


_SPACES: dict[str, Maker] = {
    "box.Box": _box,
    "discrete.Discrete": _discrete,
    "multi_discrete.MultiDiscrete": _multi_discrete,
    "multi_binary.MultiBinary": _multi_binary,
    "dict.Dict": _dict,
}

SB3 = Known(
    classes=_by_name(
        [
            *_classes_of(dqn_policies, policies.BasePolicy),
            *_classes_of(qrdqn_policies, policies.BasePolicy),
            *_classes_of(policies, policies.BasePolicy),
            *_classes_of(torch_layers, torch_layers.BaseFeaturesExtractor),
            *_classes_of(buffers, buffers.BaseBuffer),
            *_ACTIVATIONS,
            *_OPTIMIZERS,
        ]
    ),
    makers={
        **NUMPY,
        **{f"{library}.spaces.{name}": maker for library in ("gymnasium", "gym") for name, maker in _SPACES.items()},
        "stable_baselines3.common.utils.ConstantSchedule": _constant,
        "stable_baselines3.common.utils.LinearSchedule": _linear,
        "stable_baselines3.common.utils.FloatSchedule": _float,
        "rl_zoo3.utils.SimpleLinearSchedule": _zoo_linear,
        "stable_baselines3.common.type_aliases.TrainFreq": _train_freq,
        "stable_baselines3.common.type_aliases.TrainFrequencyUnit": _frequency_unit,
        f"{RunningMeanStd.__module__}.RunningMeanStd": _moments,
    },
)
VEC_NORMALIZE = f"{VecNormalize.__module__}.VecNormalize"
