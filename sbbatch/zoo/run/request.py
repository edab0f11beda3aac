"""What ``sbbatch train`` was asked for: its options, read and checked before anything is built."""

from __future__ import annotations

import argparse
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sbbatch.agents import ALGORITHMS
from sbbatch.envs.atari import PROTOCOLS, atari_game
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue
from sbbatch.persistence.saved_agent import check_holds, trained_environment
from sbbatch.persistence.sb3_model import open_model
from sbbatch.settings.imports import allow_imports, import_environments
from sbbatch.settings.resolution import (
    COMMAND_LINE,
    RUN_KEYS,
    Setting,
    Settings,
    read_overrides,
    require_algorithm,
    resolve,
    run_value,
    with_origin,
)
from sbbatch.zoo.commands.cli import MAX_SEED, MAX_THREADS, Parser, torch_device, whole_number
from sbbatch.zoo.commands.options import (
    OWN_BOUNDS,
    abs_bounds,
    add_seed_options,
    add_settings_options,
    add_zoo_options,
    env_overrides,
    int_or_text,
)
from sbbatch.zoo.console.progress import warn
from sbbatch.zoo.logs.folders import RunFolder, probe_folder, run_of
from sbbatch.zoo.logs.track import require_wandb
from sbbatch.zoo.run.build import check_trained_in, model_file, run_protocol

EXAMPLES = """examples:
  sbbatch train --algo qrdqn --env ALE/Breakout-v5 --batch-size 8 -n 1000000 --seed 0
  sbbatch train --algo dqn --env CartPole-v1
  sbbatch train --algo qrdqn --env ALE/Pong-v5 -params learning_rate:1e-4 n_steps:3
  sbbatch train --algo pqn --env ALE/Breakout-v5 --abs 16:64
  sbbatch train --algo ppo --env HalfCheetah-v5
  sbbatch train --algo dqn --env CartPole-v1 -i logs/dqn/CartPole-v1_1/CartPole-v1.zip -n 20000
  sbbatch train --algo dqn --env CartPole-v1 --seeds 0:5 --jobs 2
  sbbatch train --resume logs/dqn/CartPole-v1_1

With -optimize all other options go to `sbbatch tune`.

One agent step is one action of the agent in one environment: 4 frames of an Atari game."""


@dataclass(frozen=True)
class Resumption:
    """
    A run that goes on in its own folder.

    :param folder: the folder
    :param arguments: content of its ``args.yml``
    :param model: file of the model that goes on
    :param steps: its agent steps
    :param replay_buffer: file of the replay buffer that was saved with it
    :param began_at: agent steps at which the run began: those of the model that ``-i`` gave it
    :param total: agent steps at which the run ends
    """

    folder: RunFolder
    arguments: dict[str, Any]
    model: Path
    steps: int
    replay_buffer: Path | None
    began_at: int
    total: int


@dataclass(frozen=True)
class Request:
    """
    A run as it was asked for, checked.

    :param args: the command line
    :param cls: the algorithm
    :param env_id: environment
    :param settings: hyperparameters with their origins
    :param seed: of everything
    :param words: the command line as typed
    :param resumption: what goes on, if it is no new run
    """

    args: argparse.Namespace
    cls: Any
    env_id: str
    settings: Settings
    seed: int
    words: list[str]
    resumption: Resumption | None = None

    @property
    def env_seed(self) -> int:
        """Of the environments: a run that goes on plays other games than it began with."""
        if self.resumption is None:
            return self.seed
        drawn = np.random.SeedSequence([self.seed, self.resumption.steps]).generate_state(1)[0]
        return int(drawn) % (MAX_SEED + 1)

    @property
    def own_seed(self) -> int | None:
        """The seed that was asked for; ``None``: a trained agent keeps its own."""
        return self.seed if self.args.seed != -1 or self.args.seeds is not None else None

    @property
    def n_timesteps(self) -> int:
        """Agent steps to train for."""
        return int(run_value(self.settings, "n_timesteps"))

    @property
    def evaluates(self) -> bool:
        """Whether there are evaluations."""
        return bool(self.args.eval_freq > 0)

    @property
    def shows_progress(self) -> bool:
        """A progress bar unless the output goes to a file."""
        return sys.stdout.isatty() if self.args.progress is None else bool(self.args.progress)


