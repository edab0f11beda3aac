"""``sbbatch record``: one episode played by a trained agent, as a film."""

from __future__ import annotations

from pathlib import Path

from sbbatch.envs.atari import PROTOCOLS
from sbbatch.errors import InvalidValue
from sbbatch.zoo.commands.agent_options import add_agent_options, add_stuck_option, named_agent
from sbbatch.zoo.commands.cli import Parser, guarded, whole_number
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.play.film import SUFFIXES, film_file
from sbbatch.zoo.play.record import MAX_STEPS, record
from sbbatch.zoo.play.screen import ends_when_asked

EXAMPLES = """examples:
  sbbatch record --algo qrdqn --env ALE/Breakout-v5 --load-best -o game.mp4
  sbbatch record -i logs/qrdqn/ALE-Breakout-v5_1/best_model.zip -o game.gif
  sbbatch record --algo dqn --env MinAtar/Breakout-v1 -n 500 -o game.mp4

An MP4 has every picture, in the game's own time, and needs imageio-ffmpeg: pip install 'sbbatch[record]'. A GIF is kept
below 3 MB: a long episode is thinned out. Environments of Gymnasium such as CartPole need pygame to be drawn (the same
extra)."""


def make_parser() -> Parser:
    """The options."""
    description = "Play one episode with a trained agent and write a film of it."
    parser = Parser(prog="sbbatch record", description=description, epilog=EXAMPLES)
    add_agent_options(parser)
    add_stuck_option(parser)
    add = parser.add_argument
    add("-o", "--output", type=Path, default=Path("game.gif"), help=f"{' or '.join(SUFFIXES)} (default: game.gif)")
    add("-n", "--n-timesteps", type=whole_number(1), default=MAX_STEPS, help="longest episode, agent steps")
    add("--protocol", help=f"Atari protocol: {', '.join(PROTOCOLS)} (default: the run's, else the algorithm's)")
    return parser


@guarded
def main(argv: list[str] | None = None) -> int:
    """``sbbatch record --algo qrdqn --env ALE/Breakout-v5 -o game.mp4``. Returns the exit code."""
    args = make_parser().parse_args(argv)
    out = film_file(args.output)
    agent = named_agent(args)
    options = agent.rendered_with()
    if args.protocol is not None:
        if agent.protocol() is None:
            raise InvalidValue(f"--protocol: {agent.env_id} is no Atari game; remove it")
        options["protocol"] = args.protocol
    limits = {"seed": args.seed, "max_steps": args.n_timesteps, "deterministic": not args.stochastic}
    limits["stuck_steps"] = args.stuck_steps
    with ends_when_asked():
        total, steps = record(agent.load(args.device), agent.env_id, out, **limits, **options)
    say(f"return {total:.1f} in {steps:,} agent steps: {out}")
    return 0
