"""
Four mechanisms behind the batch size, on frozen networks and buffers: ``python -m sbbatch.studies.mechanisms``.

Not one of the studies of ``sbbatch study run``: those are trainings whose results are returns; this one looks into the
networks and buffers of short trainings while they are in memory.

========  ==========================================================================================================
M1        variance of the loss and of the gradient of a batch against its size, for n-step returns of several n
M2        CPU time of an update against the batch size, and the line ``a + b B`` through it
M3        gradient noise scale for several n at three stages of a training
M4        mean importance weight of prioritized replay against the batch size
========  ==========================================================================================================
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th

from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.agents.dqn import DQN
from sbbatch.agents.qrdqn import QRDQN
from sbbatch.analysis.diagnostics import loss_variance
from sbbatch.analysis.figure import curve_style, log_axis, number_axes, picture, picture_files
from sbbatch.analysis.metrics import student_interval
from sbbatch.files import write_csv
from sbbatch.functional.noise_scale import gradient_noise_scale
from sbbatch.networks.torsos import MinAtarCNN
from sbbatch.replay.buffer import FrameReplayBuffer
from sbbatch.replay.samplers import PrioritizedSampler
from sbbatch.studies.games import MINATAR_PAIR

OUT = Path("docs/results/mechanisms")
SEEDS = 5
N_STEPS = (1, 3, 10)
STAGES = (100, 700, 2_000)  # gradient steps
SIZES = (4, 8, 16, 32, 64, 128)  # of M1
TIMED_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WEIGHED_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
BETAS = (0.5, 1.0)  # exponents of the importance weights
N_LOSSES, N_GRADIENTS, N_PARTS, N_TIMED, N_WEIGHED = 8_192, 24, 64, 10, 2_000
WARM_UP, EVERY = 1_000, 4  # agent steps before the first update, and between two
# Dopamine's for MinAtar, but for a higher learning rate, so that short trainings get somewhere, and no priorities.
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "buffer_size": 100_000,
    "learning_starts": WARM_UP,
    "train_freq": EVERY,
    "target_update_interval": 1_000,
    "exploration_decay_steps": 4_000,
    "exploration_final_eps": 0.05,
}
COLUMNS = ("mechanism", "quantity", "agent", "game", "seed", "updates", "n_steps", "batch_size", "value")


class Row(NamedTuple):
    """One number; what does not apply to it is empty."""

    mechanism: str
    quantity: str
    agent: str
    game: str
    seed: int
    updates: int | str
    n_steps: int | str
    batch_size: int | str
    value: float


def make_agent(name: str, game: str, seed: int) -> ReplayAgent:
    """
    :param name: ``"DQN"``, trained with n = 1, or ``"QR-DQN"``, with 51 quantiles and n = 3
    :param game: environment
    :param seed: of everything
    """
    kind, n_steps, own = (DQN, 1, {}) if name == "DQN" else (QRDQN, 3, {"n_quantiles": 51})
    optimizer = {"optimizer_kwargs": {"eps": 3.125e-4}}
    policy_kwargs = {"features_extractor_class": MinAtarCNN, **optimizer, **own}
    return kind("CnnPolicy", game, n_steps=n_steps, seed=seed, policy_kwargs=policy_kwargs, device="cpu", **SETTINGS)


def train_until(agent: ReplayAgent, updates: int) -> None:
    """Train until an agent has made so many gradient steps."""
    agent.learn(WARM_UP + EVERY * updates - agent.num_timesteps, reset_num_timesteps=False)


def loss_and_gradient_variance(agent: ReplayAgent, n_steps: int) -> Iterator[tuple[str, int, float]]:
    """
    M1, with uniform draws: what a batch of each size makes of the noise.

    :param agent: with a buffer; its own n does not matter
    :param n_steps: of the returns in the targets
    :return: quantity, batch size and value; of gradients the variance is summed over parameters
    """
    buffer = _buffer(agent, n_steps)
    with th.no_grad():
        draws = [agent._losses(buffer.sample(256))[0] for _ in range(N_LOSSES // 256)]
    losses = th.cat(draws)
    output: Any = agent.q_net.get_submodule("head.layers.output")
    n_bias, n_last = output.bias.numel(), output.bias.numel() + output.weight.numel()
    for size in SIZES:
        yield "loss variance", size, loss_variance(losses.reshape(-1, size))
        gradients, _ = agent.gradient_parts(N_GRADIENTS, size)
        variances = gradients.double().var(dim=0)
        yield "gradient variance", size, variances.sum().item()
        yield "gradient variance, last weights", size, variances[-n_last:-n_bias].sum().item()
        yield "gradient variance, last biases", size, variances[-n_bias:].sum().item()


def update_seconds(agent: ReplayAgent) -> Iterator[tuple[int, float]]:
    """M2: median CPU time of a gradient step, drawing included, at each batch size. It trains the agent."""
    for size in TIMED_SIZES:
        agent.set_batch_size(size)
        seconds = []
        for _ in range(N_TIMED):
            began = time.thread_time()
            agent.train(1, size)
            seconds.append(time.thread_time() - began)
        yield size, float(np.median(seconds))


def noise_and_signal(agent: ReplayAgent, n_steps: int) -> tuple[float, float]:
    """M3: both halves of the gradient noise scale, from 64 parts of 32 samples; see ``gradient_noise_scale``."""
    _buffer(agent, n_steps)
    return gradient_noise_scale(*agent.gradient_parts(N_PARTS, 32))


def mean_weights(agent: ReplayAgent, beta: float, seed: int) -> Iterator[tuple[int, float]]:
    """
    M4: mean importance weight of batches of each size, where each transition has the priority that its present loss
    gives it (exponent 0.5).

    :param agent: with a buffer
    :param beta: exponent of the weights
    :param seed: of the draws
    """
    buffer, rng = _buffer(agent, agent.n_steps), np.random.default_rng(seed)
    indices = buffer.newest(buffer.size())
    sampler = PrioritizedSampler(int(indices.max()) + 1, priority_exponent=0.5, importance_exponent=beta)
    sampler.add(indices)
    weights = np.ones(len(indices), dtype=np.float32)
    with th.no_grad():
        for part in np.array_split(indices, -(-len(indices) // 512)):
            losses = agent._losses(buffer._gather(part, weights[: len(part)], None))[0]
            sampler.update_priorities(part, losses.numpy())
    for size in WEIGHED_SIZES:
        draws = max(N_WEIGHED // size, 20)
        yield size, float(np.mean([sampler.sample(size, rng)[1].mean() for _ in range(draws)]))


def _buffer(agent: ReplayAgent, n_steps: int) -> FrameReplayBuffer:
    """Its buffer, which makes n-step returns from now on: it holds single steps."""
    assert isinstance(agent.replay_buffer, FrameReplayBuffer)
    agent.replay_buffer.n_steps = n_steps
    return agent.replay_buffer


def measure(game: str, seed: int) -> Iterator[Row]:
    """Everything of one game and seed, by two short trainings."""
    agent = make_agent("DQN", game, seed)
    for stage in STAGES:
        _buffer(agent, agent.n_steps)  # trained with its own n
        train_until(agent, stage)
        for n in N_STEPS:
            noise, signal = noise_and_signal(agent, n)
            of_stage = ("DQN", game, seed, stage, n, "")
            yield Row("M3", "gradient noise", *of_stage, noise)
            yield Row("M3", "gradient signal", *of_stage, signal)
    yield Row("training", "return", "DQN", game, seed, stage, 1, "", _recent_return(agent))
    timed = [agent]
    agent, stage = make_agent("QR-DQN", game, seed), STAGES[-2]
    train_until(agent, stage)
    yield Row("training", "return", "QR-DQN", game, seed, stage, 3, "", _recent_return(agent))
    for n in N_STEPS:
        for quantity, size, value in loss_and_gradient_variance(agent, n):
            yield Row("M1", quantity, "QR-DQN", game, seed, stage, n, size, value)
    for beta in BETAS:
        for size, value in mean_weights(agent, beta, seed):
            yield Row("M4", f"mean importance weight, beta {beta:g}", "QR-DQN", game, seed, stage, 3, size, value)
    for name, one in zip(("DQN", "QR-DQN"), [*timed, agent], strict=True):  # last, as it goes on training
        for size, value in update_seconds(one):
            yield Row("M2", "CPU seconds of an update", name, game, seed, "", "", size, value)


def _recent_return(agent: ReplayAgent) -> float:
    """Mean return of the last 100 training episodes."""
    return float(np.mean([episode["r"] for episode in agent.ep_info_buffer or ()]))


# ------------------------------------------------------------------------------------------------------ what comes out


class Summary(NamedTuple):
    """A line of ``summary.csv``: a mean over seeds with its 95 % interval by Student's t."""

    mechanism: str
    quantity: str
    agent: str
    game: str
    n_steps: int | str
    updates: int | str
    batch_size: int | str
    seeds: int
    value: float
    low: float
    high: float


