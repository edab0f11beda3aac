"""``sbbatch enjoy``: play with a trained agent, in a window or without one."""

from __future__ import annotations

from pathlib import Path

import torch as th

from sbbatch.analysis.metrics import describe_returns
from sbbatch.errors import InvalidValue
from sbbatch.zoo.commands.agent_options import add_agent_options, add_episode_options, named_agent
from sbbatch.zoo.commands.cli import MAX_THREADS, Parser, guarded, whole_number
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.logs.folders import probe_folder
from sbbatch.zoo.play.record import play_in_window
from sbbatch.zoo.play.scores import write_monitor
from sbbatch.zoo.play.screen import ends_when_asked, has_display, require_display

EXAMPLES = """examples:
  sbbatch enjoy --algo qrdqn --env ALE/Breakout-v5 --load-best
  sbbatch enjoy --algo dqn --env CartPole-v1 --no-render --n-episodes 20
  sbbatch enjoy --algo ppo --env CartPole-v1 -n 5000 --stochastic --reward-log episodes
  sbbatch enjoy -i sb3_model.zip --env CartPole-v1

The options are those of rl-baselines3-zoo's enjoy. A window is opened where there is a display, which needs pygame
(pip install 'sbbatch[record]'); elsewhere, and with --no-render, episodes are played as fast as the machine can and
their score is printed. Actions are greedy unless --stochastic is given, on Atari too. `sbbatch evaluate` scores an
agent over 100 episodes, `sbbatch record` writes a film."""


def make_parser() -> Parser:
    """The options, by rl-baselines3-zoo's names."""
    parser = Parser(prog="sbbatch enjoy", description="Play with a trained agent.", epilog=EXAMPLES)
    add_agent_options(parser)
    add_episode_options(parser)
    add = parser.add_argument
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--n-episodes", type=whole_number(1), default=10, help="whole episodes (default: 10)")
    length.add_argument("-n", "--n-timesteps", type=whole_number(1), help="agent steps of each environment instead")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--render", action="store_true", default=None, help="in a window (default with a display)")
    where.add_argument("--no-render", action="store_false", dest="render", help="without a window")
    add("--num-threads", type=whole_number(1, -1, high=MAX_THREADS), default=-1, help="threads for PyTorch")
    add("--reward-log", type=Path, metavar="FOLDER", help="write the returns there, in the format of SB3's Monitor")
    add("--verbose", type=whole_number(0), default=1, help="0: only the score")
    return parser


@guarded
def main(argv: list[str] | None = None) -> int:
    """``sbbatch enjoy --algo qrdqn --env ALE/Breakout-v5``. Returns the exit code."""
    args = make_parser().parse_args(argv)
    in_window = has_display() if args.render is None else args.render
    if in_window:
        require_display()
        if (args.n_envs or 1) > 1:
            raise InvalidValue(f"--n-envs: got {args.n_envs}, but a window shows one episode; give --no-render as well")
    elif args.render is None and args.verbose > 0:
        say("no display here: playing without a window (--no-render)")
    if args.num_threads > 0:
        th.set_num_threads(args.num_threads)
    if args.reward_log is not None:
        probe_folder(args.reward_log, "--reward-log")  # a mistake is told before anything is played
        if any(args.reward_log.glob("*/args.yml")):
            raise InvalidValue(f"--reward-log: {args.reward_log} is the folder of a run; give another folder")
    agent = named_agent(args)
    if args.verbose > 0:
        say(f"playing {agent.path}")
    options = {
        "n_episodes": None if args.n_timesteps else args.n_episodes,
        "n_steps": args.n_timesteps,
        "max_steps": args.max_steps,
        "stuck_steps": args.stuck_steps,
        "seed": args.seed,
        "deterministic": not args.stochastic,
        "device": args.device,
    }
    with ends_when_asked():
        if in_window:
            episodes = play_in_window(agent, verbose=args.verbose, **options)
        else:
            episodes = agent.play(n_envs=args.n_envs, progress=args.progress, **options)
    if not episodes:
        say("no episode has ended" + (f" within {args.n_timesteps:,} agent steps" if args.n_timesteps else ""))
        return 0
    say(describe_returns([episode.score for episode in episodes]))
    if args.reward_log is not None:
        say(f"{write_monitor(args.reward_log, agent.env_id, episodes)}")
    return 0
