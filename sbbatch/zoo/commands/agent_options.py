"""The options that name a saved agent, by rl-baselines3-zoo's names."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.settings.imports import WRAPPERS, allow_imports
from sbbatch.zoo.commands.cli import Parser, torch_device, whole_number
from sbbatch.zoo.commands.options import add_options, import_environments
from sbbatch.zoo.play.saved import SavedAgent, agent_of_file, find_agent

DEFAULT_ALGO = "qrdqn"


def add_agent_options(parser: Parser) -> None:
    """
    :param parser: of the command
    """
    add = parser.add_argument
    add("--algo", help=f"algorithm (default: {DEFAULT_ALGO}, or what the file says)")
    add("--env", help="environment, e.g. CartPole-v1, ALE/Breakout-v5 (with -i: default: what the file says)")
    add("-f", "--folder", type=Path, default=Path("logs"), help="log folder")
    add("--exp-id", type=whole_number(0, -1), default=0, help="number of the run; 0: the latest, -1: no run folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--load-best", action="store_true", help="the model with the best evaluation, not the last one")
    which.add_argument(
        "--load-checkpoint", type=whole_number(1), metavar="N", help="the checkpoint after N agent steps"
    )
    which.add_argument("--load-last-checkpoint", action="store_true", help="the latest checkpoint")
    which.add_argument("-i", "--trained-agent", type=Path, metavar="FILE", help="a model's zip file, also one of SB3")
    add("--trust", action="store_true", help="with -i, run what a file of SB3 has pickled besides SB3's own classes")
    add_options(parser, "gym_packages", "allow_import")
    add("--device", type=torch_device, default="auto", help="torch device")


def named_agent(args: argparse.Namespace) -> SavedAgent:
    """
    :param args: the command line, with the options of :func:`add_agent_options`
    :raises UserError: there is no such agent, or it is one of another environment
    """
    if args.env is not None:
        import_environments(args)
    if args.trained_agent is not None:
        agent = agent_of_file(args.trained_agent, args.algo, args.env, args.trust)
    elif args.env is None:
        raise InvalidValue("--env: give the environment, e.g. --env CartPole-v1, or a model's file with -i")
    else:
        which = "best" if args.load_best else "last checkpoint" if args.load_last_checkpoint else "last"
        algo, env_id = args.algo or DEFAULT_ALGO, canonical_id(args.env)
        agent = find_agent(args.folder, algo, env_id, args.exp_id, args.load_checkpoint or which)
    return replace(agent, settings=allow_imports(agent.settings, args.allow_import, WRAPPERS))
