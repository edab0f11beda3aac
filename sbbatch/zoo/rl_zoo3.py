"""The agents of sbbatch inside an installed rl-baselines3-zoo: its own train, enjoy and hyperparameter search."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sbbatch
from sbbatch.arguments import declared
from sbbatch.envs.atari import atari_game, get_protocol
from sbbatch.envs.make import make_gym_env
from sbbatch.errors import InvalidValue
from sbbatch.settings.resolution import (
    Settings,
    constructor_values,
    convert,
    require_algorithm,
    resolve,
    run_protocol,
    run_value,
)
from sbbatch.zoo.run.build import default_policy
from sbbatch.zoo.tune.space import Space, for_environments, read_space

# Where the zoo looks for the hyperparameters of an agent that has no YAML file there: a module with this name in it.
hyperparams: dict[str, Any] = {}
_HOME = "sbbatch.zoo.rl_zoo3"  # also when it is run as a program

COMMANDS = {
    "train": ("rl_zoo3.train", "train"),
    "enjoy": ("rl_zoo3.enjoy", "enjoy"),
    "plot_train": ("rl_zoo3.plots", "plot_train"),
    "plot_from_file": ("rl_zoo3.plots", "plot_from_file"),
    "all_plots": ("rl_zoo3.plots", "all_plots"),
}
_SCHEDULES = ("learning_rate", "clip_range", "clip_range_vf")
# What the zoo's enjoy gives to `load` in the place of things that old files of SB3 cannot be read with.
_STAND_INS = {"learning_rate", "lr_schedule", "clip_range"}


class ForZoo:
    """What an agent of ours needs to be loaded by the zoo's enjoy; first base of the classes in its ``ALGOS``."""

    @classmethod
    def load(cls, path: Any, env: Any = None, *args: Any, custom_objects: Any = None, **kwargs: Any) -> Any:
        """As the agent's; what the zoo replaces in old files of SB3 is kept, and so is the size of the memory."""
        kept = {name: value for name, value in (custom_objects or {}).items() if name not in _STAND_INS}
        if env is None:  # to play; the zoo makes the memory as small as it can, we make none
            kwargs = {
                key: value for key, value in kwargs.items() if key not in ("buffer_size", "optimize_memory_usage")
            }
        return super().load(path, env, *args, custom_objects=kept, **kwargs)  # type: ignore[misc]


def register(replace: bool = False) -> list[str]:
    """
    Make the agents of sbbatch known to an installed rl-baselines3-zoo (rl_zoo3): to its ``train``, its ``enjoy`` and
    its hyperparameter search. A second call changes nothing.

    :param replace: let ours also stand in for the zoo's agents of the same name (dqn, qrdqn, ppo), with the zoo's
        hyperparameters and search spaces; otherwise ours are only ``sbbatch_dqn``, ``sbbatch_qrdqn``, ``sbbatch_ppo``
    :return: the names under which the zoo knows them
    :raises InvalidValue: rl_zoo3 is not installed
    """
    _require_zoo()
    from rl_zoo3.exp_manager import ExperimentManager
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
    from rl_zoo3.utils import ALGOS

    names = []
    for algo, cls in sbbatch.ALGORITHMS.items():
        taken = algo in ALGOS and not issubclass(ALGOS[algo], ForZoo)
        known = {"sbbatch_" + algo if taken or "sbbatch_" + algo in ALGOS else algo}
        for name in sorted(known | ({algo} if replace else set())):
            ALGOS[name] = _for_zoo(cls)
            HYPERPARAMS_SAMPLER.setdefault(name, sampler(algo))
            HYPERPARAMS_CONVERTER.setdefault(name, converter(algo))
            names.append(name)
    if not hasattr(ExperimentManager, "_of_sbbatch"):
        ExperimentManager._of_sbbatch = True
        ExperimentManager.read_hyperparameters = _finding_ours(ExperimentManager.read_hyperparameters)
    return names


def _require_zoo() -> None:
    if importlib.util.find_spec("rl_zoo3") is None:
        raise InvalidValue("rl-baselines3-zoo is not installed; run pip install 'sbbatch[zoo]'")


