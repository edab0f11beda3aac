"""Speed of agents that learn from rollouts, and what Adaptive Batch Scaling costs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from contest import contest, interleaved, seconds_per_call, show
from plain_pqn import PlainPQN
from stable_baselines3.common.logger import Logger

from sbbatch import PQN, QRDQN
from sbbatch.envs.ale import make_ale_vec_env

GAME = "Pong"
UPDATES_ALONE = 50  # gradient steps before measuring: a warm-up
PQN_PEER = "plain PyTorch PQN in CleanRL's form"
PQN_SIZES = {"n_envs": 8, "n_steps": 128, "n_minibatches": 4, "n_epochs": 4}  # CleanRL's defaults


@dataclass(frozen=True)
class PQNContestant:
    """
    PQN, or a plain one.

    :param who: ``"sbbatch"`` or ``"peer"``
    :param n_envs: copies of the game
    :param n_steps: steps of each in a rollout
    :param n_minibatches: parts that a rollout is learned in
    :param n_epochs: passes over a rollout
    :param n_updates: gradient steps before the first measurement, at least
    :param n_threads: threads for PyTorch
    """

    who: str
    n_envs: int
    n_steps: int
    n_minibatches: int
    n_epochs: int
    n_updates: int
    n_threads: int

    def make(self) -> Callable[[int], Any]:
        """Plays and learns as many agent steps as it is told; both in the same environment."""
        env = make_ale_vec_env(GAME, self.n_envs, seed=0)
        sizes: dict[str, Any] = {
            "n_steps": self.n_steps,
            "n_minibatches": self.n_minibatches,
            "n_epochs": self.n_epochs,
        }
        if self.who == "peer":
            learn: Callable[[int], Any] = PlainPQN(env, **sizes).learn
        else:
            model = PQN("CnnPolicy", env, seed=0, device="cpu", **sizes)
            model.set_logger(Logger(None, []))
            learn = functools.partial(model.learn, reset_num_timesteps=False)
        rollouts = -(-self.n_updates // (self.n_minibatches * self.n_epochs))
        learn(rollouts * self.n_envs * self.n_steps)
        return learn

    def figure(self, model: Callable[[int], Any]) -> float:
        """
        :param model: what :meth:`make` made
        :return: agent steps per second of a rollout and what is learned from it
        """
        n = self.n_envs * self.n_steps
        return n / seconds_per_call(lambda: model(n), 1)


def pqn(rounds: int, n_updates: int | None, sizes: dict[str, int] = PQN_SIZES) -> list[dict[str, Any]]:
    """
    PQN's whole loop beside the plain one's.

    :param rounds: rounds of the median
    :param n_updates: gradient steps before the first measurement; None for a warm-up
    :param sizes: of the rollout, as :class:`PQNContestant` names them
    """
    updates = n_updates or UPDATES_ALONE
    names = {"sbbatch": "sbbatch", "peer": PQN_PEER}
    contestants = [PQNContestant(who, **sizes, n_updates=updates, n_threads=th.get_num_threads()) for who in names]
    figures = dict(zip(names.values(), contest(contestants, rounds), strict=True))
    row = {"what": "agent steps per second", "agent": "pqn", **sizes, "after_updates": updates, **figures}
    row["times_faster"] = figures["sbbatch"] / figures[PQN_PEER]
    show(row)
    return [row]


def measuring(rounds: int) -> list[dict[str, Any]]:
    """
    Seconds of one measurement of ABS and of the training between two, at each agent's own interval.

    The training of PQN is timed at the shortest rollouts, where a measurement weighs most.

    :param rounds: rounds of the median
    """
    pqn = PQN("CnnPolicy", make_ale_vec_env(GAME, 128, seed=0), n_steps=16, seed=0, device="cpu")
    qrdqn = QRDQN(
        "CnnPolicy", make_ale_vec_env(GAME, 1, seed=0), batch_size=16, learning_starts=3_000, seed=0, device="cpu"
    )
    rows = []
    for agent, name, n_timesteps in ((pqn, "pqn", 16 * 128), (qrdqn, "qrdqn", 1_000)):
        agent.set_logger(Logger(None, []))
        agent.learn(3_500)
        rows.append(_cost(agent, name, n_timesteps, rounds))
        show(rows[-1])
    return rows


def _cost(agent: Any, name: str, n_timesteps: int, rounds: int) -> dict[str, Any]:
    scaling, rng = agent.batch_scaling, np.random.default_rng(0)

    def measure() -> None:
        probe = agent.probe_observations(2_048, rng)
        agent.divergence(agent.behavior(probe), agent.behavior(probe))

    work = {
        "measurement": lambda: seconds_per_call(measure, 1),
        "training": lambda: seconds_per_call(lambda: agent.learn(n_timesteps, reset_num_timesteps=False), 1),
    }
    seconds = interleaved(work, rounds)
    per_clock = 1 if scaling.size_name == "n_steps" else n_timesteps  # one rollout was timed, or agent steps
    between = seconds["training"] / per_clock * scaling.check_every
    share = seconds["measurement"] / between
    return {
        "what": "measuring for ABS, s",
        "agent": name,
        "measurement": seconds["measurement"],
        "training_between_two": between,
        "percent": 100 * share,
    }
