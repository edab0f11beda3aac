"""One game played by a trained agent, as a film."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbbatch.envs.atari import PROTOCOLS
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.files import output_file
from sbbatch.settings.imports import Imported
from sbbatch.zoo.commands.cli import MAX_SEED, Parser, guarded, whole_number
from sbbatch.zoo.play.film import SUFFIXES, make_film
from sbbatch.zoo.play.screen import NormalizedPlayer, RecordedGame, check_fits, ends_when_asked, play_game
from sbbatch.zoo.play.trained import Trained, add_options, find_trained

MAX_STEPS = 27_000
EXAMPLES = """examples:
  sbbatch record --algo qrdqn --env ALE/Breakout-v5 --load-best -o game.mp4
  sbbatch record -i logs/qrdqn/ALE-Breakout-v5_1/best_model.zip -o game.gif
  sbbatch record --algo dqn --env MinAtar/Breakout-v1 -n 500 -o game.mp4

An MP4 has every picture, in the game's own time, and needs imageio-ffmpeg: pip install 'sbbatch[record]'. A GIF is kept
below 3 MB: a long game is thinned out. Games of Gymnasium such as CartPole need pygame to be drawn (the same extra)."""


def record(
    model: Any,
    env_id: str,
    out: Path,
    *,
    seed: int | None = 0,
    max_steps: int = MAX_STEPS,
    protocol: str = "dopamine",
    deterministic: bool = True,
    env_kwargs: dict[str, Any] | None = None,
    env_wrapper: Sequence[Imported] = (),
) -> tuple[float, int]:
    """
    Play one whole game and write a film of it: an MP4 or a GIF of at most 3 MB, as the file's name says.

    :param model: anything with SB3's ``predict``
    :param env_id: environment
    :param out: the ``.mp4`` or ``.gif``
    :param seed: of the environment
    :param max_steps: agent steps after which the recording ends
    :param protocol: Atari protocol
    :param deterministic: greedy actions
    :param env_kwargs: keyword arguments of the environment
    :param env_wrapper: around it, the innermost first
    :return: raw return and agent steps of the game
    :raises UserError: the environment cannot be drawn, or the file not written
    """
    film = make_film(out)
    game = RecordedGame(canonical_id(env_id), seed, protocol, False, env_kwargs, env_wrapper)
    try:
        check_fits(model, game, env_id)
        result = play_game(model, game, max_steps, deterministic, film.add)
    finally:
        game.env.close()
    film.write()
    return result


def player_of(trained: Trained, device: str, seed: int) -> Any:
    """
    A model that is shown observations as its training showed them.

    :param trained: which
    :param device: torch device
    :param seed: of the environments that hold the normalization
    """
    model = trained.load(device)
    return NormalizedPlayer(model, trained.make_env(1, seed)) if trained.normalizes() else model


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch record --algo qrdqn --env ALE/Breakout-v5 -o game.mp4``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    parser = Parser(
        prog="sbbatch record", description="Play one game with a trained agent and write a film of it.", epilog=EXAMPLES
    )
    add_options(parser)
    add = parser.add_argument
    add(
        "-o",
        "--output",
        type=Path,
        default=Path("game.gif"),
        help=f"the film: {' or '.join(SUFFIXES)} (default: game.gif)",
    )
    add("--stochastic", action="store_true", help="actions as in training, not the best ones")
    add("--seed", type=whole_number(0, high=MAX_SEED), default=0, help="seed of the environment")
    add("-n", "--n-timesteps", type=whole_number(1), default=MAX_STEPS, help="longest game, agent steps")
    add("--protocol", help=f"Atari protocol: {', '.join(PROTOCOLS)} (default: the run's, else the algorithm's)")
    args = parser.parse_args(argv)
    out = output_file(args.output, *SUFFIXES)
    trained = find_trained(args)
    if args.protocol is not None and trained.protocol() is None:
        raise InvalidValue(f"--protocol: {trained.env_id} is no Atari game; remove it")
    protocol = args.protocol or trained.protocol() or "dopamine"
    player = player_of(trained, args.device, args.seed)
    with ends_when_asked():
        total, steps = record(
            player,
            trained.env_id,
            out,
            seed=args.seed,
            max_steps=args.n_timesteps,
            protocol=protocol,
            deterministic=not args.stochastic,
            **trained.drawn_with(),
        )
    print(f"return {total:.1f} in {steps:,} agent steps: {out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
