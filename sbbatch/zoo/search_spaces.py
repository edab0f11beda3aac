"""What rl-baselines3-zoo's hyperparameter search may try on our agents: functions of a trial, in its form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Sampler = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]
Converter = Callable[[dict[str, Any]], dict[str, Any]]


def convert(sampled: dict[str, Any]) -> dict[str, Any]:
    """
    The parameters of a trial as arguments of an agent.

    :param sampled: name -> value; ``<name>_pow`` stands for a power of two, ``one_minus_<name>`` for the rest to 1
    """
    arguments = {}
    for name, value in sampled.items():
        if name.endswith("_pow"):
            arguments[name.removesuffix("_pow")] = 2**value
        elif name.startswith("one_minus_"):
            arguments[name.removeprefix("one_minus_")] = 1 - value
        else:
            arguments[name] = value
    return arguments


def sample_replay(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Agents that learn from replay: batch size, learning rate and n-step return, and what depends on them. The network
    stays as it is.

    :param trial: Optuna's
    :param n_actions: unused, the zoo gives it to every sampler
    :param n_envs: likewise
    :param additional_args: likewise
    """
    sampled = {
        "batch_size_pow": trial.suggest_int("batch_size_pow", 2, 8),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
        "n_steps": trial.suggest_int("n_steps", 1, 10),
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 1e-3, 0.1, log=True),
        "target_update_interval": trial.suggest_int("target_update_interval", 10, 10_000, log=True),
        "train_freq_pow": trial.suggest_int("train_freq_pow", 0, 4),
        "gradient_steps": trial.suggest_categorical("gradient_steps", [1, -1]),
    }
    return _told(trial, convert(sampled))


def sample_pqn(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    PQN: steps and minibatches of a rollout are powers of two, and there are at least as many steps.

    :param trial: Optuna's
    :param n_actions: unused, the zoo gives it to every sampler
    :param n_envs: likewise
    :param additional_args: likewise
    """
    sampled = {
        "n_steps_pow": trial.suggest_int("n_steps_pow", 3, 7),
        "n_minibatches_pow": trial.suggest_int("n_minibatches_pow", 0, 3),
        "n_epochs": trial.suggest_int("n_epochs", 1, 4),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 1e-3, 0.1, log=True),
        "q_lambda": trial.suggest_float("q_lambda", 0.0, 1.0),
    }
    return _told(trial, convert(sampled))


def sample_ppo(trial: Any, *others: Any) -> dict[str, Any]:
    """The zoo's own: our PPO has SB3's arguments."""
    from rl_zoo3.hyperparams_opt import sample_ppo_params

    return sample_ppo_params(trial, *others)


def convert_ppo(sampled: dict[str, Any]) -> dict[str, Any]:
    """The zoo's own."""
    from rl_zoo3.hyperparams_opt import convert_onpolicy_params

    return convert_onpolicy_params(sampled)


def _told(trial: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Show what the agent really got, as the zoo does."""
    for name in set(arguments) - set(trial.params):
        trial.set_user_attr(name, arguments[name])
    return arguments


# An agent that is not named learns from replay.
SAMPLERS: dict[str, Sampler] = {"dqn": sample_replay, "pqn": sample_pqn, "ppo": sample_ppo}
CONVERTERS: dict[str, Converter] = {"dqn": convert, "pqn": convert, "ppo": convert_ppo}
