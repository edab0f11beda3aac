"""What the tests of ``sbbatch train`` share: short runs of CartPole."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.commands import train

REPOSITORY = Path(train.__file__).parents[3]
SHORT = ["--algo", "dqn", "--seed", "0", "--num-threads", "1", "--eval-episodes", "1", "--no-progress"]
PARAMS = ["-params", "learning_starts:64", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[8])"]


def cartpole(logs, *more, n=150, eval_freq=-1, params=PARAMS):
    """The exit code of a run of DQN."""
    words = [*SHORT, "-n", str(n), "--eval-freq", str(eval_freq), "-f", str(logs)]
    return train.main([*words, *more, *params])


def run_folder(logs, number=1, algo="dqn"):
    return logs / algo / f"CartPole-v1_{number}"


def refusal(capsys, *words, main=train.main):
    """The one sentence of a mistake."""
    capsys.readouterr()
    assert main(list(words)) == 2
    *_, sentence = capsys.readouterr().err.splitlines()
    assert sentence.startswith("sbbatch: error: ")
    return sentence


def evaluations(folder):
    """Agent steps and returns."""
    with np.load(folder / "evaluations.npz") as arrays:
        assert len(arrays["timesteps"]) == len(arrays["results"]) == len(arrays["ep_lengths"])
        return arrays["timesteps"].tolist(), arrays["results"].tolist()


def episode_lengths(folder):
    return [line.split(",")[1] for line in (folder / "0.monitor.csv").read_text().splitlines()[2:]]


def arguments(folder):
    return read_yaml(folder / "CartPole-v1/args.yml")


def config(folder):
    return read_yaml(folder / "CartPole-v1/config.yml")


def start_script(*words):
    """``scripts/train.py`` in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(script, env=environment, text=True, start_new_session=True, **pipes)


def interrupt_when(condition, signum=signal.SIGINT):
    """A signal as a terminal sends it: to the processes begun here, which are returned by then, and to this one."""
    reached = []

    def wait():
        deadline = time.monotonic() + 120
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        reached.extend(multiprocessing.active_children())
        for pid in [*(child.pid for child in reached), os.getpid()]:
            os.kill(pid, signum)

    threading.Thread(target=wait, daemon=True).start()
    return reached


def no_pictures(folder):
    """In the place of the plots, which take longer than these runs."""
