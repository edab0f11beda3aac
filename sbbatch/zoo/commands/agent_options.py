"""The options that name a saved agent, by rl-baselines3-zoo's names."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from sbbatch.envs.stuck import STUCK_HELP, STUCK_STEPS
from sbbatch.errors import InvalidValue
from sbbatch.settings.imports import WRAPPERS, allow_imports
from sbbatch.zoo.commands.cli import MAX_SEED, Parser, torch_device, whole_number
from sbbatch.zoo.commands.options import add_options, import_environments
from sbbatch.zoo.logs.folders import find_run, id_of_run
from sbbatch.zoo.play.saved import SavedAgent, agent_of_file, find_agent

DEFAULT_ALGO = "qrdqn"


def add_agent_options(parser: Parser) -> Any:
    """Options of all commands that play; returns the group of those that exclude each other."""
    add = parser.add_argument
    add("--algo", help=f"algorithm (default: {DEFAULT_ALGO}, or what the file says)")
    add("--env", help="environment, e.g. CartPole-v1, ALE/Breakout-v5 (with -i: default: what the file says)")
    add("-f", "--folder", type=Path, default=Path("logs"), help="log folder")
    add("--exp-id", type=whole_number(0, -1), default=0, help="number of the run; 0: the latest, -1: no run folder")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--load-best", action="store_true", help="the model with the best evaluation, not the last one")
    which.add_argument("--load-checkpoint", type=whole_number(1), metavar="N", help="that after N agent steps")
    which.add_argument("--load-last-checkpoint", action="store_true", help="the latest checkpoint")
    which.add_argument("-i", "--trained-agent", type=Path, metavar="FILE", help="a model's zip file, also one of SB3")
    add("--trust", action="store_true", help="with -i, run what a file of SB3 has pickled besides SB3's own classes")
    add_options(parser, "gym_packages", "allow_import")
    add("--device", type=torch_device, default="auto", help="torch device")
    add("--seed", type=whole_number(0, high=MAX_SEED), default=0, help="seed of the environments")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--deterministic", action="store_true", help="the best actions (default)")
    how.add_argument("--stochastic", action="store_true", help="actions as in training")
    return which


def add_stuck_option(parser: Parser) -> None:
    """When an episode in which nothing happens any more ends."""
    kind = whole_number(1, -1)
    parser.add_argument("--stuck-steps", type=kind, default=STUCK_STEPS, metavar="N", help=STUCK_HELP)


def add_episode_options(parser: Parser) -> None:
    """Options of the commands that play several episodes."""
    add = parser.add_argument
    add("--n-envs", type=whole_number(1), help="episodes side by side, without a window (default: all on Atari, or 1)")
    add("--max-steps", type=whole_number(1), help="cut episodes off after this many agent steps")
    add_stuck_option(parser)
    add(
        "-P",
        "--progress",
        action="store_true",
        default=None,
        help="progress bar (elsewhere than on a terminal: lines)",
    )


def named_agent(args: argparse.Namespace) -> SavedAgent:
    """The agent that the options of :func:`add_agent_options` name; ``UserError`` if there is none."""
    import_environments(args)
    if args.trained_agent is not None:
        agent = agent_of_file(args.trained_agent, args.algo, args.env, args.trust)
    elif args.env is None:
        raise InvalidValue("--env: give the environment, e.g. --env CartPole-v1, or a model's file with -i")
    else:
        which = "best" if args.load_best else "last checkpoint" if args.load_last_checkpoint else "last"
        algo = args.algo or DEFAULT_ALGO
        env_id = id_of_run(args.env, lambda: find_run(args.folder, algo, args.env, args.exp_id))
        agent = find_agent(args.folder, algo, env_id, args.exp_id, args.load_checkpoint or which)
    return replace(agent, settings=allow_imports(agent.settings, args.allow_import, WRAPPERS))
