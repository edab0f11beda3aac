"""``python drive.py FOLDER pool|ray ADDRESS|slurm``: run what is missing of the study of the engines' tests."""

import sys
from dataclasses import replace
from pathlib import Path

from studies import SMALL, commands_of

from sbbatch.studies.engines import LocalPool, Ray, Slurm
from sbbatch.studies.runner import run_missing

STUDY = replace(SMALL, scales={"smoke": replace(SMALL.scales["smoke"], steps=2_000, seeds=4)})

if __name__ == "__main__":
    root, name, *address = sys.argv[1:]
    slurm = Slurm(Path(root) / "jobs", options={"cluster": "local", "timeout_min": 30})
    engine = {"pool": LocalPool(2), "ray": Ray(*address), "slurm": slurm}[name]
    for command, outcome in run_missing(commands_of(STUDY, Path(root)), engine):
        print(outcome, command.run.id, flush=True)
