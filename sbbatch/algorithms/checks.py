"""What the arguments of a value-based agent may be; checked before anything is built."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.type_aliases import TrainFreq

from sbbatch.errors import InvalidType, InvalidValue, check_int, check_number


def check_arguments(arguments: dict[str, Any]) -> None:
    """
    :param arguments: constructor arguments by name, agent steps unless their docstring says otherwise
    :raises InvalidValue: a value that is not allowed
    :raises InvalidType: a value of the wrong type
    """
    for name in ("buffer_size", "batch_size", "n_steps", "target_update_interval"):
        check_int(name, arguments[name], 1)
    check_int("learning_starts", arguments["learning_starts"], 0)
    check_int("gradient_steps", arguments["gradient_steps"], -1)
    check_number("gamma", arguments["gamma"], 0.0, 1.0)
    check_number("tau", arguments["tau"], 0.0, 1.0)
    for name in ("exploration_fraction", "exploration_initial_eps", "exploration_final_eps"):
        check_number(name, arguments[name], 0.0, 1.0)
    if not callable(arguments["learning_rate"]):
        check_number("learning_rate", arguments["learning_rate"], 0.0, 1.0, open_low=True)
    if arguments["max_grad_norm"] is not None:
        check_number("max_grad_norm", arguments["max_grad_norm"], 0.0, open_low=True)
    if arguments["exploration_decay_steps"] is not None:
        check_int("exploration_decay_steps", arguments["exploration_decay_steps"], 1)
        if arguments["exploration_initial_eps"] != 1.0:
            raise InvalidValue(
                "exploration_initial_eps: must be 1 with exploration_decay_steps, whose schedule starts there"
            )
    if not isinstance(arguments["prioritized"], bool):
        raise InvalidType(f"prioritized: got {arguments['prioritized']!r}, expected True or False")
    if not callable(arguments["bootstrap"]):
        raise InvalidType(f"bootstrap: got {arguments['bootstrap']!r}, expected an object such as Greedy()")
    if arguments["seed"] is not None:
        check_int("seed", arguments["seed"], 0, 2**32 - 1)
    check_train_freq(arguments["train_freq"])
    check_batch_size(arguments["batch_size"], arguments["buffer_size"])


def check_batch_size(batch_size: object, buffer_size: int) -> int:
    """
    :param batch_size: samples per gradient step
    :param buffer_size: transitions the replay buffer holds
    :raises InvalidValue: below 1, or more than the buffer holds
    """
    checked = check_int("batch_size", batch_size, 1)
    if checked > buffer_size:
        raise InvalidValue(f"batch_size: got {checked}, expected at most buffer_size = {buffer_size}")
    return checked


def check_train_freq(train_freq: object) -> None:
    """
    :param train_freq: vector steps between updates, or ``(n, "step")``, or ``(n, "episode")``
    :raises InvalidValue: the frequency is below 1, or the unit is unknown
    """
    if isinstance(train_freq, TrainFreq):
        return
    frequency, unit = train_freq if isinstance(train_freq, tuple) and len(train_freq) == 2 else (train_freq, "step")
    check_int("train_freq", frequency, 1)
    if unit not in ("step", "episode"):
        raise InvalidValue(f"train_freq: got unit {unit!r}, expected 'step' or 'episode'")
