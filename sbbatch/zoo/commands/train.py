"""``sbbatch train``: from the command line to a request, from the run to its pictures."""

from __future__ import annotations

import importlib
import secrets
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from sbbatch.analysis.metrics_callback import FILE_NAME
from sbbatch.envs.make import canonical_id
from sbbatch.errors import InvalidValue, UserError, check_int
from sbbatch.settings.imports import allow_imports, import_packages
from sbbatch.settings.reader import read_yaml
from sbbatch.settings.resolution import Settings, require_algorithm, resolve, run_value
from sbbatch.settings.schema import plain
from sbbatch.settings.show import show_settings
from sbbatch.zoo.commands.cli import MAX_SEED, computes, guarded
from sbbatch.zoo.commands.options import (
    BY_NAME,
    OnResume,
    contradiction,
    import_environments,
    resumed_options,
    setting_overrides,
    train_parser,
    with_defaults,
)
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.logs.folders import RunFolder, id_of_run, open_run
from sbbatch.zoo.plot.batch_trace import plot_batch
from sbbatch.zoo.plot.curves import plot_run
from sbbatch.zoo.plot.metrics import plot_metrics
from sbbatch.zoo.run.build import model_file
from sbbatch.zoo.run.request import Request, Resumption, settings_of_trained_agent, shorten_warm_up
from sbbatch.zoo.run.resume import newest_model
from sbbatch.zoo.run.seeds import run_seeds
from sbbatch.zoo.run.train import run

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

TUNE_WORDS = ("-optimize", "--optimize", "--optimize-hyperparameters")


def read_request(words: Sequence[str]) -> Request:
    """Read and check a command line and the files it names, with a ``UserError`` for a mistake; nothing is built."""
    typed = vars(train_parser(epilog=EXAMPLES).parse_args(words))
    request = _resumed(typed, list(words)) if "resume" in typed else _new(with_defaults(typed), list(words))
    if request.arguments.get("strict_device") and request.device != "auto" and not computes(request.device):
        raise InvalidValue(
            f"--device: got '{request.device}', which is not here; remove --strict-device to use the CPU"
        )
    request.check()
    return request


def _new(args: Namespace, words: list[str]) -> Request:
    """A run in a folder of its own."""
    if args.seeds is not None and args.seed != -1:
        raise InvalidValue("--seed and --seeds: got both; give one of them")
    if args.suite is not None and args.trained_agent is not None:
        raise InvalidValue("--suite: a trained agent goes on with its own settings; remove --suite")
    if args.jobs > 1 and args.seeds is None:
        raise InvalidValue(f"--jobs: got {args.jobs}, but there is one run only; give --seeds, e.g. --seeds 0:5")
    if args.conf_file is not None and args.conf_file.suffix == ".py":
        raise InvalidValue(f"-conf: {args.conf_file} is a program, which would be run; write its values as a YAML file")
    require_algorithm(args.algo)
    import_environments(args)
    args.env = canonical_id(args.env)
    overrides = setting_overrides(args)
    if args.trained_agent is None:
        settings = shorten_warm_up(resolve(args.algo, args.env, overrides, args.conf_file, suite=args.suite))
    else:
        args.trained_agent = model_file(args.trained_agent)
        settings = settings_of_trained_agent(args.algo, args.env, args.trained_agent, overrides, args.conf_file)
    seed_given = args.seed != -1 or args.seeds is not None
    if args.seed == -1:
        args.seed = secrets.randbelow(MAX_SEED + 1)
    return _request(args, settings, words, vars(args), seed_given=seed_given, resumption=None)


