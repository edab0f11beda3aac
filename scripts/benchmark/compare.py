"""``python scripts/benchmark``: our agents beside SB3's and sb3-contrib's on the same work, in one run."""

from __future__ import annotations

import gc
import itertools
import json
import platform
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import sb3_contrib
import stable_baselines3
import torch as th
from interleave import PEER, Measure, in_own_processes, interleaved, seconds_per_call, show
from rollouts import GAME, UPDATES_ALONE, cost_of_metrics, measuring, pqn
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger

from sbbatch import ALGORITHMS, QRDQN
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.envs.ale import make_ale_vec_env
from sbbatch.files import atomic_write
from sbbatch.replay import FrameReplayBuffer
from sbbatch.zoo.commands.cli import Parser, guarded
from sbbatch.zoo.logs.folders import probe_folder
from sbbatch.zoo.play.saved import agent_of_file

PEERS: dict[str, Any] = {"dqn": stable_baselines3.DQN, "qrdqn": sb3_contrib.QRDQN}
REPLAY_AGENTS = [name for name, cls in ALGORITHMS.items() if issubclass(cls, ReplayAgent)]
BATCH_SIZES = (8, 32)
# Gradient steps before measuring: with a peer enough for denormal numbers to appear (docs/speed.md), else a warm-up.
UPDATES_WITH_PEER = 1_500
EXAMPLES = """examples:
  python scripts/benchmark                                     all speeds of all agents; --algo takes one
  python scripts/benchmark --only step                         one gradient step of each agent
  python scripts/benchmark --only pqn                          PQN beside a plain one in PyTorch
  python scripts/benchmark --only measuring                    what ABS costs
  python scripts/benchmark --only metrics                      what AnalysisMetrics costs
  python scripts/benchmark --only memory --env Pong --model logs/qrdqn/ALE-Pong-v5_1/best_model.zip

Figures of two machines, or of two runs, cannot be compared; the ratios inside one run can."""


def make_replay_agent(work: str, agent: str, who: str, batch_size: int, n_updates: int) -> Measure:
    """
    A replay agent that has learned for a while on one Atari game, or its peer in the same environment.

    :param who: ``"sbbatch"``, ``"sbbatch, raw frames"`` or ``"peer"``
    :param n_updates: gradient steps before the first measurement
    :return: measures milliseconds of a gradient step (sampling included) if the work is ``"step"``, else agent steps
        per second of the whole loop (act, play, store, learn every fourth step)
    """
    cls: Any = PEERS[agent] if who == PEER else ALGORITHMS[agent]
    kwargs: dict[str, Any] = {"buffer_size": 20_000, "learning_starts": 1_000, "seed": 0, "device": "cpu"}
    if who == "sbbatch, raw frames":
        kwargs["replay_buffer_kwargs"] = {"frame_compression": None}
    env = make_ale_vec_env(GAME, 1, seed=0)
    model = cls("CnnPolicy", env, batch_size=batch_size, exploration_fraction=1e-9, **kwargs)
    model.set_logger(Logger(None, []))
    model.learn(1_000)
    model.train(gradient_steps=n_updates, batch_size=batch_size)
    if work == "step":
        return lambda: seconds_per_call(lambda: model.train(gradient_steps=1, batch_size=batch_size), 20) * 1e3
    # Going on with the count also goes on with the game.
    return lambda: 400 / seconds_per_call(lambda: model.learn(400, reset_num_timesteps=False), 1)


