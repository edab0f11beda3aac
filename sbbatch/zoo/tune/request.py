"""A study as it was asked for: checked before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from sbbatch.envs.atari import atari_game
from sbbatch.envs.make import parallel_episodes
from sbbatch.errors import InvalidValue, UserError
from sbbatch.settings.imports import allow_imports
from sbbatch.settings.resolution import (
    COMMAND_LINE,
    Settings,
    constructor_values,
    explicit_values,
    require_algorithm,
    resolve,
    run_value,
)
from sbbatch.zoo.logs.folders import RunFolder, folder_name, plain, probe_folder
from sbbatch.zoo.run.build import UNLIMITED_STEPS, run_env
from sbbatch.zoo.run.request import shorten_warm_up
from sbbatch.zoo.tune.space import Space, extremes, for_environments, read_space, with_abs

# A trial only has to tell good settings from bad ones.
SHARE_OF_A_RUN = 5


@dataclass(frozen=True)
class Options:
    """The options of ``sbbatch tune``; ``overrides`` are those that stand for settings."""

    algo: str
    env: str
    space: str
    abs: bool
    n_trials: int
    n_jobs: int
    n_seeds: int
    timeout: int | None
    sampler: str
    pruner: str
    n_startup_trials: int
    n_evaluations: int
    eval_episodes: int
    eval_max_steps: int | None
    n_eval_envs: int | None
    study_name: str | None
    storage: str | None
    heartbeat: int
    conf_file: Path | None
    suite: str | None
    seed: int
    device: str
    log_folder: Path
    report_only: bool
    no_optim_plots: bool
    verbose: int
    gym_packages: list[str]
    allow_import: list[str]
    overrides: dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """What each trial may cost; trials of one study are comparable only if it is the same."""

    n_timesteps: int  # agent steps of each training
    n_evaluations: int  # of each training
    eval_episodes: int  # whole episodes of each evaluation
    n_eval_envs: int  # of them side by side
    eval_max_steps: int | None  # after which such an episode is cut off (None: the environment's own limit)
    n_seeds: int  # trainings of each trial


@dataclass(frozen=True)
class StudyRequest:
    """A study and how to work on it; each worker gets a copy."""

    options: Options
    space: Space
    budget: Budget
    settings: dict[str, Any]  # what all trials share, as written in files and on the command line
    seed: int  # -1: that of the existing study, or a random one
    folder: Path  # of the study's files; of a study without a name, of all studies of the agent
    study_name: str  # in the database (empty: the space's, with a number)
    url: str  # of the database (empty: a SQLite file in the folder)
    first_trial: int = 0  # of this command; failures before it are forgiven
    deadline: float = float("inf")  # after which no further trial begins, in seconds since the epoch

    @property
    def run(self) -> RunFolder:
        """The settings that all trials share, written down as a run's."""
        return RunFolder(self.folder, folder_name(self.options.env))

    @property
    def protocol(self) -> dict[str, Any]:
        """What makes a study this one; trials of studies that differ in it cannot be compared."""
        own = {"algo": self.options.algo, "env": self.options.env, "seed": self.seed, **asdict(self.budget)}
        return {**own, "space": self.space.name, "axes": self.space.entries, "settings": self.settings}

    def training_seed(self, trial: int, index: int) -> int:
        """The seed of one training of a trial (of a retried one: its first attempt), with room for those after it."""
        return int(np.random.SeedSequence([self.seed, trial, index]).generate_state(1)[0] >> 2)


def place_of(options: Options) -> dict[str, Any]:
    """Where the study is, as fields of a :class:`StudyRequest`."""
    folder, name = options.log_folder / "tune" / options.algo, options.study_name or ""
    folder = folder / f"{folder_name(options.env)}_{name}" if name else folder
    return {"folder": folder, "study_name": name, "url": options.storage or ""}


def read_study_request(options: Options) -> StudyRequest:
    """Read the YAML files and what the command line changes in them, and try the environment and the space."""
    cls: Any = require_algorithm(options.algo)
    overrides = dict(options.overrides)

    def settings_of(changed: Mapping[str, Any]) -> Settings:
        return resolve(options.algo, options.env, changed, options.conf_file, suite=options.suite)

    if "n_timesteps" not in overrides:
        overrides["n_timesteps"] = max(run_value(settings_of(overrides), "n_timesteps") // SHARE_OF_A_RUN, 1)
    settings = allow_imports(shorten_warm_up(settings_of(overrides)), options.allow_import)
    budget = _read_budget(options, settings)
    for training in (True, False):  # what is wrong with the environment would else be the end of every trial
        run_env(options.env, cls, settings, 0, training, 1).close()
    space = for_environments(read_space(options.space, options.algo), run_value(settings, "n_envs", 1))
    if options.abs:
        if options.space.endswith((".yml", ".yaml")):
            raise InvalidValue(f"--abs: write batch_size_callback into {options.space} instead")
        adapted = cls.scaling_defaults.size_name
        n_envs = run_value(settings, "n_envs", 1) if adapted == "n_steps" else 1
        space = with_abs(space, options.algo, adapted, budget.n_timesteps / n_envs)
    base, where = plain(explicit_values(settings)), f"--space {options.space}"
    for key in sorted(set(space.entries) & set(overrides)):
        raise InvalidValue(f"{where}: {key} is searched, but the same for all trials by -n or -params")
    # The ends of each range, one at a time; what only goes wrong together is the outcome of a trial.
    for key, value in [(key, value) for key, entry in space.entries.items() for value in extremes(entry)]:
        try:
            tried = settings_of({**overrides, **space.settings({**space.values({}), key: value}, base)})
            policy = run_value(tried, "policy") or "MlpPolicy"
            cls(policy, None, device="cpu", _init_setup_model=False, **constructor_values(tried))
        except UserError as error:
            raise type(error)(f"{where}: {str(error).removeprefix(COMMAND_LINE).lstrip(': ')}") from None
    place = place_of(options)
    probe_folder(place["folder"])
    return StudyRequest(options, space, budget, base, options.seed, **place)


def _read_budget(options: Options, settings: Settings) -> Budget:
    n_timesteps, n_envs = run_value(settings, "n_timesteps"), run_value(settings, "n_envs", 1)
    if options.n_evaluations > n_timesteps // n_envs:
        raise InvalidValue(f"--n-evaluations: got {options.n_evaluations}, with {n_timesteps // n_envs} steps of each")
    # A limit that is given by name is not announced anew in each evaluation.
    limited = atari_game(options.env) is not None or gym.spec(options.env).max_episode_steps is not None
    max_steps = options.eval_max_steps if options.eval_max_steps is not None or limited else UNLIMITED_STEPS
    # Side by side for every environment: a study plays hundreds of evaluations.
    side_by_side = parallel_episodes(options.env, options.eval_episodes, options.n_eval_envs or options.eval_episodes)
    counts = options.n_evaluations, options.eval_episodes, side_by_side
    return Budget(int(n_timesteps), *counts, max_steps, options.n_seeds)
