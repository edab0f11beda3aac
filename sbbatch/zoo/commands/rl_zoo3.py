"""``sbbatch rl_zoo3``."""

from __future__ import annotations

import importlib
import sys

from sbbatch.errors import InvalidValue, did_you_mean
from sbbatch.zoo.commands.cli import Parser, guarded
from sbbatch.zoo.rl_zoo3 import COMMANDS, register

EPILOG = """examples:
  sbbatch rl_zoo3 train --algo iqn --env CartPole-v1
  sbbatch rl_zoo3 enjoy --algo iqn --env CartPole-v1 -f logs --no-render
  sbbatch rl_zoo3 train --algo pqn --env CartPole-v1 -optimize --n-trials 20 -n 20000
  sbbatch rl_zoo3 --replace train --algo dqn --env CartPole-v1

Everything after the command is the zoo's own. Agents that the zoo has as well are called sbbatch_dqn, sbbatch_qrdqn and
sbbatch_ppo; with --replace they also stand in for the zoo's, and take its hyperparameters. Needs rl_zoo3:
pip install 'sbbatch[zoo]'. From Python: sbbatch.zoo.register(), then the zoo's functions."""


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch rl_zoo3 train --algo iqn --env CartPole-v1``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    words = sys.argv[1:] if argv is None else argv
    parser = Parser(
        prog="sbbatch rl_zoo3", description="Run rl-baselines3-zoo with the agents of sbbatch.", epilog=EPILOG
    )
    parser.add_argument("--replace", action="store_true", help="ours also stand in for the zoo's dqn, qrdqn and ppo")
    parser.add_argument("command", help=f"what the zoo shall do: {', '.join(COMMANDS)}")
    command = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words) - 1)
    args = parser.parse_args(words[: command + 1])
    if args.command not in COMMANDS:
        raise InvalidValue(f"unknown command '{args.command}' of rl_zoo3{did_you_mean(args.command, COMMANDS)}")
    register(args.replace)
    module, function = COMMANDS[args.command]
    try:
        run = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise InvalidValue(f"rl_zoo3 {args.command} needs {error.name}; run pip install 'sbbatch[zoo]'") from None
    sys.argv = [f"rl_zoo3 {args.command}", *words[command + 1 :]]
    run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
