"""Which trained model a command is about: one of a run of the log folder, or a file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

import sbbatch
from sbbatch.envs.atari import atari_game
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.persistence.normalization import load_normalization, statistics_of
from sbbatch.persistence.saved_agent import check_holds, trained_environment
from sbbatch.persistence.sb3_model import SB3ModelFile, open_model
from sbbatch.settings.imports import WRAPPERS, allow_imports, import_environments
from sbbatch.settings.resolution import Setting, Settings, require_algorithm, resolve, run_value
from sbbatch.zoo.commands.cli import Parser, torch_device, whole_number
from sbbatch.zoo.commands.options import add_import_options
from sbbatch.zoo.console.progress import games_bar
from sbbatch.zoo.logs.folders import RunFolder, find_run, run_of
from sbbatch.zoo.play.scores import PlayedGame, games_side_by_side, play_games
from sbbatch.zoo.run.build import check_trained_in, env_arguments, model_file, run_env, run_protocol

DEFAULT_ALGO = "qrdqn"
_CHECKPOINT = re.compile(r"rl_model_(\d+)_steps\.zip")


@dataclass(frozen=True)
class Trained:
    """
    A model file with all that is needed to play as it was trained.

    :param path: the file
    :param cls: its algorithm
    :param env_id: environment
    :param settings: of its run; empty for a file that was taken elsewhere
    :param trust: whether a file of SB3 may run what it has pickled
    """

    path: Path
    cls: Any
    env_id: str
    settings: Settings
    trust: bool = False

    def load(self, device: str = "auto") -> BaseAlgorithm:
        """
        The model, without environments: it needs no replay memory to play.

        :param device: torch device
        """
        return self.cls.load(self.path, device=device, trust=self.trust)

    def protocol(self) -> str | None:
        """The Atari protocol it was trained with; ``None``: no Atari game."""
        usual = run_protocol(self.env_id, self.cls, self.settings)
        return usual and (run_value(self.settings, "atari_protocol") or trained_environment(self.path)[1] or usual)

    def drawn_with(self) -> dict[str, Any]:
        """
        The environment's arguments and wrappers of the training, as :func:`sbbatch.zoo.play.record.record` takes them.

        :raises InvalidValue: nothing can be drawn through one of them
        """
        if run_value(self.settings, "vec_env_wrapper"):
            raise InvalidValue(
                f"{self.path} was trained with a vec_env_wrapper, through which nothing is drawn; play it with "
                "enjoy --no-render"
            )
        wrappers = () if atari_game(self.env_id) is not None else run_value(self.settings, "env_wrapper") or ()
        return {"env_kwargs": env_arguments(self.settings, False), "env_wrapper": wrappers}

    def normalizes(self) -> bool:
        """Whether it was trained on normalized observations or rewards."""
        return run_value(self.settings, "normalize") is not None

    def make_env(self, n_envs: int, seed: int, max_steps: int | None = None) -> VecEnv:
        """
        Environments for whole games with raw rewards, whose observations are normalized as in the training.

        :param n_envs: how many
        :param seed: of the first; the others get the next numbers
        :param max_steps: agent steps after which a game is cut off (``None``: the environment's own limit)
        """
        env = run_env(self.env_id, self.cls, self.settings, seed, False, n_envs, max_steps)
        try:
            load_normalization(statistics_of(self.path), env)
        except InvalidValue:
            env.close()
            raise
        return env

    def play(
        self,
        n_episodes: int,
        *,
        n_envs: int | None = None,
        seed: int = 0,
        max_steps: int | None = None,
        n_steps: int | None = None,
        deterministic: bool = True,
        device: str = "auto",
        progress: bool | None = False,
    ) -> list[PlayedGame]:
        """
        Whole games with their raw returns.

        :param n_episodes: games to play
        :param n_envs: games side by side (``None``: all of them on Atari, else 1)
        :param seed: of the environments
        :param max_steps: agent steps after which a game is cut off (``None``: the environment's own limit)
        :param n_steps: steps of every environment after which to stop
        :param deterministic: greedy actions
        :param device: torch device
        :param progress: whether to show a bar; ``None``: on a terminal
        """
        env = self.make_env(games_side_by_side(self.env_id, n_episodes, n_envs), seed, max_steps)
        try:
            model = self.load(device)
            with games_bar(n_episodes, progress) as tell:
                return play_games(model, env, n_episodes, n_steps=n_steps, deterministic=deterministic, tell=tell)
        finally:
            env.close()


def add_options(parser: Parser) -> None:
    """
    The options that name a model, by rl-baselines3-zoo's names.

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
    add_import_options(parser)
    add("--device", type=torch_device, default="auto", help="torch device")


def find_trained(args: argparse.Namespace) -> Trained:
    """
    The model that the options of :func:`add_options` name.

    :param args: the command line
    :raises UserError: there is none, or one of another environment
    """
    if args.env is not None:
        import_environments(args)
    if args.trained_agent is not None:
        trained = _of_file(model_file(args.trained_agent), args.algo, args.env, args.trust)
        return replace(trained, settings=allow_imports(trained.settings, args.allow_import, WRAPPERS))
    if args.env is None:
        raise InvalidValue("--env: give the environment, e.g. --env CartPole-v1, or a model's file with -i")
    env_id, algo = canonical_id(args.env), args.algo or DEFAULT_ALGO
    require_algorithm(algo)
    run = find_run(args.folder, algo, env_id, args.exp_id)
    if args.load_checkpoint is not None or args.load_last_checkpoint:
        path = _checkpoint(run, args.load_checkpoint)
    else:
        path = run.best_model if args.load_best else run.last_model
    return of_run(run, algo, env_id, path, args.allow_import)


def of_run(run: RunFolder, algo: str, env_id: str, path: Path, allow: Sequence[str] = ()) -> Trained:
    """
    A model of a run.

    :param run: its folder
    :param algo: name of the algorithm
    :param env_id: environment
    :param path: the model's file
    :param allow: modules whose wrappers may be imported, besides those known to be harmless
    :raises UserError: no such model, or one of another environment
    """
    if not path.is_file():
        raise InvalidValue(f"no such model: {path}; {_why_missing(run, path)}")
    check_trained_in(trained_environment(path)[0], env_id, str(path))
    settings = allow_imports(resolve(algo, env_id, run_file=run.config), allow, WRAPPERS)
    return Trained(path, require_algorithm(algo), env_id, settings)


def _why_missing(run: RunFolder, path: Path) -> str:
    """What has not happened yet in a run, and which of its models is there instead."""
    if path == run.best_model:
        return "no evaluation has ended" + ("; leave out --load-best" if run.last_model.is_file() else "")
    instead = {"--load-best": run.best_model.is_file(), "--load-last-checkpoint": bool(_checkpoints(run))}
    there = [option for option, is_there in instead.items() if is_there]
    return "the run has not ended" + (f", try {there[0]}" if there else "")


def _checkpoints(run: RunFolder) -> dict[int, Path]:
    """By their agent steps."""
    if not run.path.is_dir():
        return {}
    return {int(match[1]): path for path in run.path.iterdir() if (match := _CHECKPOINT.fullmatch(path.name))}


def _checkpoint(run: RunFolder, steps: int | None) -> Path:
    """The one after so many agent steps, or the latest."""
    found = _checkpoints(run)
    if not found:
        raise InvalidValue(f"{run.path}: no checkpoints; train with --save-freq")
    if steps is not None and steps not in found:
        known = ", ".join(str(number) for number in sorted(found))
        raise InvalidValue(f"--load-checkpoint: got {steps}, of which {run.path} has none; there are: {known}")
    return found[max(found) if steps is None else steps]


def _of_file(path: Path, algo: str | None, env: str | None, trust: bool) -> Trained:
    """What is not given, the file says."""
    model = open_model(path)
    held = model.algorithm
    algo = algo or next((name for name, cls in sbbatch.ALGORITHMS.items() if cls.__name__ == held), None)
    if algo is None:
        raise InvalidValue(f"{path}: holds no agent of sbbatch or SB3 that is known here; give --algo")
    cls: Any = require_algorithm(algo)
    check_holds(model, cls)  # its settings would be read as those of another agent
    trained_in, _ = trained_environment(path)
    if trained_in is None and env is None:
        raise InvalidValue(f"{path}: does not say what it was trained in; give --env")
    env_id = canonical_id(env or str(trained_in))
    check_trained_in(trained_in, env_id, str(path))
    run = run_of(path, env_id)
    if run is not None and _written_by_zoo(run):
        if (run.parameters / "vecnormalize.pkl").exists():
            raise InvalidValue(
                f"{path} was trained by rl-baselines3-zoo on normalized observations; play it in Python with "
                "sbbatch.interop.load_vec_normalize, or with `sbbatch rl_zoo3 enjoy`"
            )
        run = None
    elif run is None and statistics_of(path).exists():
        raise InvalidValue(f"{path} was trained on normalized observations; leave it in its run folder, which says how")
    settings = {} if run is None else resolve(algo, env_id, run_file=run.config)
    if isinstance(model, SB3ModelFile) and atari_game(env_id) is not None:
        settings["atari_protocol"] = Setting("sb3", "sb3", str(path))
    return Trained(path, cls, env_id, settings, trust)


def _written_by_zoo(run: RunFolder) -> bool:
    """Its files have tags that build Python objects, ours have none."""
    with run.config.open(encoding="utf-8", errors="replace") as file:
        return file.readline().startswith("!!python/object")
