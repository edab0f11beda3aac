"""Playing with a trained agent, in a window or without one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch as th

from sbbatch.errors import InvalidValue
from sbbatch.zoo.commands.cli import MAX_SEED, MAX_THREADS, Parser, guarded, whole_number
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.logs.folders import probe_folder
from sbbatch.zoo.play.record import player_of
from sbbatch.zoo.play.scores import ENDLESS, PlayedGame, describe_returns, write_monitor
from sbbatch.zoo.play.screen import RecordedGame, check_fits, ends_when_asked, has_display, play_game, require_display
from sbbatch.zoo.play.trained import Trained, add_options, find_trained

N_EPISODES = 10
_MAX_STEPS = 1_000_000  # of a game in a window that nothing else ends
EXAMPLES = """examples:
  sbbatch enjoy --algo qrdqn --env ALE/Breakout-v5 --load-best
  sbbatch enjoy --algo dqn --env CartPole-v1 --no-render --n-episodes 20
  sbbatch enjoy --algo ppo --env CartPole-v1 -n 5000 --stochastic --reward-log games
  sbbatch enjoy -i sb3_model.zip --env CartPole-v1

The options are those of rl-baselines3-zoo's enjoy. A window is opened where there is a display, which needs pygame
(pip install 'sbbatch[record]'); elsewhere, and with --no-render, games are played as fast as the machine can and their
score is printed. Actions are greedy unless --stochastic is given, on Atari too. `sbbatch evaluate` scores an agent over
100 games, `sbbatch record` writes a film."""
# The zoo's options that have no place here -> what to do instead.
_ELSEWHERE = {
    "--norm-reward": "scores are raw returns, whatever the agent was trained on; remove it",
    "--custom-objects": "models of sbbatch and SB3 are read without it; remove it",
    "--env-kwargs": "a run's environments have the arguments that it was trained with; remove it",
}


def play_headless(trained: Trained, args: argparse.Namespace) -> list[PlayedGame]:
    """
    Play without a window.

    :param trained: what plays
    :param args: the command line
    """
    return trained.play(
        ENDLESS if args.n_timesteps else args.n_episodes,
        n_envs=args.n_envs or (1 if args.n_timesteps else None),
        seed=args.seed,
        max_steps=args.max_steps,
        n_steps=args.n_timesteps,
        deterministic=not args.stochastic,
        device=args.device,
        progress=args.progress,
    )


def play_in_window(trained: Trained, args: argparse.Namespace) -> list[PlayedGame]:
    """
    Play in a window, one game after the other; Ctrl-C ends it.

    :param trained: what plays
    :param args: the command line
    """
    protocol = trained.protocol() or "dopamine"
    game = RecordedGame(trained.env_id, args.seed, protocol, window=True, **trained.drawn_with())
    games: list[PlayedGame] = []
    left = args.n_timesteps or ENDLESS
    try:
        player = player_of(trained, args.device, args.seed)
        check_fits(player, game, trained.env_id)
        while left > 0 and (args.n_timesteps or len(games) < args.n_episodes):
            longest = min(left, args.max_steps or _MAX_STEPS)
            score, steps = play_game(player, game, longest, not args.stochastic)
            left -= steps
            if args.n_timesteps and left <= 0:
                break  # as without a window, a game that has not ended does not count
            games.append(PlayedGame(score, steps))
            if args.verbose > 0:
                say(f"game {len(games)}: return {score:.1f} in {steps:,} agent steps")
    except KeyboardInterrupt:
        print()
    finally:
        game.env.close()
    return games


def make_parser() -> Parser:
    """The options, by rl-baselines3-zoo's names."""
    parser = Parser(prog="sbbatch enjoy", description="Play with a trained agent.", epilog=EXAMPLES)
    add_options(parser)
    add = parser.add_argument
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--n-episodes", type=whole_number(1), default=N_EPISODES, help="whole games (default: 10)")
    length.add_argument("-n", "--n-timesteps", type=whole_number(1), help="agent steps of each environment instead")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--render", action="store_true", default=None, help="in a window (default with a display)")
    where.add_argument("--no-render", action="store_false", dest="render", help="without a window")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--deterministic", action="store_true", help="the best actions (default)")
    how.add_argument("--stochastic", action="store_true", help="actions as in training")
    add("--n-envs", type=whole_number(1), help="games side by side, without a window (default: all on Atari, else 1)")
    add("--max-steps", type=whole_number(1), help="cut games off after this many agent steps")
    add("--seed", type=whole_number(0, high=MAX_SEED), default=0, help="seed of the environments")
    add("--num-threads", type=whole_number(1, -1, high=MAX_THREADS), default=-1, help="threads for PyTorch")
    add("--reward-log", type=Path, metavar="FOLDER", help="write the games there, in the format of SB3's Monitor")
    add("-P", "--progress", action="store_true", default=None, help="progress bar (default on a terminal)")
    add("--verbose", type=whole_number(0), default=1, help="0: only the score")
    return parser


def read_options(argv: list[str] | None) -> argparse.Namespace:
    """
    Read the command line.

    :param argv: arguments (``None``: those of the process)
    :raises UserError: anything that is wrong with it
    """
    words = sys.argv[1:] if argv is None else argv
    for word in words:
        if word.partition("=")[0] in _ELSEWHERE:
            option = word.partition("=")[0]
            raise InvalidValue(f"{option}: {_ELSEWHERE[option]}")
    args = make_parser().parse_args(words)
    if args.render:
        require_display()
    if args.render is None:
        args.render = has_display()
        if not args.render and args.verbose > 0:
            say("no display here: playing without a window (--no-render)")
    if args.render and (args.n_envs or 1) > 1:
        raise InvalidValue(f"--n-envs: got {args.n_envs}, but a window shows one game; give --no-render as well")
    return args


def _check_reward_log(folder: Path) -> None:
    """A mistake is told before the games are played."""
    probe_folder(folder, "--reward-log")
    if any(folder.glob("*/args.yml")):
        raise InvalidValue(
            f"--reward-log: {folder} is the folder of a run, whose training episodes would be lost; give another folder"
        )


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch enjoy --algo qrdqn --env ALE/Breakout-v5``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    args = read_options(argv)
    if args.num_threads > 0:
        th.set_num_threads(args.num_threads)
    if args.reward_log is not None:
        _check_reward_log(args.reward_log)
    trained = find_trained(args)
    if args.verbose > 0:
        say(f"playing {trained.path}")
    with ends_when_asked():
        games = (play_in_window if args.render else play_headless)(trained, args)
    if not games:
        say("no game has ended" + (f" within {args.n_timesteps:,} agent steps" if args.n_timesteps else ""))
        return 0
    say(describe_returns([game.score for game in games]))
    if args.reward_log is not None:
        say(f"{write_monitor(args.reward_log, trained.env_id, games)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
