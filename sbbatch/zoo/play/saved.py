"""Agents that were saved, with the settings of their runs: what plays, and how it was trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

import sbbatch
from sbbatch.envs.atari import atari_game
from sbbatch.envs.make import parallel_episodes
from sbbatch.envs.stuck import STUCK_STEPS
from sbbatch.errors import InvalidValue
from sbbatch.persistence.normalization import load_normalization, statistics_of
from sbbatch.persistence.saved_agent import check_holds, trained_environment
from sbbatch.persistence.sb3_model import SB3ModelFile, open_model
from sbbatch.settings.resolution import Setting, Settings, require_algorithm, resolve, run_protocol, run_value
from sbbatch.zoo.logs.folders import RunFolder, find_run, id_of_run, run_of
from sbbatch.zoo.play.scores import Episode, play_episodes
from sbbatch.zoo.run.build import check_trained_in, env_arguments, model_file, run_env


@dataclass(frozen=True)
class SavedAgent:
    """A model file with all that is needed to play as it was trained."""

    path: Path
    cls: Any  # its algorithm
    env_id: str
    settings: Settings  # of its run; empty for a file that was taken elsewhere
    trust: bool = False  # whether a file of SB3 may run what it has pickled

    def load(self, device: str = "auto") -> BaseAlgorithm:
        """The model, without environments: it needs no replay memory to play."""
        return self.cls.load(self.path, device=device, trust=self.trust)

    def protocol(self) -> str | None:
        """The Atari protocol it was trained with; ``None``: no Atari game."""
        usual = run_protocol(self.env_id, self.cls, self.settings)
        return usual and (run_value(self.settings, "atari_protocol") or trained_environment(self.path)[1] or usual)

    def rendered_with(self) -> dict[str, Any]:
        """What :class:`~sbbatch.zoo.play.screen.RenderedEnv` needs to show what was seen in the training."""
        if run_value(self.settings, "vec_env_wrapper"):
            raise InvalidValue(
                f"{self.path} was trained with a vec_env_wrapper, through which nothing is drawn; play it with "
                "enjoy --no-render"
            )
        if atari_game(self.env_id) is not None:
            return {"protocol": self.protocol()}
        normalizes = run_value(self.settings, "normalize") is not None
        return {
            "env_kwargs": env_arguments(self.settings, False),
            "env_wrapper": run_value(self.settings, "env_wrapper") or (),
            **({"normalize": self.make_env(1, 0).normalize_obs} if normalizes else {}),  # type: ignore[attr-defined]
        }

    def make_env(self, n_envs: int, seed: int, max_steps: int | None = None, stuck_steps: int = -1) -> VecEnv:
        """Environments for whole episodes with raw rewards, whose observations are normalized as in the training."""
        env = run_env(self.env_id, self.cls, self.settings, seed, False, n_envs, max_steps, stuck_steps=stuck_steps)
        try:
            load_normalization(statistics_of(self.path), env)
        except InvalidValue:
            env.close()
            raise
        return env

    def play(
        self,
        n_episodes: int | None = None,
        *,
        n_envs: int | None = None,
        seed: int = 0,
        max_steps: int | None = None,
        deterministic: bool = True,
        stuck_steps: int = STUCK_STEPS,
        device: str = "auto",
        **options: Any,
    ) -> list[Episode]:
        """
        Whole episodes with their raw returns.

        :param n_episodes: episodes to play (``None``: until ``n_steps``)
        :param n_envs: episodes side by side (``None``: all of them on Atari, else 1)
        :param seed: of the first environment
        :param max_steps: agent steps after which an episode is cut off (``None``: the environment's own limit)
        :param deterministic: greedy actions
        :param stuck_steps: of greedy actions, see :class:`~sbbatch.envs.stuck.StuckDetector`; -1: never
        :param device: torch device
        :param options: see :func:`~sbbatch.zoo.play.scores.play_episodes`
        """
        if n_episodes is not None:
            n_envs = parallel_episodes(self.env_id, n_episodes, n_envs)
        env = self.make_env(n_envs or 1, seed, max_steps, stuck_steps if deterministic else -1)
        try:
            return play_episodes(self.load(device), env, n_episodes, deterministic=deterministic, **options)
        finally:
            env.close()


def find_agent(log_folder: Path, algo: str, env_id: str, number: int = 0, which: str | int = "last") -> SavedAgent:
    """
    An agent of a run in the log folder.

    :param log_folder: e.g. ``logs``
    :param algo: name of the algorithm
    :param env_id: environment
    :param number: of the run; 0: the latest, -1: files that lie in the algorithm's folder itself
    :param which: ``"last"``, ``"best"``, ``"last checkpoint"``, or the agent steps of a checkpoint
    :raises UserError: there is none, or one of another environment
    """
    require_algorithm(algo)
    run = find_run(log_folder, algo, env_id, number)
    if which == "last checkpoint":
        which = max((int(path.stem.split("_")[2]) for path in run.path.glob("rl_model_*_steps.zip")), default=0)
    paths = {"last": run.last_model, "best": run.best_model}
    return agent_of_run(run, algo, env_id, paths.get(str(which), run.path / f"rl_model_{which}_steps.zip"))


def agent_of_run(run: RunFolder, algo: str, env_id: str, path: Path) -> SavedAgent:
    """
    An agent of a run, from the file ``path``.

    :raises UserError: no such model, or one of another environment
    """
    if not path.is_file():
        there = ", ".join(sorted(model.name for model in run.path.glob("*.zip"))) or "none"
        raise InvalidValue(f"no such model: {path}; there are: {there}")
    check_trained_in(trained_environment(path)[0], env_id, str(path))
    return SavedAgent(path, require_algorithm(algo), env_id, resolve(algo, env_id, run_file=run.config))


def agent_of_file(path: Path, algo: str | None = None, env: str | None = None, trust: bool = False) -> SavedAgent:
    """
    An agent of a model's file, ours or SB3's; what is not given, the file or its run says.

    :param path: the file, with or without ``.zip``
    :param algo: name of the algorithm
    :param env: environment
    :param trust: whether a file of SB3 may run what it has pickled
    :raises UserError: there is none, or one of another algorithm or environment, or something is not known
    """
    path = model_file(path)
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
    given = env or str(trained_in)
    env_id = id_of_run(given, lambda: run_of(path, given))
    check_trained_in(trained_in, env_id, str(path))
    run = run_of(path, env_id)
    if run is not None and run.config.read_bytes().startswith(b"!!python/object"):  # tags that ours never have
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
    return SavedAgent(path, cls, env_id, settings, trust)