def make_parser() -> argparse.ArgumentParser:
    """The options, by rl-baselines3-zoo's names."""
    parser = Parser(prog="sbbatch train", description="Train an agent.", epilog=EXAMPLES)
    add = parser.add_argument
    add("--algo", default="qrdqn", help=f"algorithm: {', '.join(ALGORITHMS)} (default: qrdqn)")
    add("--env", default="CartPole-v1", help="environment, e.g. CartPole-v1, ALE/Breakout-v5")
    add("-n", "--n-timesteps", type=whole_number(1, -1), default=-1, help="agent steps (-1: as in the YAML file)")
    add("--batch-size", type=int_or_text, help="samples per gradient step (PPO: of a minibatch)")
    add("--n-steps", type=int_or_text, help="n of the n-step return (PQN, PPO: steps per environment and rollout)")
    add("--n-envs", type=int_or_text, help="environments side by side")
    add(
        "--abs",
        type=abs_bounds,
        nargs="?",
        const=OWN_BOUNDS,
        metavar="LOW:HIGH",
        help="adapt the batch size (ABS), between bounds or the algorithm's own: rollout steps for PQN and PPO, "
        "samples per gradient step for the others",
    )
    add("--protocol", help=f"Atari protocol: {', '.join(PROTOCOLS)} (default: the algorithm's)")
    add_settings_options(parser)
    add("--show-config", action="store_true", help="print every setting with where it came from, and do nothing else")
    add("--seed", type=whole_number(0, -1, high=MAX_SEED), default=-1, help="seed of everything (-1: a random one)")
    add("--device", type=torch_device, default="auto", help="torch device")
    add(
        "--num-threads",
        type=whole_number(1, -1, high=MAX_THREADS),
        default=-1,
        help="threads for PyTorch (-1: its default)",
    )
    add_seed_options(parser)
    add("-i", "--trained-agent", type=Path, help="a model to go on with, and its replay buffer if it lies beside it")
    add("--resume", type=Path, metavar="RUN_FOLDER", help="go on with a run in its own folder, up to its n_timesteps")
    add("--eval-freq", type=whole_number(1, -1), default=25_000, help="agent steps between evaluations (-1: none)")
    add("--eval-episodes", type=whole_number(1), default=5, help="whole games per evaluation")
    add("--eval-max-steps", type=whole_number(1), help="cut evaluation games off after this many agent steps")
    add("--n-eval-envs", type=whole_number(1), help="games side by side (default: all of them on Atari, else 1)")
    add("--save-freq", type=whole_number(1, -1), default=-1, help="agent steps between checkpoints (-1: none)")
    add("--save-replay-buffer", action="store_true", help="also save the replay buffer, if the agent has one")
    add("-f", "--log-folder", type=Path, default=Path("logs"), help="where runs are kept")
    add("-tb", "--tensorboard-log", type=Path, help="TensorBoard folder")
    add(
        "--log-interval",
        type=whole_number(1, -1, -2),
        default=-1,
        help="episodes (PQN, PPO: rollouts) between log lines (-1: SB3's, -2: none)",
    )
    add("-P", "--progress", action="store_true", default=None, help="progress bar (default on a terminal)")
    add("--no-progress", action="store_false", dest="progress", help="SB3's tables instead of a progress bar")
    add("--verbose", type=whole_number(0), default=1, help="0: only the summary, 1: as usual, 2: all of SB3")
    add("-uuid", "--uuid", action="store_true", help="append a unique id to the run's folder")
    add_zoo_options(parser)
    return parser


def read_request(argv: list[str] | None) -> Request:
    """
    Read and check the command line and the YAML files; nothing is built.

    :param argv: arguments (``None``: those of the process)
    :raises UserError: anything that is wrong with them
    """
    words = sys.argv[1:] if argv is None else argv
    args = make_parser().parse_args(words)
    _check_combinations(args)
    cls = require_algorithm(args.algo)
    import_environments(args)
    env_id = canonical_id(args.env)
    check_saves_replay(args, cls)
    overrides = overrides_of(args)
    if args.trained_agent is None:
        settings = resolve(args.algo, env_id, overrides, args.conf_file, suite=args.suite)
    else:
        args.trained_agent = model_file(args.trained_agent)
        settings = _resumed_settings(args, cls, env_id, overrides)
    settings = allow_imports(settings, args.allow_import)
    _check_learns(settings)
    seed = args.seed if args.seed != -1 else secrets.randbelow(MAX_SEED + 1)
    request = Request(args, cls, env_id, settings, seed, words)
    if args.trained_agent is None:
        _check_learning_starts(request)
    if args.track:
        require_wandb()
    probe_folder(args.log_folder / args.algo)
    if args.tensorboard_log is not None:
        probe_folder(args.tensorboard_log, "-tb")
    return request


def _check_combinations(args: argparse.Namespace) -> None:
    """Options that do not go together."""
    if args.seeds is not None and args.seed != -1:
        raise InvalidValue("--seed and --seeds: got both; give one of them")
    if args.suite is not None and args.trained_agent is not None:
        raise InvalidValue("--suite: a trained agent goes on with its own settings; remove --suite")
    if args.jobs > 1 and args.seeds is None:
        raise InvalidValue(f"--jobs: got {args.jobs}, but there is one run only; give --seeds, e.g. --seeds 0:5")
    if args.conf_file is not None and args.conf_file.suffix == ".py":
        raise InvalidValue(f"-conf: {args.conf_file} is a program, which would be run; write its values as a YAML file")


