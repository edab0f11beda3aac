"""A study of seconds, and runs that nobody has trained."""

from pathlib import Path

import numpy as np

from sbbatch.studies.command import Command
from sbbatch.studies.rules import Compare
from sbbatch.studies.study import Scale, SizesOf, Study

SMALL = Study(
    id="tests/small",
    title="A small study",
    question="Does it run?",
    claim="It does.",
    arms={"8": {"batch_size": 8}, "32": {"batch_size": 32}},
    scales={"smoke": Scale(300, 2, ("CartPole-v1",), 1_000.0, {"learning_starts": 100})},
    rules=(Compare("8", "32", better="better", worse="worse", equal="equal"),),
    settings={"algo": "dqn", "train_freq": 4, "gradient_steps": 1},
    evaluations=1,
    eval_episodes=1,
)
YOKED = Study(**{**vars(SMALL), "arms": {"yoked": {"batch_size_callback": SizesOf("8")}, **SMALL.arms}})


def commands_of(study, root):
    return [Command(run, root) for run in study.runs("smoke")]


def leave_files(words, episodes=((100, 20.0), (290, 40.0)), steps=300):
    """What `sbbatch train` would have left in the folder that the words name."""
    folder = Path(words[words.index("-f") + 1]) / "dqn" / "CartPole-v1_1"
    (folder / "CartPole-v1").mkdir(parents=True)
    (folder / "CartPole-v1" / "command.txt").write_text(" ".join(["sbbatch", *map(str, words)]) + "\n")
    rows = "".join(f"{value},1,{at / 100},{at}\n" for at, value in episodes)
    (folder / "0.monitor.csv").write_text('#{"t_start": 0}\nr,l,t,steps\n' + rows)
    np.savez(folder / "evaluations.npz", timesteps=[150, steps], results=[[0.0, 0.0], [10.0, 30.0]])
    return folder
