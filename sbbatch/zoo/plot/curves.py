"""The learning curve of one run, drawn from the files it left."""

from __future__ import annotations

import csv
import io
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.commands.cli import Parser, guarded
from sbbatch.zoo.logs.folders import BATCH_LOG_NAME

CURVE_NAME = "learning_curve.png"
EPILOG = """examples:
  sbbatch plot logs/qrdqn/ALE-Breakout-v5_1                one run: training episodes and evaluations
  sbbatch plot train logs/dqn/CartPole-v1_*                training episodes, mean over seeds, 95 % intervals
  sbbatch plot compare logs/*/MinAtar-Breakout-v1_*        evaluations of several agents over seeds
  sbbatch plot batch logs/pqn/CartPole-v1_1                return, divergence and batch size on one time axis

`sbbatch plot train --help` and so on list their options. A run folder that is itself called train, compare or batch is
./train and so on."""
_RUNNING_MEAN_EPISODES = 20
_LEFT_BY_A_RUN = ("*monitor.csv", "evaluations.npz", BATCH_LOG_NAME, "*/args.yml")
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom: evaluations are a handful of games.
# fmt: off
_STUDENT_95 = np.array([
    12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13,
    2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04,
])
# fmt: on


@dataclass(frozen=True)
class Curve:
    """
    What a run's files say.

    :param episode_steps: agent steps at the end of each training episode
    :param episode_returns: raw return of each training episode
    :param evaluation_steps: agent steps at each evaluation
    :param evaluation_returns: raw returns, ``(evaluations, games)``
    """

    episode_steps: np.ndarray
    episode_returns: np.ndarray
    evaluation_steps: np.ndarray
    evaluation_returns: np.ndarray


def plot_run(folder: Path | str, out: Path | None = None, title: str | None = None) -> Path:
    """
    Draw training episodes and evaluations against agent steps.

    :param folder: a run's folder
    :param out: the PNG, PDF or SVG to write (``None``: ``learning_curve.png`` in the folder)
    :param title: above the curve (``None``: algorithm, environment and run as the folders name them)
    :return: the picture
    :raises UserError: no such folder, nothing to draw, or matplotlib is missing
    """
    folder = Path(folder)
    require_run_folder(folder)
    out = output_file(out or folder / CURVE_NAME, ".png", ".pdf", ".svg")
    curve = read_curve(folder)
    if not len(curve.episode_steps) and not len(curve.evaluation_steps):
        raise InvalidValue(f"{folder}: neither an episode nor an evaluation has ended yet, so there is nothing to draw")
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    draw_curve(axes, curve)
    path = folder.resolve()
    # A dollar sign is a dollar sign.
    axes.set_title(title or f"{path.parent.name} on {environment_of(path)} ({path.name})", parse_math=False)
    with atomic_write(out) as file:
        figure.savefig(file, dpi=120, format=out.suffix[1:].lower())
    return out


def require_run_folder(folder: Path) -> None:
    """
    :param folder: what was given as a run's folder
    :raises InvalidValue: there is none, or no run has written into it
    """
    if not folder.is_dir():
        raise InvalidValue(f"no such run folder: {folder}")
    if not any(any(folder.glob(pattern)) for pattern in _LEFT_BY_A_RUN):
        raise InvalidValue(f"{folder}: not the folder of a run, e.g. logs/qrdqn/ALE-Breakout-v5_1")