def speeds(work: str, agents: Iterable[str], rounds: int, n_updates: int | None) -> list[dict[str, Any]]:
    """Gradient steps or whole loops of our agents, at both batch sizes, and of their peers where they have one."""
    rows: list[dict[str, Any]] = []
    unit = "gradient step, ms" if work == "step" else "agent steps per second"

    def times_faster(one: float, other: float) -> float:
        return other / one if work == "step" else one / other

    for agent in agents:
        names = ["sbbatch"] + ["sbbatch, raw frames"] * (work == "loop") + [PEER] * (agent in PEERS)
        updates = n_updates or (UPDATES_WITH_PEER if agent in PEERS else UPDATES_ALONE)
        makers = {
            f"{who}, {batch_size}": partial(make_replay_agent, work, agent, who, batch_size, updates)
            for batch_size in BATCH_SIZES
            for who in names
        }
        figures = in_own_processes(makers, rounds)
        for batch_size in BATCH_SIZES:
            own = {who: figures[f"{who}, {batch_size}"] for who in names}
            rows.append({"what": unit, "agent": agent, "batch_size": batch_size, "after_updates": updates, **own})
            if agent in PEERS:
                rows[-1]["times_faster"] = times_faster(own["sbbatch"], own[PEER])
            show(rows[-1])
        rows.append({"what": f"{unit}: batch {BATCH_SIZES[0]} times faster than {BATCH_SIZES[1]}", "agent": agent})
        rows[-1]["times_faster"] = times_faster(*(figures[f"sbbatch, {batch_size}"] for batch_size in BATCH_SIZES))
        show(rows[-1])
    return rows


def sampling(rounds: int) -> list[dict[str, Any]]:
    """Milliseconds to draw 32 transitions with n = 3, from a small and a large buffer, raw and compressed."""
    rows = []
    for prioritized in (False, True):
        for n_transitions in (5_000, 100_000):
            buffers = {kind or "raw": _filled_buffer(n_transitions, kind, prioritized) for kind in (None, "lz4")}

            def draw(buffer: FrameReplayBuffer) -> float:
                return seconds_per_call(lambda: buffer.sample(32), 50) * 1e3

            figures = interleaved({k: lambda b=b: draw(b) for k, b in buffers.items()}, rounds)  # type: ignore[misc]
            name = "prioritized" if prioritized else "uniform"
            rows.append({"what": "sampling 32, n = 3, ms", "sampler": name, "stored": n_transitions, **figures})
            show(rows[-1])
    return rows


def _filled_buffer(n_transitions: int, compression: Literal["lz4"] | None, prioritized: bool) -> FrameReplayBuffer:
    """A buffer of a random policy's frames; the first 2,000 are played, then repeated."""
    env = make_ale_vec_env(GAME, 1, seed=0)
    settings: dict[str, Any] = {"buffer_size": n_transitions, "n_steps": 3, "prioritized": prioritized, "seed": 0}
    kwargs = {"frame_compression": compression}
    model: Any = QRDQN("CnnPolicy", env, learning_starts=n_transitions, replay_buffer_kwargs=kwargs, **settings)
    buffer = model.replay_buffer
    assert isinstance(buffer, FrameReplayBuffer)
    played = list(itertools.islice(_transitions(env, _at_random(env)), 2_000))
    for i in range(n_transitions):
        buffer.add(*played[i % len(played)])
    env.close()
    return buffer


def _at_random(env: Any) -> Callable[[Any], np.ndarray]:
    rng = np.random.default_rng(0)
    return lambda _: rng.integers(env.action_space.n, size=env.num_envs)


def _transitions(env: Any, choose: Callable[[Any], np.ndarray]) -> Iterator[tuple[Any, ...]]:
    """What SB3's loop hands to ``add``, without end."""
    observations = env.reset()
    while True:
        actions = choose(observations)
        following, rewards, dones, infos = env.step(actions)
        final = following.copy()
        for index in np.flatnonzero(dones):
            final[index] = infos[index]["terminal_observation"]
        yield observations, final, actions, rewards, dones, infos
        observations = following