def _for_zoo(cls: type) -> type:
    # The name and the module go into model files: it is the same agent.
    return type(cls.__name__, (ForZoo, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def zoo_space(algo: str) -> Space:
    """The space ``full`` without the network: the zoo would take one entry of ``policy_kwargs`` for all of them."""
    space = read_space("full", algo)
    return Space(space.name, {key: entry for key, entry in space.entries.items() if "." not in key})


def sampler(algo: str) -> Callable[..., dict[str, Any]]:
    """What the zoo calls with a trial, the number of actions, of environments and more arguments."""
    space = zoo_space(algo)

    def sample(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
        values = for_environments(space, n_envs).suggest(trial)
        for name in set(values) - set(trial.params):  # show what the agent really gets, as the zoo does
            trial.set_user_attr(name, values[name])
        return _arguments(algo, values)

    return sample


def converter(algo: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What the zoo calls with the parameters of a trial as Optuna keeps them."""
    space = zoo_space(algo)
    return lambda params: _arguments(algo, space.values(params))


def _arguments(algo: str, values: dict[str, Any]) -> dict[str, Any]:
    """``double`` -> ``Double()``."""
    known = declared(require_algorithm(algo))
    return {name: convert(name, value, known[name]) for name, value in values.items()}


def _finding_ours(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The zoo's ``read_hyperparameters``, which looks for ours where the zoo has no file and the user gave none."""

    def read_hyperparameters(manager: Any) -> Any:
        algo = manager.algo.removeprefix("sbbatch_")
        default = Path(sys.modules[type(manager).__module__].__file__ or "").parent / f"hyperparams/{manager.algo}.yml"
        if algo in sbbatch.ALGORITHMS and manager.config == str(default) and not default.exists():
            env_id = manager.env_name.gym_id
            ours = hyperparameters(algo, env_id, manager.n_timesteps)
            vars(importlib.import_module(_HOME))["hyperparams"] = {env_id: ours}
            manager.config = _HOME
            if manager._eval_env_kwargs_args is None:  # the zoo gives those of a file to the training games only
                manager.eval_env_kwargs = ours.get("env_kwargs", {})
        return read(manager)

    return read_hyperparameters


def hyperparameters(algo: str, env_id: str, n_timesteps: int = -1) -> dict[str, Any]:
    """
    Our hyperparameters as the zoo takes them.

    :param algo: name of the algorithm
    :param env_id: environment
    :param n_timesteps: agent steps (-1: as in our file)
    :raises UserError: there are none for this environment and no number of steps was given
    """
    settings = resolve(algo, env_id, {"n_timesteps": n_timesteps} if n_timesteps > 0 else {})
    values = constructor_values(settings) | _schedules(settings)
    for key in ("n_timesteps", "n_envs", "frame_stack", "normalize"):
        if run_value(settings, key) is not None:
            values[key] = run_value(settings, key)
    game = atari_game(env_id)
    policy = "CnnPolicy" if game else default_policy(make_gym_env(env_id).observation_space)
    values["policy"] = run_value(settings, "policy", policy)
    if game:
        values |= _of_atari(run_protocol(env_id, require_algorithm(algo), settings) or "dopamine")
    return values


def _schedules(settings: Settings) -> dict[str, Any]:
    """The zoo reads them from text, and knows those that fall to 0."""
    found = {}
    for key in _SCHEDULES:
        setting = settings.get(key)
        if setting is None or not setting.explicit or isinstance(setting.value, (int, float)):
            continue
        text = str(setting.given)
        if not text.startswith("lin_") or text.count("_") != 1:
            raise InvalidValue(f"{setting.origin} {key}: got {text}, which rl_zoo3 cannot read; it knows lin_VALUE")
        found[key] = text
    return found


def _of_atari(protocol: str) -> dict[str, Any]:
    """The protocol as wrappers around Gymnasium's environment, and what that is made with."""
    rules = get_protocol(protocol)
    return {
        "frame_stack": rules.frame_stack,
        "env_wrapper": [{"sbbatch.zoo.play.screen.training_screens": {"protocol": protocol}}],
        "env_kwargs": {
            "frameskip": 1,
            "repeat_action_probability": rules.sticky_actions,
            "full_action_space": rules.full_action_space,
            "max_num_frames_per_episode": rules.max_frames,
        },
    }
