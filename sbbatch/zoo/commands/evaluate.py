"""``sbbatch evaluate``: the score of a trained agent, or of the random policy, over many whole episodes."""

from __future__ import annotations

import argparse
from pathlib import Path

from sbbatch.analysis.scores import Scale, human_normalized
from sbbatch.envs.atari import PROTOCOLS
from sbbatch.envs.make import canonical_id, parallel_episodes
from sbbatch.errors import InvalidValue
from sbbatch.files import output_file
from sbbatch.zoo.commands.agent_options import add_agent_options, add_episode_options, named_agent
from sbbatch.zoo.commands.cli import Parser, guarded, whole_number
from sbbatch.zoo.commands.options import import_environments
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.play.scores import Episode, play_at_random, report, scale_of, write_table

EXAMPLES = """examples:
  sbbatch evaluate --algo qrdqn --env ALE/Breakout-v5 --load-best
  sbbatch evaluate -i logs/qrdqn/ALE-Breakout-v5_1/best_model.zip --csv games.csv
  sbbatch evaluate --env ALE/Breakout-v5 --random
  sbbatch evaluate -i sb3_model.zip --env CartPole-v1 -n 20

Scores are raw returns of whole episodes: lost lives do not end them and rewards are not clipped. On Atari every game
has a slot of its own (up to 128 side by side), so that short games do not count more often than long ones. The standard
error is that of the mean over episodes of one trained agent; it says nothing about training again with another seed."""


def make_parser() -> Parser:
    """The options."""
    description = "Score a trained agent, or the random policy, over whole episodes."
    parser = Parser(prog="sbbatch evaluate", description=description, epilog=EXAMPLES)
    which = add_agent_options(parser)
    which.add_argument("--random", action="store_true", help="the random policy instead of a trained agent")
    add_episode_options(parser)
    add = parser.add_argument
    add("-n", "--n-episodes", type=whole_number(1), default=100, help="episodes to play (default: 100)")
    add("--protocol", help=f"with --random, Atari protocol: {', '.join(PROTOCOLS)} (default: dopamine)")
    add("--csv", type=Path, metavar="FILE", help="write the return of every episode")
    reference = "scores that make the human-normalised one (default: the published ones of a game)"
    add("--reference", type=float, nargs=2, metavar=("RANDOM", "HUMAN"), help=reference)
    return parser


def _play(args: argparse.Namespace) -> tuple[str, str, list[Episode]]:
    """Who played, where, and the episodes."""
    limits = {"seed": args.seed, "max_steps": args.max_steps, "progress": args.progress}
    if not args.random:
        agent = named_agent(args)
        if args.protocol is not None:
            raise InvalidValue("--protocol: a trained agent is scored as it was trained; remove it, or give --random")
        limits["stuck_steps"] = args.stuck_steps
        options = {"deterministic": not args.stochastic, "device": args.device, "n_envs": args.n_envs}
        return str(agent.path), agent.env_id, agent.play(args.n_episodes, **options, **limits)
    if args.env is None:
        raise InvalidValue("--random: give the environment with --env")
    import_environments(args)
    env_id = canonical_id(args.env)
    n_envs = parallel_episodes(env_id, args.n_episodes, args.n_envs)
    episodes = play_at_random(env_id, args.n_episodes, protocol=args.protocol, n_envs=n_envs, **limits)
    return "random policy", env_id, episodes


@guarded
def main(argv: list[str] | None = None) -> int:
    """``sbbatch evaluate --algo qrdqn --env ALE/Breakout-v5``. Returns the exit code."""
    args = make_parser().parse_args(argv)
    table = None if args.csv is None else output_file(args.csv, ".csv")
    own = None if args.reference is None else Scale("--reference", *args.reference)
    if own is not None:
        human_normalized(own, 0.0)  # a mistake is told before anything is played
    name, env_id, episodes = _play(args)
    say("\n".join(report(name, env_id, episodes, own or scale_of(env_id))))
    if table is not None:
        write_table(table, episodes, args.seed)
        say(f"\n{table}")
    return 0