def memory(
    game: str, model_path: Path | None, n_transitions: int, compression: Literal["lz4"] | None
) -> dict[str, Any]:
    """
    Growth of the process while a buffer is filled, scaled to a million transitions.

    :param model_path: a trained model that plays, with epsilon 0.05; without one a random policy does
    """
    env = make_ale_vec_env(game, 8, seed=0)
    player: Any = None if model_path is None else agent_of_file(model_path, "qrdqn", game).load("cpu")
    if player is not None:
        player.exploration_rate = 0.05
    choose = _at_random(env) if player is None else lambda observations: player.predict(observations)[0]
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    options: dict[str, Any] = {"n_steps": 3, "frame_stack": 4, "frame_compression": compression}
    buffer = FrameReplayBuffer(n_transitions, env.observation_space, env.action_space, "cpu", 8, **options)
    returns = []
    for transition in itertools.islice(_transitions(env, choose), n_transitions // 8):
        buffer.add(*transition)
        returns += [info["episode"]["r"] for info in transition[-1] if "episode" in info]
    grown = process.memory_info().rss - before
    row = {
        "what": "memory",
        "game": game,
        "frames": compression or "raw",
        "player": "random" if model_path is None else "trained",
        "mean_return": float(np.mean(returns)) if returns else None,
        "stored": n_transitions,
        "gb_per_million": grown / n_transitions * 1e6 / 1e9,
        "sb3_gb_per_million": ReplayBuffer(1, env.observation_space, env.action_space).observations.nbytes * 2 / 1e3,
    }
    show(row)
    return row


def make_parser() -> Parser:
    """The options."""
    description = "Measure our agents beside SB3's and sb3-contrib's on the same work, in one run."
    parser = Parser(prog="scripts/benchmark", description=description, epilog=EXAMPLES)
    add = parser.add_argument
    parts = ["step", "loop", "pqn", "measuring", "metrics", "sample", "memory"]
    add("--only", choices=parts, help="one part (default: step, loop and sample)")
    add("--algo", choices=REPLAY_AGENTS, help="one agent that learns from replay (default: all)")
    add("--rounds", type=int, default=5, help="rounds of each median")
    add("--updates", type=int, help="gradient steps before measuring (default: enough)")
    add("--num-threads", type=int, help="threads for PyTorch")
    add("--env", default=GAME, help="memory: game")
    add("--model", type=Path, help="memory: the model that plays (default: a random policy)")
    add("--transitions", type=int, default=200_000, help="memory: how many to store")
    add("--raw", action="store_true", help="memory: frames not compressed")
    add("--json", type=Path, help="also write the rows to this file")
    return parser


@guarded
def main(argv: list[str] | None = None) -> int:
    """``python scripts/benchmark``. Returns the exit code."""
    args = make_parser().parse_args(argv)
    if args.num_threads is not None:
        th.set_num_threads(args.num_threads)
    if args.json is not None:
        probe_folder(args.json.parent, "--json")  # before the work, not after it
    versions = {"torch": th.__version__, "stable_baselines3": stable_baselines3.__version__}
    rows: list[dict[str, Any]] = [
        {"what": "machine", "cpus": psutil.cpu_count(), "threads": th.get_num_threads(), **versions}
        | {"python": platform.python_version()}
    ]
    show(rows[0])
    agents = [args.algo] if args.algo else REPLAY_AGENTS
    parts: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "step": lambda: speeds("step", agents, args.rounds, args.updates),
        "loop": lambda: speeds("loop", [args.algo] if args.algo else PEERS, args.rounds, args.updates),
        "pqn": lambda: pqn(args.rounds, args.updates),
        "measuring": lambda: measuring(args.rounds),
        "metrics": lambda: cost_of_metrics(args.rounds),
        "sample": lambda: sampling(args.rounds),
        "memory": lambda: [memory(args.env, args.model, args.transitions, None if args.raw else "lz4")],
    }
    for part in [args.only] if args.only else ["step", "loop", "sample"]:
        rows += parts[part]()
    if args.json is not None:
        with atomic_write(args.json) as file:
            file.write(json.dumps(rows, indent=1).encode())
    return 0
