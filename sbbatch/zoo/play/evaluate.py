"""``sbbatch evaluate``: the score of a trained agent, or of the random policy, over many whole games."""

from __future__ import annotations

import argparse
from pathlib import Path

from sbbatch.analysis.scores import Scale, Scaled, human_normalized
from sbbatch.envs.atari import PROTOCOLS
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write, output_file
from sbbatch.zoo.commands.cli import MAX_SEED, Parser, guarded, whole_number
from sbbatch.zoo.console.progress import games_bar, say
from sbbatch.zoo.play.scores import (
    PlayedGame,
    games_side_by_side,
    play_games,
    random_player,
    scale_of,
    statistics,
    table_of,
)
from sbbatch.zoo.play.trained import add_options, find_trained
from sbbatch.zoo.run.build import make_env

EXAMPLES = """examples:
  sbbatch evaluate --algo qrdqn --env ALE/Breakout-v5 --load-best
  sbbatch evaluate -i logs/qrdqn/ALE-Breakout-v5_1/best_model.zip --csv games.csv
  sbbatch evaluate --env ALE/Breakout-v5 --random
  sbbatch evaluate -i sb3_model.zip --env CartPole-v1 -n 20

Scores are raw returns of whole games: lost lives do not end them and rewards are not clipped. On Atari every game has a
slot of its own (up to 128 side by side), so that short games do not count more often than long ones. The standard error
is that of the mean over games of one trained agent; it says nothing about training again with another seed."""


def evaluate(args: argparse.Namespace) -> tuple[str, str, list[PlayedGame]]:
    """
    Play the games that were asked for.

    :param args: the command line
    :return: who played, where, and the games
    """
    if args.random:
        env_id = _random_env(args)
        return "random policy", env_id, _play_at_random(args, env_id)
    trained = find_trained(args)
    if args.protocol is not None:
        raise InvalidValue("--protocol: a trained agent is scored as it was trained; remove it, or give --random")
    games = trained.play(
        args.n_episodes,
        n_envs=args.n_envs,
        seed=args.seed,
        max_steps=args.max_steps,
        deterministic=not args.stochastic,
        device=args.device,
        progress=args.progress,
    )
    return str(trained.path), trained.env_id, games


def _play_at_random(args: argparse.Namespace, env_id: str) -> list[PlayedGame]:
    n_envs = games_side_by_side(env_id, args.n_episodes, args.n_envs)
    env = make_env(
        env_id, n_envs=n_envs, protocol=args.protocol, seed=args.seed, training=False, max_steps=args.max_steps
    )
    try:
        with games_bar(args.n_episodes, args.progress) as tell:
            return play_games(random_player(env_id, env, args.seed), env, args.n_episodes, tell=tell)
    finally:
        env.close()


def _random_env(args: argparse.Namespace) -> str:
    for option in ("algo", "trained_agent", "load_checkpoint", "load_best", "load_last_checkpoint"):
        if getattr(args, option):
            raise InvalidValue(
                f"--random: the random policy needs no trained agent; remove --{option.replace('_', '-')}"
            )
    if args.env is None:
        raise InvalidValue("--random: give the environment with --env")
    return canonical_id(args.env)


def report(name: str, env_id: str, games: list[PlayedGame], scale: Scaled | None = None) -> list[str]:
    """
    :param name: who played
    :param env_id: environment
    :param games: what was played
    :param scale: scores of a random policy and of a human, if any are known
    :return: lines for people
    """
    scores = [game.score for game in games]
    found = statistics(scores)
    lines = [f"{name} on {env_id}, {len(games)} whole games", ""]
    lines += [f"  {what:<19} {value:12,.2f}" for what, value in found.items()]
    lines.append(f"  {'steps of a game':<19} {sum(game.steps for game in games) / len(games):12,.1f}")
    if scale is not None:
        normalized = human_normalized(scale, found["mean"])
        lines.append(
            f"  {'human-normalised':<19} {normalized:12,.3f}  (random {scale.random:g}, human {scale.human:g})"
        )
    return lines


def make_parser() -> Parser:
    """The options."""
    parser = Parser(
        prog="sbbatch evaluate",
        description="Score a trained agent, or the random policy, over whole games.",
        epilog=EXAMPLES,
    )
    add_options(parser)
    add = parser.add_argument
    add("--random", action="store_true", help="the random policy instead of a trained agent")
    add("-n", "--n-episodes", type=whole_number(1), default=100, help="games to play (default: 100)")
    add("--n-envs", type=whole_number(1), help="games side by side (default: all on Atari, else 1)")
    add("--max-steps", type=whole_number(1), help="cut games off after this many agent steps")
    add("--stochastic", action="store_true", help="actions as in training, not the best ones")
    add("--protocol", help=f"with --random, Atari protocol: {', '.join(PROTOCOLS)} (default: dopamine)")
    add("--seed", type=whole_number(0, high=MAX_SEED), default=0, help="seed of the environments")
    add("--csv", type=Path, metavar="FILE", help="write the return of every game")
    add(
        "--reference",
        type=float,
        nargs=2,
        metavar=("RANDOM", "HUMAN"),
        help="scores that make the human-normalised one (default: the published ones of a game)",
    )
    add("-P", "--progress", action="store_true", default=None, help="progress bar (default on a terminal)")
    return parser


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch evaluate --algo qrdqn --env ALE/Breakout-v5``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    args = make_parser().parse_args(argv)
    table = None if args.csv is None else output_file(args.csv, ".csv")
    own = None if args.reference is None else Scale("--reference", *args.reference)
    if own is not None:
        human_normalized(own, 0.0)  # a mistake is told before the games are played
    name, env_id, games = evaluate(args)
    say("\n".join(report(name, env_id, games, own or scale_of(env_id))))
    if table is not None:
        with atomic_write(table) as file:
            file.write(table_of(games, args.seed).encode())
        say(f"\n{table}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
