"""The space ``full`` of ``hyperparams/spaces.yml`` in the form of rl-baselines3-zoo's hyperparameter search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sbbatch.settings.resolution import require_algorithm
from sbbatch.settings.schema import convert, keyword_arguments
from sbbatch.zoo.tune.space import Space, read_space

Sampler = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]
Converter = Callable[[dict[str, Any]], dict[str, Any]]


def zoo_space(algo: str) -> Space:
    """
    What the zoo may try on an agent. The network stays as it is: the zoo would take a single entry of ``policy_kwargs``
    for all of them.

    :param algo: name of the algorithm
    """
    space = read_space("full", algo)
    axes = tuple(axis for axis in space.axes if "." not in axis.key)
    return Space(space.name, axes, {key: value for key, value in space.fixed.items() if "." not in key})


def sampler(algo: str) -> Sampler:
    """
    :param algo: name of the algorithm
    :return: what the zoo calls with a trial, the number of actions, of environments and more arguments
    """
    space = zoo_space(algo)

    def sample(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
        values = space.fixed | space.suggest(trial)
        for name in set(values) - set(trial.params):  # show what the agent really gets, as the zoo does
            trial.set_user_attr(name, values[name])
        return _arguments(algo, values)

    return sample


def converter(algo: str) -> Converter:
    """
    :param algo: name of the algorithm
    :return: what the zoo calls with the parameters of a trial as Optuna keeps them
    """
    space = zoo_space(algo)
    return lambda params: _arguments(algo, space.fixed | space.values(params))


def _arguments(algo: str, values: dict[str, Any]) -> dict[str, Any]:
    """``double`` -> ``Double()``."""
    known = keyword_arguments(require_algorithm(algo))
    return {name: convert(name, value, known[name]) for name, value in values.items()}
