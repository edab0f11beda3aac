"""``sbbatch quickstart``: the main job from end to end, on a real game and in minutes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from sbbatch.analysis.metrics import describe_returns
from sbbatch.settings.resolution import hyperparams_folder
from sbbatch.zoo.commands.cli import MAX_SEED, Parser, guarded, whole_number
from sbbatch.zoo.commands.train import draw_pictures, read_request
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.play.record import record
from sbbatch.zoo.play.saved import agent_of_run
from sbbatch.zoo.play.scores import play_at_random
from sbbatch.zoo.run.train import run

ALGO, ENV_ID = "qrdqn", "ALE/RoadRunner-v5"
N_GAMES = 10
MAX_STEPS = 3_000  # agent steps of a game: a greedy agent that is stuck would play on for minutes


@guarded
def main(argv: list[str] | None = None) -> int:
    """Train QR-DQN with batch size 8, compare it with a random policy, draw its learning curve and record a game."""
    parser = Parser(prog="sbbatch quickstart", description="Train QR-DQN with batch size 8 on an Atari game.")
    parser.add_argument("-n", "--n-timesteps", type=whole_number(1), help="agent steps (default: hyperparams)")
    parser.add_argument("--seed", type=whole_number(0, high=MAX_SEED), default=0, help="seed of everything")
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs"), help="where the run is kept")
    args = parser.parse_args(argv)

    start = time.monotonic()
    words = ["--algo", ALGO, "--env", ENV_ID, "-f", str(args.log_folder), "--seed", str(args.seed), "--progress"]
    words += ["-conf", str(hyperparams_folder() / "quickstart.yml")]
    words += ["--eval-freq", "10000", "--eval-max-steps", str(MAX_STEPS)]
    words += ["-n", str(args.n_timesteps)] if args.n_timesteps is not None else []
    exit_code, folder = run(read_request(words))
    draw_pictures(folder)
    if exit_code != 0:
        return exit_code

    # A short run is unsteady, so the best of its evaluations speaks for it, on games that it was not chosen by.
    # Not the latest run of the log folder: another quickstart may have begun in the meantime.
    best = agent_of_run(folder, ALGO, ENV_ID, folder.best_model)
    say(f"playing {N_GAMES} new games with the best model and {N_GAMES} at random")
    seed, protocol = args.seed + 1_000, best.protocol() or "dopamine"
    games = best.play(N_GAMES, max_steps=MAX_STEPS, seed=seed)
    random_games = play_at_random(ENV_ID, N_GAMES, seed, protocol=protocol, n_envs=N_GAMES, max_steps=MAX_STEPS)
    trained, at_random = ([game.score for game in played] for played in (games, random_games))
    gif = folder.path / "game.gif"
    record(best.load(), ENV_ID, gif, seed=seed, max_steps=MAX_STEPS, protocol=protocol)

    minutes = (time.monotonic() - start) / 60
    say(f"\ntrained agent: {describe_returns(trained)}")
    say(f"random policy: {describe_returns(at_random)}")
    say(f"difference:    {np.mean(trained) - np.mean(at_random):+.1f} raw return a game, after {minutes:.1f} minutes")
    say(f"learning curve: {folder.path / 'learning_curve.png'}\ngame:           {gif}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
