"""Whole games played by a trained agent of the log folder, and its score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sbbatch.algorithms.persistence import trained_environment
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.zoo.build import check_trained_in, load_normalization, run_env, statistics_of
from sbbatch.zoo.cli import MAX_SEED, Parser, guarded, torch_device, whole_number
from sbbatch.zoo.config import Settings, require_algorithm, resolve
from sbbatch.zoo.evaluate import describe_returns, evaluate_returns, games_side_by_side
from sbbatch.zoo.folders import RunFolder, find_run
from sbbatch.zoo.imports import WRAPPERS, allow_imports, import_environments
from sbbatch.zoo.options import add_import_options


def run_settings(run: RunFolder, algo: str, env_id: str, allow: Sequence[str] = ()) -> Settings:
    """
    The settings a run was made with, from its ``config.yml``.

    :param run: its folder
    :param algo: name of the algorithm
    :param env_id: environment
    :param allow: modules whose wrappers may be imported, besides those known to be harmless
    """
    return allow_imports(resolve(algo, env_id, run_file=run.config), allow, WRAPPERS)


def enjoy(
    algo: str,
    env_id: str,
    log_folder: Path,
    *,
    exp_id: int = 0,
    **options: Any,
) -> list[float]:
    """
    Play whole games greedily with a run of the log folder and return their raw returns.

    :param algo: name of the algorithm
    :param env_id: environment
    :param log_folder: where runs are kept
    :param exp_id: number of the run; 0: the latest
    :param options: see :func:`play_run`
    :raises UserError: no such run or model
    """
    require_algorithm(algo)
    env_id = canonical_id(env_id)
    return play_run(find_run(log_folder, algo, env_id, exp_id), algo, env_id, **options)


def play_run(
    run: RunFolder,
    algo: str,
    env_id: str,
    *,
    load_best: bool = False,
    n_episodes: int = 10,
    n_envs: int | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    allow: Sequence[str] = (),
) -> list[float]:
    """
    Play whole games greedily and return their raw returns.

    :param run: its folder
    :param algo: name of the algorithm
    :param env_id: environment
    :param load_best: the model with the best evaluation instead of the last one
    :param n_episodes: games to play
    :param n_envs: games side by side (``None``: all of them on Atari, else 1)
    :param max_steps: agent steps after which a game is cut off (``None``: the environment's own limit)
    :param seed: of the environments
    :param device: torch device
    :param allow: see :func:`run_settings`
    :raises UserError: no such model, or one of another environment
    """
    cls: Any = require_algorithm(algo)
    path = run.best_model if load_best else run.last_model
    if not path.exists():
        raise InvalidValue(f"no such model: {path}; the run has not ended" + ("" if load_best else ", try --load-best"))
    check_trained_in(trained_environment(path)[0], env_id, str(path))
    settings = run_settings(run, algo, env_id, allow)
    env = run_env(env_id, cls, settings, seed, False, games_side_by_side(env_id, n_episodes, n_envs), max_steps)
    try:
        load_normalization(statistics_of(path), env)
        model = cls.load(path, device=device)  # without the environments: it needs no replay memory to play
        print(f"playing {path}")
        return evaluate_returns(model, env, n_episodes)
    finally:
        env.close()


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch enjoy --algo qrdqn --env ALE/Breakout-v5``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    parser = Parser(prog="sbbatch enjoy", description="Play whole games with a trained agent and print its score.")
    parser.add_argument("--algo", default="qrdqn", help="algorithm")
    parser.add_argument("--env", required=True, help="environment")
    parser.add_argument("-f", "--folder", type=Path, default=Path("logs"), help="log folder")
    parser.add_argument("--exp-id", type=whole_number(0), default=0, help="number of the run; 0: the latest")
    parser.add_argument("--load-best", action="store_true", help="the best model instead of the last one")
    parser.add_argument("-n", "--n-episodes", type=whole_number(1), default=10, help="games to play")
    parser.add_argument("--n-envs", type=whole_number(1), help="games side by side (default: all on Atari, else 1)")
    parser.add_argument("--max-steps", type=whole_number(1), help="cut games off after this many agent steps")
    parser.add_argument("--seed", type=whole_number(0, high=MAX_SEED), default=0, help="seed of the environments")
    parser.add_argument("--device", type=torch_device, default="auto", help="torch device")
    add_import_options(parser)
    args = parser.parse_args(argv)
    import_environments(args)
    returns = enjoy(
        args.algo,
        args.env,
        args.folder,
        exp_id=args.exp_id,
        load_best=args.load_best,
        n_episodes=args.n_episodes,
        n_envs=args.n_envs,
        max_steps=args.max_steps,
        seed=args.seed,
        device=args.device,
        allow=args.allow_import,
    )
    print(describe_returns(returns))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