def _resumed(typed: dict[str, Any], words: list[str]) -> Request:
    """A run in the folder that it began in: its ``args.yml`` and ``config.yml`` with what was typed."""
    typed = {name: value for name, value in typed.items() if (name, value) not in (("seed", -1), ("n_timesteps", -1))}
    import_packages(typed.get("gym_packages", []))
    if "env" in typed:
        typed["env"] = canonical_id(typed["env"])
    folder = open_run(typed["resume"])
    written = read_yaml(folder.arguments)
    args = resumed_options(typed, written, folder.arguments)
    check_int(f"{folder.arguments} seed", args.seed, 0, MAX_SEED)
    began_at = check_int(f"{folder.arguments} steps_before", written.get("steps_before", 0), 0)
    if ":" in args.env:  # as an id with a module it would have that imported
        raise InvalidValue(f"{folder.arguments} env: got '{args.env}', expected an id without a module")
    try:
        id_of_run(args.env, lambda: folder)
    except InvalidValue as error:
        raise InvalidValue(f"{folder.arguments} env: {error}") from None
    settings = resolve(args.algo, args.env, run_file=folder.config)
    for key, value in setting_overrides(with_defaults({**typed, "n_timesteps": -1})).items():
        before = settings[key].given if key in settings else None
        if plain(value) != before:
            raise InvalidValue(contradiction(key, plain(value), before))
    length = int(run_value(settings, "n_timesteps"))
    if args.n_timesteps != -1:
        if args.n_timesteps < length:
            raise InvalidValue(f"{contradiction('--n-timesteps', args.n_timesteps, length)}; it can become longer")
        settings = resolve(args.algo, args.env, {"n_timesteps": args.n_timesteps}, run_file=folder.config)
        length = args.n_timesteps
    newest = newest_model(folder, require_algorithm(args.algo), args.env, run_value(settings, "normalize") is not None)
    resumption = Resumption(folder, *newest, began_at, began_at + length)
    free = {name: value for name, value in typed.items() if BY_NAME[name].on_resume in (OnResume.FREE, OnResume.TYPED)}
    arguments = {**vars(args), **written, **free}
    return _request(args, settings, words, arguments, seed_given=True, resumption=resumption)


def _request(args: Namespace, settings: Settings, words: list[str], arguments: dict[str, Any], **own: Any) -> Request:
    names = {field.name for field in fields(Request)}
    return Request(
        **{name: value for name, value in vars(args).items() if name in names},
        settings=allow_imports(settings, args.allow_import),
        **own,
        arguments={**arguments, "n_timesteps": int(run_value(settings, "n_timesteps"))},
        words=words,
    )


def draw_pictures(folder: RunFolder) -> None:
    """Draw what a run has learned, or say why that cannot be: a run is worth more than its pictures."""
    pictures = {"learning curve": lambda: plot_run(folder.path)}
    if folder.batch_sizes.exists():
        pictures["batch size picture"] = lambda: plot_batch([folder.path])
    if (folder.path / FILE_NAME).exists():
        pictures["metrics picture"] = lambda: plot_metrics([folder.path])
    for name, draw in pictures.items():
        try:
            say(f"{name}: {draw()[0]}")
        except UserError as error:
            say(f"no {name}: {error}")


@guarded
def main(argv: list[str] | None = None) -> int:
    """``sbbatch train``: its arguments (``None``: those of the process) to an exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if any(word in TUNE_WORDS for word in words):
        # As rl-baselines3-zoo's train.py does; Optuna is only imported when somebody tunes.
        tune = importlib.import_module("sbbatch.zoo.commands.tune")
        return int(tune.main([word for word in words if word not in TUNE_WORDS]))
    request = read_request(words)
    if request.arguments["show_config"]:
        print(show_settings(request.cls, request.env, request.settings))
        return 0
    if request.arguments["seeds"] is not None and request.resumption is None:
        return run_seeds(request, request.arguments["seeds"], request.arguments["jobs"], draw_pictures)
    goes_on = request.resumption
    if goes_on is not None and goes_on.steps >= goes_on.total:
        say(f"the run in {goes_on.folder.path} is complete after {goes_on.total:,} agent steps; give -n to train on")
        return 0
    exit_code, folder = run(request)
    draw_pictures(folder)
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())