def read_curve(folder: Path) -> Curve:
    """
    Read ``evaluations.npz`` and the monitor files of a run; a missing file is an empty part of the curve.

    :param folder: a run's folder
    :raises InvalidValue: a file is damaged
    """
    episode_steps, episode_returns = _read_episodes(folder)
    evaluation_steps, evaluation_returns = _read_evaluations(folder / "evaluations.npz")
    return Curve(episode_steps, episode_returns, evaluation_steps, evaluation_returns)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """
    Mean of each value and up to ``window - 1`` before it.

    :param values: ``(n,)``
    :param window: how many values count
    """
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=float)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def mean_interval(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Mean and half-width of its 95 % interval (Student's t) over games.

    :param returns: ``(evaluations, games)``
    """
    games = returns.shape[1]
    if games < 2:
        return returns.mean(axis=1), np.zeros(len(returns))
    quantile = _STUDENT_95[games - 2] if games - 2 < len(_STUDENT_95) else 1.96
    return returns.mean(axis=1), quantile * returns.std(axis=1, ddof=1) / np.sqrt(games)


def draw_curve(axes: Any, curve: Curve) -> None:
    """
    Draw onto matplotlib axes.

    :param axes: where
    :param curve: what
    """
    if len(curve.episode_steps):
        window = min(_RUNNING_MEAN_EPISODES, max(len(curve.episode_steps) // 5, 1))
        axes.plot(curve.episode_steps, curve.episode_returns, ".", color="0.75", markersize=3, zorder=1)
        mean = running_mean(curve.episode_returns, window)
        axes.plot(curve.episode_steps, mean, color="C0", label=f"training (mean of {window} episodes)")
    if len(curve.evaluation_steps):
        mean, half = mean_interval(curve.evaluation_returns)
        label = f"evaluation (mean of {curve.evaluation_returns.shape[1]} games, 95 % interval)"
        axes.plot(curve.evaluation_steps, mean, "o-", color="C1", markersize=4, label=label)
        axes.fill_between(curve.evaluation_steps, mean - half, mean + half, color="C1", alpha=0.2, linewidth=0)
    axes.set_xlabel("agent steps")
    axes.set_ylabel("game raw return")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")


def new_figure(width: float, height: float) -> Any:
    """
    An empty matplotlib figure.

    :param width: inches
    :param height: inches
    :raises InvalidValue: matplotlib is missing
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise InvalidValue("plots need matplotlib; run pip install 'sbbatch[plots]'") from None
    # No pyplot: it would pick a window system and keep every figure alive.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _read_evaluations(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.exists():
        return np.empty(0), np.empty((0, 1))
    try:
        with np.load(path, allow_pickle=False) as arrays:
            steps, returns = np.asarray(arrays["timesteps"], float), np.asarray(arrays["results"], float)
    except (AttributeError, TypeError, OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        raise InvalidValue(f"{path}: damaged, or not written by an evaluation") from None
    if returns.ndim != 2 or steps.shape != returns.shape[:1]:
        raise InvalidValue(f"{path}: got results of shape {returns.shape}, expected ({len(steps)}, games)")
    return steps, returns


def _read_episodes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Episodes of all monitor files in the order they ended, on one axis of agent steps."""
    rows: list[tuple[float, float, float, float]] = []
    for path in sorted(folder.glob("*monitor.csv")):
        rows += _read_monitor(path)
    rows.sort(key=lambda row: row[0])
    if not rows:
        return np.empty(0), np.empty(0)
    _, returns, lengths, steps = np.array(rows, dtype=float).T
    # Files of SB3's Monitor do not know the steps of the other environments; the sum of lengths is close.
    return (np.cumsum(lengths) if np.isnan(steps).any() else steps), returns


def _read_monitor(path: Path) -> list[tuple[float, float, float, float]]:
    """Time, return, length and agent steps (NaN if not written) of each episode."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror}") from None
    lines = [line for line in io.StringIO(text, newline="") if not line.startswith("#")]
    rows = []
    for row in csv.DictReader(lines):
        try:
            steps = float(row["steps"]) if row.get("steps") is not None else float("nan")
            rows.append((float(row["t"]), float(row["r"]), float(row["l"]), steps))
        except (KeyError, TypeError, ValueError):
            # The last line may be half-written when the run is still going on or was killed.
            break
    return rows


def arguments_of(folder: Path) -> dict[str, Any]:
    """
    The arguments a run was started with; none if they were not written down.

    :param folder: a run's folder
    """
    return _written(folder, "args.yml")


def settings_of(folder: Path) -> dict[str, Any]:
    """
    The hyperparameters that were set for a run; none if they were not written down.

    :param folder: a run's folder
    """
    return _written(folder, "config.yml")


def _written(folder: Path, name: str) -> dict[str, Any]:
    for path in folder.glob(f"*/{name}"):
        return read_yaml(path)
    return {}


def environment_of(folder: Path) -> str:
    """
    The environment of a run, as it was written down or as the folder's name has it.

    :param folder: a run's folder
    """
    return str(arguments_of(folder).get("env") or folder.name.rpartition("_")[0] or folder.name)


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch plot FOLDER``, and ``sbbatch plot train|compare|batch FOLDER ...``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["batch"]:
        from sbbatch.zoo.plot.batch_trace import make_parser, plot_batch

        args = make_parser().parse_args(words[1:])
        print(plot_batch(args.folders, args.output, args.title))
        return 0
    if words[:1] == ["compare"]:
        from sbbatch.zoo.plot.comparison import main as compare

        return compare(words[1:])
    if words[:1] == ["train"]:
        from sbbatch.zoo.plot.training import main as train

        return train(words[1:])
    parser = Parser(prog="sbbatch plot", description="Draw the learning curve of a run.", epilog=EPILOG)
    parser.add_argument("folder", type=Path, help="a run's folder, e.g. logs/qrdqn/ALE-Breakout-v5_1")
    parser.add_argument("-o", "--output", type=Path, help=f"PNG, PDF or SVG (default: {CURVE_NAME} in the folder)")
    parser.add_argument("--title", help="above the curve")
    args = parser.parse_args(words)
    print(plot_run(args.folder, args.output, args.title))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
