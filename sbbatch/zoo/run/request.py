"""What is to be trained: a request, checked before anything is built."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sbbatch.envs.atari import atari_game
from sbbatch.errors import InvalidValue
from sbbatch.persistence.saved_agent import check_holds, trained_environment
from sbbatch.persistence.sb3_model import open_model
from sbbatch.settings.resolution import (
    COMMAND_LINE,
    RUN_KEYS,
    Setting,
    Settings,
    require_algorithm,
    resolve,
    run_protocol,
    run_value,
    with_origin,
)
from sbbatch.zoo.console.progress import warn
from sbbatch.zoo.logs.folders import RunFolder, probe_folder, run_of
from sbbatch.zoo.logs.track import require_wandb
from sbbatch.zoo.run.build import check_trained_in

AUTO_THREADS = 0


@dataclass(frozen=True)
class Resumption:
    """Where a run is resumed."""

    folder: RunFolder
    model: Path  # to train further
    steps: int  # its agent steps
    replay_buffer: Path | None  # that was saved with it
    began_at: int  # agent steps at which the run began: those of the model that ``-i`` gave it
    total: int  # agent steps at which the run ends


@dataclass(frozen=True)
class Request:
    """
    A training run. The fields without a description here are the options of their names.

    :param settings: hyperparameters with their origins
    :param seed_given: whether the user chose it: a trained agent keeps its own seed otherwise
    :param resumption: where it is resumed; ``None``: a new run
    :param arguments: what ``args.yml`` is to hold; fields of the same name win
    :param words: the command line as it was typed
    :param num_threads: of PyTorch; -1: its default, ``AUTO_THREADS``: the fastest for this run
    """

    algo: str
    env: str
    settings: Settings
    seed: int
    seed_given: bool
    resumption: Resumption | None
    arguments: dict[str, Any]
    words: list[str]
    device: str
    num_threads: int
    trained_agent: Path | None
    eval_freq: int
    eval_episodes: int
    eval_max_steps: int | None
    stuck_steps: int
    n_eval_envs: int | None
    save_freq: int
    save_replay_buffer: bool
    log_folder: Path
    tensorboard_log: Path | None
    log_interval: int
    progress: bool | None
    verbose: int
    uuid: bool
    gym_packages: list[str]
    vec_env: str
    truncate_last_trajectory: bool
    track: bool

    @property
    def cls(self) -> Any:
        """The algorithm's class."""
        return require_algorithm(self.algo)

    @property
    def env_seed(self) -> int:
        """Of the environments: a resumed run plays other episodes than it began with."""
        if self.resumption is None:
            return self.seed
        return int(np.random.SeedSequence([self.seed, self.resumption.steps]).generate_state(1)[0]) & 0x7FFFFFFF

    @property
    def is_new(self) -> bool:
        """Whether a new agent is trained."""
        return self.trained_agent is None and self.resumption is None

    @property
    def n_timesteps(self) -> int:
        """Agent steps to train for."""
        return int(run_value(self.settings, "n_timesteps"))

    @property
    def shows_progress(self) -> bool:
        """A progress bar unless the output goes to a file."""
        return sys.stdout.isatty() if self.progress is None else self.progress

    def check(self) -> None:
        """Refuse with a ``UserError`` what can be refused before anything is built."""
        if self.save_replay_buffer and not issubclass(self.cls, OffPolicyAlgorithm):
            raise InvalidValue(f"--save-replay-buffer: {self.algo} learns from rollouts and has none; remove it")
        for key in ("gradient_steps", "tau"):  # the constructors allow 0, as SB3's do
            if key in self.settings and self.settings[key].value == 0:
                raise InvalidValue(with_origin(f"{key}: got 0, with which nothing is learned", self.settings))
        if self.track:
            require_wandb()
        if self.resumption is None:
            probe_folder(self.log_folder / self.algo)
        if self.tensorboard_log is not None:
            probe_folder(self.tensorboard_log, "-tb")

    def warn_of_oddities(self) -> None:
        """Tell what is no mistake but seldom meant."""
        start, size, period = (self.settings.get(key) for key in ("learning_starts", "batch_size", "train_freq"))
        if self.is_new and start and size and start.value < size.value:
            warn(f"learning_starts {start.value} < batch_size {size.value}: the first batches repeat transitions")
        if period and isinstance(period.given, int) and period.given > 10 * self.n_timesteps:
            warn(f"train_freq {period.given} > n_timesteps {self.n_timesteps}: the run lasts until its first update")
        if self.vec_env == "subproc" and atari_game(self.env) is not None:
            warn("--vec-env subproc changes nothing for Atari games: ALE's C++ environments have their own threads")


def shorten_warm_up(settings: Settings) -> Settings:
    """
    A run whose warm-up takes half of its steps or more would hardly learn: it gets one of a tenth of them instead. What
    the command line says holds as long as anything can be learned.
    """
    start, n_timesteps = settings.get("learning_starts"), int(run_value(settings, "n_timesteps"))
    if start is None or start.value < (n_timesteps if start.origin == COMMAND_LINE else n_timesteps / 2):
        return settings
    shorter = n_timesteps // 10
    warn(f"learning_starts {start.value:,} is too much for n_timesteps {n_timesteps:,}: lowered to {shorter:,}")
    return {**settings, "learning_starts": Setting(shorter, shorter, f"n_timesteps {n_timesteps}")}


def settings_of_trained_agent(
    algo: str, env_id: str, model: Path, overrides: dict[str, Any], conf_file: Path | None
) -> Settings:
    """The settings with which ``-i`` trains a model further: its own, with what the command line may change."""
    cls: Any = require_algorithm(algo)
    for key in ("policy", "policy_kwargs"):
        if key in overrides:
            raise InvalidValue(f"{key}: a trained agent keeps its network; remove {key}, or train a new one without -i")
    check_holds(open_model(model), cls)  # its settings would be read as those of another agent
    trained_in, protocol = trained_environment(model)
    check_trained_in(trained_in, env_id, str(model))
    run = run_of(model, env_id)
    if run is None:
        # The model knows its hyperparameters better than any file; a value it does not use must not be written down.
        settings = resolve(algo, env_id, overrides, conf_file)
        settings = {key: s for key, s in settings.items() if key in overrides or (key in RUN_KEYS and key != "policy")}
        if protocol is not None:
            _check_same("--protocol", protocol, overrides.get("atari_protocol", protocol))
            settings["atari_protocol"] = Setting(protocol, protocol, str(model))
        return settings
    if conf_file is not None:
        raise InvalidValue(f"-conf: the agent keeps the settings in {run.config}; remove -conf, or change with -params")
    before, settings = (resolve(algo, env_id, changes, run_file=run.config) for changes in ({}, overrides))
    _check_same("--protocol", run_protocol(env_id, cls, before), run_protocol(env_id, cls, settings))
    _check_same("normalize", run_value(before, "normalize"), run_value(settings, "normalize"))
    return settings


def _check_same(name: str, before: Any, now: Any) -> None:
    if now != before:
        raise InvalidValue(f"{name}: got {now!r}, but the agent was trained with {before!r}; remove {name}")
