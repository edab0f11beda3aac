"""Speed of agents that learn from rollouts, and what Adaptive Batch Scaling costs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from interleave import PEER, Measure, in_own_processes, interleaved, seconds_per_call, show
from plain_pqn import PlainPQN
from stable_baselines3.common.logger import Logger

from sbbatch import PQN, QRDQN, AnalysisMetrics
from sbbatch.analysis.look import GradientNorm
from sbbatch.analysis.metrics_callback import NORM_EVERY
from sbbatch.envs.ale import make_ale_vec_env
from sbbatch.networks.torsos import MinAtarCNN

GAME = "Pong"
UPDATES_ALONE = 50  # gradient steps before measuring: a warm-up
PQN_PEER = f"{PEER}, plain PyTorch PQN in CleanRL's form"
PQN_SIZES = {"n_envs": 8, "n_steps": 128, "n_minibatches": 4, "n_epochs": 4}  # CleanRL's defaults


def make_pqn(plain: bool, n_updates: int, *, n_envs: int, n_steps: int, n_minibatches: int, n_epochs: int) -> Measure:
    """
    PQN, or a plain one in the same environment.

    :param n_updates: gradient steps before the first measurement, at least
    :return: measures agent steps per second of a rollout and what is learned from it
    """
    env = make_ale_vec_env(GAME, n_envs, seed=0)
    sizes: dict[str, Any] = {"n_steps": n_steps, "n_minibatches": n_minibatches, "n_epochs": n_epochs}
    if plain:
        learn: Callable[[int], Any] = PlainPQN(env, **sizes).learn
    else:
        model = PQN("CnnPolicy", env, seed=0, device="cpu", **sizes)
        model.set_logger(Logger(None, []))
        learn = functools.partial(model.learn, reset_num_timesteps=False)
    n = n_envs * n_steps
    learn(-(-n_updates // (n_minibatches * n_epochs)) * n)
    return lambda: n / seconds_per_call(lambda: learn(n), 1)


def pqn(rounds: int, n_updates: int | None) -> list[dict[str, Any]]:
    """PQN's whole loop beside the plain one's, after so many gradient steps (``None``: a warm-up)."""
    updates = n_updates or UPDATES_ALONE
    names = {"sbbatch": False, PQN_PEER: True}
    makers = {name: functools.partial(make_pqn, plain, updates, **PQN_SIZES) for name, plain in names.items()}
    speeds = in_own_processes(makers, rounds)
    row = {"what": "agent steps per second", "agent": "pqn", **PQN_SIZES, "after_updates": updates, **speeds}
    row["times_faster"] = speeds["sbbatch"] / speeds[PQN_PEER]
    show(row)
    return [row]


def measuring(rounds: int) -> list[dict[str, Any]]:
    """
    Seconds of one measurement of ABS and of the training between two, at each agent's own interval; of PQN at the
    shortest rollouts, where a measurement weighs most.
    """
    pqn = PQN("CnnPolicy", make_ale_vec_env(GAME, 128, seed=0), n_steps=16, seed=0, device="cpu")
    options = {"batch_size": 16, "learning_starts": 3_000, "seed": 0, "device": "cpu"}
    qrdqn = QRDQN("CnnPolicy", make_ale_vec_env(GAME, 1, seed=0), **options)  # type: ignore[arg-type]
    rows = []
    for agent, name, n_timesteps in ((pqn, "pqn", 16 * 128), (qrdqn, "qrdqn", 1_000)):
        agent.set_logger(Logger(None, []))
        agent.learn(3_500)
        rows.append(cost_of_measuring(agent, name, n_timesteps, rounds))
        show(rows[-1])
    return rows


def cost_of_measuring(agent: Any, name: str, n_timesteps: int, rounds: int) -> dict[str, Any]:
    """A row for an agent that has learned; ``n_timesteps`` are timed: a rollout, or any number with replay."""
    scaling, rng = agent.batch_scaling, np.random.default_rng(0)

    def measure() -> None:
        probe = agent.probe_observations(2_048, rng)
        agent.divergence(agent.behavior(probe), agent.behavior(probe))

    work: dict[str, Measure] = {
        "measurement": lambda: seconds_per_call(measure, 1),
        "training": lambda: seconds_per_call(lambda: agent.learn(n_timesteps, reset_num_timesteps=False), 1),
    }
    seconds = interleaved(work, rounds)
    timed = 1 if scaling.size_name == "n_steps" else n_timesteps  # rollouts, or agent steps
    between = seconds["training"] / timed * scaling.check_every
    row = {"what": "measuring for ABS, s", "agent": name, "measurement": seconds["measurement"]}
    return row | {"training_between_two": between, "percent": 100 * seconds["measurement"] / between}


def cost_of_metrics(rounds: int) -> list[dict[str, Any]]:
    """Seconds of a row of ``AnalysisMetrics`` and of the training between two, on a MinAtar and an Atari network."""
    options: dict[str, Any] = {"batch_size": 8, "n_steps": 3, "learning_starts": 3_000, "seed": 0, "device": "cpu"}
    small = {"features_extractor_class": MinAtarCNN, "n_quantiles": 51}
    minatar = QRDQN("CnnPolicy", "MinAtar/Breakout-v1", policy_kwargs=small, buffer_size=20_000, **options)
    atari = QRDQN("CnnPolicy", make_ale_vec_env(GAME, 1, seed=0), buffer_size=20_000, **options)
    rows = []
    for agent, name in ((minatar, "qrdqn, MinAtar, 51 quantiles"), (atari, "qrdqn, Atari, 200 quantiles")):
        agent.set_logger(Logger(None, []))
        agent.learn(3_100)
        callback = AnalysisMetrics()
        callback.init_callback(agent)
        callback.on_training_start({}, {})
        callback.on_rollout_start()
        work: dict[str, Measure] = {
            "row": lambda callback=callback: seconds_per_call(callback.measure, 1),  # type: ignore[misc]
            "norm": lambda agent=agent: seconds_per_call(lambda: _one_norm(agent), 5),  # type: ignore[misc]
            "update": lambda agent=agent: (
                seconds_per_call(  # type: ignore[misc]
                    lambda: agent.learn(400, reset_num_timesteps=False), 1
                )
                / 100
            ),
        }
        callback.on_training_end()
        seconds = interleaved(work, rounds)
        per_update = seconds["row"] / callback.every + seconds["norm"] / NORM_EVERY
        row = {"what": "AnalysisMetrics, s", "agent": name, **seconds, "percent": 100 * per_update / seconds["update"]}
        rows.append(row)
        show(row)
    return rows


def _one_norm(agent: Any) -> float:
    parameters = list(agent.q_net.parameters())
    norm = GradientNorm(parameters)
    for parameter in parameters:
        norm.note(parameter)
    return norm.take()
