"""``sbbatch study``."""

from __future__ import annotations

import argparse
import shlex
from collections import Counter
from pathlib import Path

import yaml

from sbbatch.errors import InvalidValue, did_you_mean
from sbbatch.studies.catalogue import STUDIES, find_study
from sbbatch.studies.command import ATTEMPTS, Command
from sbbatch.studies.engines import Engine, LocalPool, Ray, Slurm
from sbbatch.studies.report import write_report
from sbbatch.studies.runner import adopt, plan, run_missing
from sbbatch.studies.study import Study
from sbbatch.zoo.commands.cli import Parser, guarded, whole_number

ACTIONS = {
    "list": "all studies",
    "show": "question, arms, rules and scales of a study",
    "run": "run what is missing",
    "status": "what has ended, failed or not begun",
    "report": "tables, figure and verdict of what has ended",
    "export": "the same, into docs/results",
    "adopt": "take over runs that were made elsewhere with the same commands",
}
EPILOG = f"""actions:
{chr(10).join(f"  {name:<7} {text}" for name, text in ACTIONS.items())}

examples:
  sbbatch study run small_batch/standard_agents --scale smoke --jobs 2
  sbbatch study run abs/minatar --scale laptop --print-commands
  sbbatch study run abs/minatar --scale laptop --ray auto
  sbbatch study adopt small_batch/step_size --scale laptop --from docs/results/small_batch_step_size/runs.csv

A study that was stopped or killed goes on with the same command; a run that dies is begun up to {ATTEMPTS} times."""


def make_parser() -> argparse.ArgumentParser:
    """The options of all actions."""
    description = "Run an experiment of many trainings, and report what it shows."
    parser = Parser(prog="sbbatch study", description=description, epilog=EPILOG)
    add = parser.add_argument
    add("action", metavar="action", help=", ".join(ACTIONS))
    add("study", nargs="?", help="its id; `sbbatch study list` shows them")
    add("--scale", default="smoke", help="budget: smoke, laptop, lab or paper (default: smoke)")
    add("--jobs", type=whole_number(1), help="runs at a time, with one thread each (default: 1; Slurm: 256)")
    add("--first", type=whole_number(1), help="run: so many of what is missing (default: all)")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--ray", nargs="?", const="auto", metavar="ADDRESS", help="run: on a Ray cluster (auto)")
    slurm = "run: as an array of Slurm jobs, with options of submitit, e.g. slurm_partition=cpu timeout_min=600"
    where.add_argument("--slurm", nargs="*", metavar="KEY=VALUE", help=slurm)
    add("--print-commands", action="store_true", help="run: print the commands of what is missing instead")
    add("-f", "--folder", type=Path, default=Path("logs/studies"), help="where runs are kept")
    add("-o", "--out", type=Path, help="report, export: where to write")
    add(
        "--from",
        dest="source",
        type=Path,
        default=Path("logs"),
        help="adopt: a folder of runs, or a runs.csv (default: logs)",
    )
    return parser


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch study``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code: 1 if runs are missing after ``run``
    """
    args = make_parser().parse_args(argv)
    if args.action not in ACTIONS:
        raise InvalidValue(f"unknown action '{args.action}'{did_you_mean(args.action, ACTIONS)}")
    if args.action == "list":
        print("\n".join(f"{study.id:<32} {study.question}" for study in STUDIES.values()))
        return 0
    study = find_study(args.study or "", args.scale)
    commands = [Command(run, args.folder) for run in study.runs(args.scale)]
    if args.action == "show":
        _show(study, args.folder)
    elif args.action == "run" and args.print_commands:
        missing = (command.words for command in commands if command.state != "done")
        print("\n".join(shlex.join(["sbbatch", *words]) for words in missing))
    elif args.action == "run":
        return _run(study, args.scale, commands, _engine(args), args.first)
    elif args.action == "status":
        _status(study, args.scale, commands)
    elif args.action == "adopt":
        adopted = adopt(commands, args.source)
        print("\n".join([*(f"adopted {command.run.id}" for command in adopted), f"{len(adopted)} runs"]))
    else:
        name = study.id.replace("/", "_")
        usual = args.folder / study.id / args.scale if args.action == "report" else Path("docs/results") / name
        print(write_report(study, args.scale, commands, args.out or usual) + f"\nwritten to {args.out or usual}")
    return 0


def _show(study: Study, root: Path) -> None:
    print(f"{study.title}\n\n{study.question}\nClaim: {study.claim}\nIn common: {study.settings}\nArms:")
    print("\n".join(f"  {arm:<28} {settings}" for arm, settings in study.arms.items()))
    print("Rules:\n" + "\n".join(f"  {rule}" for rule in study.rules) + "\nScales:")
    for name, scale in study.scales.items():
        cost = plan(study, name, [Command(run, root) for run in study.runs(name)])
        print(f"  {name:<7} {scale.steps:,} steps, {scale.seeds} seeds, {len(scale.games)} games: {cost}")


def _engine(args: argparse.Namespace) -> Engine:
    if args.ray is not None:
        return Ray(args.ray)
    if args.slurm is not None:
        pairs = (pair.partition("=") for pair in args.slurm)
        return Slurm(args.folder / "slurm", args.jobs or 256, {key: yaml.safe_load(value) for key, _, value in pairs})
    return LocalPool(args.jobs or 1)


def _run(study: Study, scale: str, commands: list[Command], engine: Engine, first: int | None) -> int:
    if study.blocked and scale != "smoke":
        raise InvalidValue(f"{study.id} cannot be run yet: {study.blocked}")
    print(f"{study.id} at scale {scale}: {plan(study, scale, commands)}", flush=True)
    missing = [command for command in commands if command.state != "done"][:first]
    for command, outcome in run_missing(missing, engine):
        n_done = sum(one.state == "done" for one in commands)
        print(f"[{n_done}/{len(commands)}] {outcome}: {command.folder}", flush=True)
    _status(study, scale, commands)
    return int(any(command.state != "done" for command in commands))


def _status(study: Study, scale: str, commands: list[Command]) -> None:
    counts = Counter(command.state for command in commands)
    print(f"{', '.join(f'{n} {state}' for state, n in counts.items())}; {plan(study, scale, commands)}")
    for command in commands:
        if command.state == "failed":
            print(f"  {command.folder}: {(command.folder / 'failed.txt').read_text(encoding='utf-8').strip()}")