def check_saves_replay(args: argparse.Namespace, cls: type) -> None:
    """
    :param args: the command line
    :param cls: the algorithm
    :raises InvalidValue: a replay buffer is to be saved of an agent that has none
    """
    if args.save_replay_buffer and not issubclass(cls, OffPolicyAlgorithm):
        raise InvalidValue(f"--save-replay-buffer: {cls.__name__} learns from rollouts and has none; remove it")


def overrides_of(args: argparse.Namespace) -> dict[str, Any]:
    """
    What the command line says about the settings.

    :param args: the command line
    :raises InvalidValue: a key is given twice
    """
    options = {
        "n_timesteps": None if args.n_timesteps == -1 else args.n_timesteps,
        "batch_size": args.batch_size,
        "n_steps": args.n_steps,
        "n_envs": args.n_envs,
        "batch_size_callback": args.abs,
        "atari_protocol": args.protocol,
        **env_overrides(args),
    }
    return read_overrides(args.hyperparams, options)


def _resumed_settings(args: argparse.Namespace, cls: Any, env_id: str, overrides: dict[str, Any]) -> Settings:
    """The settings of a run that goes on: its own, with what the command line changes."""
    for key in ("policy", "policy_kwargs"):
        if key in overrides:
            raise InvalidValue(f"{key}: a trained agent keeps its network; remove {key}, or train a new one without -i")
    check_holds(open_model(args.trained_agent), cls)  # its settings would be read as those of another agent
    trained_in, protocol = trained_environment(args.trained_agent)
    check_trained_in(trained_in, env_id, str(args.trained_agent))
    run = run_of(args.trained_agent, env_id)
    if run is None:
        # The model knows its hyperparameters better than any file; a value it does not use must not be written down.
        settings = resolve(args.algo, env_id, overrides, args.conf_file)
        settings = {key: s for key, s in settings.items() if key in overrides or (key in RUN_KEYS and key != "policy")}
        if protocol is not None:
            _check_same("--protocol", protocol, overrides.get("atari_protocol", protocol))
            settings["atari_protocol"] = Setting(protocol, protocol, str(args.trained_agent))
        return settings
    if args.conf_file is not None:
        raise InvalidValue(f"-conf: the agent goes on with {run.config}; remove -conf, and change values with -params")
    before = resolve(args.algo, env_id, run_file=run.config)
    settings = resolve(args.algo, env_id, overrides, run_file=run.config)
    _check_same("--protocol", run_protocol(env_id, cls, before), run_protocol(env_id, cls, settings))
    _check_same("normalize", run_value(before, "normalize"), run_value(settings, "normalize"))
    return settings


def _check_same(name: str, before: Any, now: Any) -> None:
    if now != before:
        raise InvalidValue(f"{name}: got {now!r}, but the agent was trained with {before!r}; remove {name}")


def _check_learns(settings: Settings) -> None:
    """The constructor allows these, but a run in which nothing is learned is a mistake."""
    for key, what in (("gradient_steps", "no update would happen"), ("tau", "the target network would never change")):
        if key in settings and settings[key].value == 0:
            raise InvalidValue(with_origin(f"{key}: got 0, so that {what}; give a larger one", settings))


def warn_of_oddities(request: Request) -> None:
    """
    Tell what is no mistake, but seldom meant: poor first batches, an option that changes nothing.

    :param request: the run
    """
    start, size = (request.settings.get(key) for key in ("learning_starts", "batch_size"))
    fresh = request.args.trained_agent is None and request.resumption is None
    if fresh and start and size and start.value < size.value:
        warn(f"learning_starts {start.value} < batch_size {size.value}: the first batches repeat the same transitions")
    period = request.settings.get("train_freq")
    if period and isinstance(period.value, int) and period.value > 10 * request.n_timesteps:
        warn(f"train_freq {period.value} > n_timesteps {request.n_timesteps}: the run goes on until its first update")
    if request.args.vec_env == "subproc" and atari_game(request.env_id) is not None:
        warn("--vec-env subproc changes nothing for Atari games: ALE's C++ environments have threads of their own")


def _check_learning_starts(request: Request) -> None:
    """A run that ends before its warm-up would save an untrained model and call it a result."""
    start = request.settings.get("learning_starts")
    if start is not None and isinstance(start.value, int) and start.value >= request.n_timesteps:
        where = "" if start.origin != COMMAND_LINE else f"{COMMAND_LINE} "
        raise InvalidValue(
            f"{where}learning_starts {start.value} >= n_timesteps {request.n_timesteps}: no update would happen; "
            "raise -n or lower it with -params learning_starts:N"
        )
