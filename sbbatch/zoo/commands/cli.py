"""The command ``sbbatch`` and what all commands share: one sentence for a user's mistake, a traceback for ours."""

from __future__ import annotations

import argparse
import errno
import functools
import importlib
import math
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from sbbatch.errors import InvalidValue, NumericalError, UserError, did_you_mean
from sbbatch.version import __version__
from sbbatch.zoo.console.exit_codes import INTERRUPTED, NUMERICAL_ERROR, USER_ERROR

MAX_SEED = 2**31 - 1  # NumPy takes 32 bits, and the seeds of the other environments are sums of this one
MAX_THREADS = 1024  # far more make the OpenMP runtime end the process

# name -> what it does; each is a module of this folder, imported only when it is asked for.
COMMANDS = {
    "train": "train an agent",
    "tune": "search hyperparameters with Optuna",
    "enjoy": "play with a trained agent, in a window or without one",
    "evaluate": "score a trained agent over whole episodes, also beside the random policy",
    "record": "play one episode with a trained agent and write a video of it, MP4 or GIF",
    "plot": "draw learning curves of runs, compare agents, or show how batch sizes changed",
    "study": "run an experiment of many trainings, and report what it shows",
    "quickstart": "train, compare with a random policy, draw and record, in minutes",
    "rl_zoo3": "run rl-baselines3-zoo's own commands with the agents of sbbatch",
}

HELP = """usage: sbbatch <command> [options]

Deep reinforcement learning with small and adaptive batch sizes, in the style of Stable-Baselines3.

commands:
{commands}

`sbbatch <command> --help` lists a command's options, with examples. Runs are kept in logs/<algo>/<environment>_<n>.

examples:
  sbbatch quickstart                                                   everything once, in minutes
  sbbatch train --algo qrdqn --env CartPole-v1                         train, with tuned hyperparameters
  sbbatch train --algo qrdqn --env ALE/Breakout-v5 --batch-size 8      a small batch on an Atari game
  sbbatch train --algo pqn --env ALE/Breakout-v5 --abs 16:64           a batch that adapts
  sbbatch enjoy --algo qrdqn --env CartPole-v1                         watch it play
  sbbatch plot logs/qrdqn/CartPole-v1_1                                its learning curve
  sbbatch study run small_batch/standard_agents --scale smoke          a whole experiment, in minutes"""


# What the operating system refuses, e.g. because the disk is full.
_NO_BUGS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG, errno.EACCES)
Main = Callable[..., int]  # a command: takes its arguments (``None``: those of the process) and returns an exit code


def guarded(main: Main) -> Main:
    """
    Turn a user's mistake into one sentence on standard error and exit code 2, and numbers that became NaN or infinite
    into one and exit code 3; anything else keeps its traceback.
    """

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        # Python has no stream at all where the shell closed it (`>&-`).
        nowhere = open(os.devnull, "w")  # noqa: SIM115
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
        try:
            return main(argv)
        except UserError as error:
            return _complain(str(error))
        except NumericalError as error:
            return _complain(str(error), NUMERICAL_ERROR)
        except MemoryError as error:
            return _complain(f"out of memory ({str(error) or 'nothing left'}); ask for less at once")
        except KeyboardInterrupt:
            print("\ninterrupted", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            if error.errno in _NO_BUGS:
                return _complain(f"cannot open or write {error.filename or 'a file'}: {error.strerror}")
            raise

    return run


def _complain(sentence: str, exit_code: int = USER_ERROR) -> int:
    print(f"sbbatch: error: {sentence}", file=sys.stderr)
    return exit_code


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose complaints are one sentence and name the nearest option."""

    def __init__(self, **kwargs: Any) -> None:
        # An abbreviation would change its meaning as soon as a longer option is added.
        super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Raise what :func:`guarded` prints."""
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0]
        if unknown.startswith("-"):
            options = [name for action in self._actions for name in action.option_strings]
            message = f"unknown option '{unknown}'{did_you_mean(unknown, options)}"
        raise InvalidValue(message.removeprefix("argument "))


def whole_number(low: int, *also: int, high: int | None = None) -> Callable[[str], int]:
    """An argparse type for integers from ``low`` to ``high``; ``also`` are values with a meaning of their own."""
    expected = f"an int >= {low}" if high is None else f"an int between {low} and {high}"
    expected += "".join(f" or {value}" for value in also)

    def read(text: str) -> int:
        with suppress(ValueError):
            value = int(text)
            if value in also or low <= value <= (math.inf if high is None else high):
                return value
        hint = f"; did you mean {float(text):.0f}?" if re.fullmatch(r"\d+(\.\d+)?e\d", text) else ""
        raise argparse.ArgumentTypeError(f"got {text}, expected {expected}{hint}")

    return read


def torch_device(text: str) -> str:
    """An argparse type for a device that PyTorch can use, or a GPU, in whose absence agents take the CPU."""
    if text != "auto" and not text.startswith("cuda") and not computes(text):
        usable = ", ".join(["auto", *filter(computes, ("cpu", "cuda", "mps"))])
        raise argparse.ArgumentTypeError(f"got '{text}', on which PyTorch cannot compute here; expected {usable}")
    return text


def computes(device: str) -> bool:
    """Whether PyTorch can use a device here."""
    import torch as th

    try:
        return bool(th.ones(1, device=device).item())
    except Exception:  # each kind of device fails in its own way
        return False


@guarded
def main(argv: list[str] | None = None) -> int:
    """``sbbatch <command> ...``: the words after ``sbbatch`` (``None``: those of the process) to an exit code."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())))
        return 0
    if words[0] in ("-V", "--version"):
        print(f"sbbatch {__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise InvalidValue(f"unknown command '{words[0]}'{did_you_mean(words[0], COMMANDS)}")
    command: Main = importlib.import_module(f"sbbatch.zoo.commands.{words[0]}").main
    return command(words[1:])


if __name__ == "__main__":
    raise SystemExit(main())