def over_seeds(values: Sequence[float], geometric: bool = False) -> tuple[int, float, float, float]:
    """
    :param values: one of each seed
    :param geometric: mean and interval of the logarithms, as powers: of what spans orders of magnitude
    :return: how many, their mean, and its interval
    """
    array = np.log(values) if geometric else np.array(values)
    mean, half = student_interval(array)
    found = np.array([mean, mean - half, mean + half])
    mean, low, high = np.exp(found) if geometric else found
    return len(values), float(mean), float(low), float(high)


def affine_fit(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """
    ``a + b B`` with the least sum of squared relative errors; ``a`` is at least 0, ``b`` above.

    :param sizes: batch sizes
    :param seconds: of an update
    :return: ``a`` and ``b``
    """
    from scipy.optimize import nnls

    scale = 1 / np.array(seconds)
    (a, b), _ = nnls(np.stack([scale, np.array(sizes) * scale], axis=1), np.ones(len(scale)))
    return float(a), max(float(b), 1e-12)  # too few timings may show no slope at all, but a / b is wanted


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of a line through points on two logarithmic axes."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def one_sample(variances: Mapping[int, float]) -> float:
    """Variance of a single sample, from those of batches by size, if they fall as 1 / B."""
    return float(np.exp(np.mean([math.log(size * value) for size, value in variances.items()])))


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """
    :param rows: of all games and seeds
    """
    found: list[Summary] = []
    of_seed: dict[tuple[Any, ...], dict[int, dict[Any, float]]] = {}
    for row in rows:
        key = row.mechanism, row.quantity, row.agent, row.game, row.n_steps, row.updates
        of_seed.setdefault(key, {}).setdefault(row.seed, {})[row.batch_size] = row.value
    for key, seeds in of_seed.items():
        mechanism, quantity, curves = key[0], key[1], list(seeds.values())
        if mechanism == "M3" and quantity == "gradient noise":
            signals = of_seed[("M3", "gradient signal", *key[2:])]
            ratios = [seeds[seed][""] / signals[seed][""] for seed in seeds if signals[seed][""] > 0]
            if ratios:
                found.append(Summary("M3", "gradient noise scale (samples)", *key[2:], "", *over_seeds(ratios, True)))
        for size in curves[0]:
            values = [curve[size] for curve in curves]
            positive = mechanism != "training" and min(values) > 0
            found.append(Summary(*key, size, *over_seeds(values, positive)))
        if mechanism == "M1":
            slopes = [slope(list(curve), list(curve.values())) for curve in curves]
            found.append(Summary("M1", f"slope of the {quantity}", *key[2:], "", *over_seeds(slopes)))
            # In units of the same seed's single sample at n = 1, so that seeds and quantities can be compared.
            first = of_seed[(*key[:4], N_STEPS[0], key[5])]
            units = [one_sample(first[seed]) for seed in seeds]
            ratios = [one_sample(curve) / unit for curve, unit in zip(curves, units, strict=True)]
            found.append(Summary("M1", f"{quantity}, times that of n = 1", *key[2:], "", *over_seeds(ratios, True)))
            for size in curves[0]:
                shares = [curve[size] / unit for curve, unit in zip(curves, units, strict=True)]
                found.append(Summary("M1", f"{quantity}, relative", *key[2:], size, *over_seeds(shares, True)))
        if mechanism == "M2":
            fits = [affine_fit(list(curve), list(curve.values())) for curve in curves]
            for name, of_fit in (("a", 0), ("b", 1)):
                text = f"{name} of a + b B (seconds)"
                found.append(Summary("M2", text, *key[2:], "", *over_seeds([fit[of_fit] for fit in fits], True)))
            ratios = [a / b for a, b in fits]
            found.append(Summary("M2", "a / b (samples)", *key[2:], "", *over_seeds(ratios, True)))
    return found


def draw(summaries: Sequence[Summary], files: Sequence[Path]) -> None:
    """
    The four panels.

    :param summaries: see :func:`summarize`
    :param files: pictures to write
    """
    with picture(files, 10.4, 7.4) as figure:
        (first, second), (third, fourth) = figure.subplots(2, 2)
        _draw_variances(first, summaries)
        _draw_times(second, summaries)
        _draw_noise_scales(third, summaries)
        _draw_weights(fourth, summaries)
        for axes in (first, second, third, fourth):
            axes.legend(fontsize=8)
        n_seeds = max(one.seeds for one in summaries)
        caption = f"means over {n_seeds} seeds with 95 % intervals (Student's t); solid: Breakout, dashed: Asterix"
        figure.supxlabel(caption, fontsize=9.5)


def _lines(summaries: Sequence[Summary], quantity: str, x: str = "batch_size") -> Iterator[tuple[str, Any, Any, bool]]:
    """Game, ``n_steps`` and agent of each line with its points ``(4, points)``, and whether it is the first game."""
    found: dict[tuple[Any, ...], list[tuple[float, ...]]] = {}
    for one in summaries:
        if one.quantity == quantity:
            key = one.game, one.n_steps, one.agent
            found.setdefault(key, []).append((float(getattr(one, x)), one.value, one.low, one.high))
    for (game, n_steps, agent), points in found.items():
        yield agent, n_steps, np.array(points).T, game == MINATAR_PAIR[0]


def _line(axes: Any, points: Any, color: int, is_first: bool, label: str, marker: str = "o") -> None:
    style = {"color": curve_style(color)["color"], "linestyle": "-" if is_first else "--"}
    axes.plot(points[0], points[1], marker=marker, markersize=4, label=label if is_first else None, **style)
    axes.fill_between(points[0], points[2], points[3], color=style["color"], alpha=0.12, linewidth=0)


def _draw_variances(axes: Any, summaries: Sequence[Summary]) -> None:
    for quantity, marker in (("loss variance", "o"), ("gradient variance", "s")):
        for _, n, points, is_first in _lines(summaries, f"{quantity}, relative"):
            _line(axes, points, N_STEPS.index(n), is_first, f"{quantity.split()[0]}, n = {n}", marker)
    number_axes(axes, "batch size (samples)", "variance across batches\n(1: a single sample at n = 1)")
    axes.set_title("M1  variance of loss and gradient, QR-DQN")
    log_axis(axes.xaxis, base=2)
    log_axis(axes.yaxis)


def _draw_times(axes: Any, summaries: Sequence[Summary]) -> None:
    for agent, _, points, is_first in _lines(summaries, "CPU seconds of an update"):
        a, b = affine_fit(points[0], points[1])
        color = 0 if agent == "DQN" else 1
        label = f"{agent}: {1000 * a:.1f} + {1000 * b:.3f} B, a / b = {a / b:.0f}"
        _line(axes, np.concatenate([points[:1], 1000 * points[1:]]), color, is_first, label)
    number_axes(axes, "batch size B (samples)", "CPU time of an update (ms)")
    axes.set_title("M2  time of an update")
    log_axis(axes.xaxis, base=2)
    axes.set_ylim(bottom=0)


def _draw_noise_scales(axes: Any, summaries: Sequence[Summary]) -> None:
    for _, n, points, is_first in _lines(summaries, "gradient noise scale (samples)", "updates"):
        _line(axes, points, N_STEPS.index(n), is_first, f"n = {n}")
    number_axes(axes, "gradient steps trained", "gradient noise scale (samples)")
    axes.set_title("M3  gradient noise scale, DQN")
    axes.set_xticks(STAGES, [f"{stage:,}" for stage in STAGES])
    log_axis(axes.yaxis)


def _draw_weights(axes: Any, summaries: Sequence[Summary]) -> None:
    for i, beta in enumerate(BETAS):
        for _, _, points, is_first in _lines(summaries, f"mean importance weight, beta {beta:g}"):
            _line(axes, points, i, is_first, f"exponent {beta:g}")
    number_axes(axes, "batch size (samples)", "mean importance weight")
    axes.set_title("M4  prioritized replay: mean importance weight, QR-DQN")
    log_axis(axes.xaxis, base=2)
    axes.set_ylim(bottom=0)


def read_rows(path: Path) -> list[Row]:
    """
    :param path: ``mechanisms.csv``
    """
    with path.open(newline="", encoding="utf-8") as file:
        records = list(csv.DictReader(file))
    return [_row(record) for record in records]


def _row(record: Mapping[str, str]) -> Row:
    mechanism, quantity, agent, game, *counts = (record[name] for name in COLUMNS[:-1])
    seed, updates, n_steps, batch_size = (int(text) if text else "" for text in counts)
    return Row(mechanism, quantity, agent, game, int(seed), updates, n_steps, batch_size, float(record["value"]))


def main(argv: Sequence[str] | None = None) -> None:
    """
    ``python -m sbbatch.studies.mechanisms``: measure, or draw what was measured.

    :param argv: arguments (``None``: those of the process)
    """
    parser = argparse.ArgumentParser(description="M1 to M4 on MinAtar Breakout and Asterix, on one thread.")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default: {SEEDS})")
    parser.add_argument("-o", "--out", type=Path, default=OUT, help=f"folder of tables and figure (default: {OUT})")
    parser.add_argument("--draw", action="store_true", help="only draw mechanisms.csv, which is there")
    args = parser.parse_args(argv)
    table = args.out / "mechanisms.csv"
    if args.draw:
        rows = read_rows(table)
    else:
        th.set_num_threads(1)
        rows, began = [], time.process_time()
        for seed in range(args.seeds):
            for game in MINATAR_PAIR:
                rows += measure(game, seed)
                write_csv(table, COLUMNS, [[*row[:-1], f"{row.value:.6g}"] for row in rows])
                print(f"{game}, seed {seed}: {time.process_time() - began:.0f} CPU seconds so far", flush=True)
    summaries = summarize(rows)
    shown = [[*one[:-3], *(f"{value:.4g}" for value in one[-3:])] for one in summaries]
    write_csv(args.out / "summary.csv", Summary._fields, shown)
    draw(summaries, picture_files(args.out / "mechanisms"))


if __name__ == "__main__":
    main()
