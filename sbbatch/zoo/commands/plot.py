"""``sbbatch plot FOLDER``, and ``sbbatch plot train|compare|batch|metrics FOLDER ...``."""

from __future__ import annotations

import sys
from pathlib import Path

from sbbatch.zoo.commands.cli import Parser, guarded
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.plot import batch_trace, comparison, curves
from sbbatch.zoo.plot.metrics import METRICS_PICTURE, plot_metrics
from sbbatch.zoo.plot.runs import beside

EXAMPLES = """examples:
  sbbatch plot logs/qrdqn/ALE-Breakout-v5_1                one run: training episodes and evaluations
  sbbatch plot train logs/dqn/CartPole-v1_*                training episodes, mean over seeds, 95 % intervals
  sbbatch plot compare logs/*/MinAtar-Breakout-v1_*        evaluations of several agents over seeds
  sbbatch plot batch logs/pqn/CartPole-v1_1                return, divergence and batch size on one time axis
  sbbatch plot metrics logs/qrdqn/MinAtar-Breakout-v1_*    what the callback AnalysisMetrics measured, over seeds

`sbbatch plot train --help` and so on list their options. A run folder that is itself called train, compare, batch or
metrics is ./train and so on."""
TRAIN_EXAMPLES = """examples:
  sbbatch plot train logs/dqn/CartPole-v1_1 logs/dqn/CartPole-v1_2 logs/dqn/CartPole-v1_3
  sbbatch plot train logs/*/MinAtar-Breakout-v1_* -o breakout.pdf

The line is the mean over runs of the running mean of the returns of training episodes, the band its 95 % bootstrap
interval over runs; it ends where the shortest run does, longer ones go on as thin lines. Runs need no evaluations."""
COMPARE_EXAMPLES = """examples:
  sbbatch plot compare logs/*/MinAtar-Breakout-v1_* -o breakout.png
  sbbatch plot compare logs/qrdqn/ALE-Pong-v5_* --by batch_size        pool what else differs, and say so
  sbbatch plot compare logs/qrdqn/ALE-Pong-v5_* --by algo              pool all settings

Runs of one agent in one environment are seeds of one curve if they differ in nothing else: not in config.yml, nor in a
trained agent they began with or the length of evaluations. The line is the interquartile mean over runs at each
evaluation, the band its 95 % bootstrap interval, which is too narrow with three runs or fewer; it ends where the
shortest run does, longer ones go on as thin lines."""


BATCH = "Draw return, what was measured and batch size of adaptive runs on one time axis."
KINDS = {  # description, epilog, name of the picture
    None: ("Draw the learning curve of a run.", EXAMPLES, curves.PICTURE_NAME),
    "train": ("Draw the training episodes of several agents and seeds.", TRAIN_EXAMPLES, "training"),
    "compare": ("Compare the evaluations of several agents and seeds.", COMPARE_EXAMPLES, "comparison"),
    "batch": (BATCH, "", batch_trace.PICTURE_NAME),
    "metrics": ("Draw what was measured inside of the agents, over seeds.", "", METRICS_PICTURE),
}
READERS = {"train": comparison.read_training, "compare": comparison.read_runs}


def make_parser(kind: str | None = None) -> Parser:
    """The options of ``"train"``, ``"compare"``, ``"batch"`` or ``"metrics"`` (``None``: one run)."""
    description, epilog, default = KINDS[kind]
    parser = Parser(prog=" ".join(filter(None, ["sbbatch plot", kind])), description=description, epilog=epilog)
    add = parser.add_argument
    if kind is None:
        add("folder", type=Path, help="a run's folder, e.g. logs/qrdqn/ALE-Breakout-v5_1")
    else:
        add("folders", nargs="+", type=Path, metavar="folder", help="run folders, e.g. logs/*/MinAtar-Breakout-v1_*")
    table = ", with a CSV beside it" if kind in READERS else ""
    where = f"{default}.png and .pdf in the folder of the run, or of all runs"
    add("-o", "--output", type=Path, help=f"PNG, PDF or SVG{table} (default: {where})")
    if kind in (*READERS, "metrics"):
        text = "tell the runs of an algorithm apart by these settings alone (default: by all; algo: by none)"
        add("--by", nargs="+", metavar="SETTING", help=text)
    add("--title", help="above the picture")
    return parser


@guarded
def main(argv: list[str] | None = None) -> int:
    """``sbbatch plot FOLDER``, and ``sbbatch plot train|compare|batch|metrics FOLDER ...``. Returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    kind = words[0] if words and words[0] in KINDS else None
    args = make_parser(kind).parse_args(words if kind is None else words[1:])
    if kind is None:
        say("\n".join(map(str, curves.plot_run(args.folder, args.output, args.title))))
        return 0
    # A pattern such as logs/dqn/* also meets the pictures that lie beside the runs.
    folders = [path for path in args.folders if not path.is_file()] or args.folders
    if kind == "batch":
        files = batch_trace.plot_batch(folders, args.output, args.title)
    elif kind == "metrics":
        files = plot_metrics(folders, args.output, args.title, args.by)
    else:
        drawn = READERS[kind](folders, args.by)
        place = beside([run for one in drawn for run in one.group.runs]) / KINDS[kind][2]
        files = comparison.draw_comparisons(drawn, args.output or place, args.title)
        say("\n".join(comparison.report_runs(drawn)))
    say("\n".join(map(str, files)))
    return 0
