"""``sbbatch train``: build the run that was asked for, train, report."""

from __future__ import annotations

import importlib
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.errors import NumericalError, UnwritableFile, UserError
from sbbatch.settings.resolution import explicit_values, run_value
from sbbatch.settings.show import show_settings
from sbbatch.zoo.commands.cli import guarded
from sbbatch.zoo.commands.options import TUNE_WORDS
from sbbatch.zoo.console.progress import say, warn
from sbbatch.zoo.logs.folders import RunFolder, alone_in, create_run_folder, describe_run, discard_run
from sbbatch.zoo.logs.logger import make_logger
from sbbatch.zoo.logs.track import new_id, tracking
from sbbatch.zoo.play.scores import describe_returns
from sbbatch.zoo.plot.batch_trace import PICTURE_NAME, plot_batch
from sbbatch.zoo.plot.curves import plot_run
from sbbatch.zoo.run.assemble import build_env, build_eval_env, build_model, make_callbacks
from sbbatch.zoo.run.build import save_model
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.run.evaluation import Evaluation
from sbbatch.zoo.run.request import Request, make_parser, read_request, warn_of_oddities
from sbbatch.zoo.run.resume import FREE_OPTIONS, find_replay_buffer, read_resumption

_LOST_PROCESS = (EOFError, BrokenPipeError, ConnectionResetError)  # what the other end of its pipe sees


def run(request: Request, begun: Callable[[RunFolder], object] | None = None) -> tuple[int, RunFolder]:
    """
    Train as asked.

    :param request: the run
    :param begun: told the run's folder before the first step
    :return: exit code, and the run's folder
    """
    args = request.args
    if args.num_threads > 0:
        th.set_num_threads(args.num_threads)
    with ExitStack() as stack:
        if request.resumption is not None:
            stack.enter_context(alone_in(request.resumption.folder))
        env = stack.enter_context(_closing(build_env(request)))
        model = build_model(request, env)
        callbacks = [part.make() for part in run_value(request.settings, "callback") or ()]
        eval_env = build_eval_env(request)
        if eval_env is not None:
            stack.enter_context(_closing(eval_env))
        arguments = arguments_of(request, model)
        folder = start_folder(request, arguments)
        if request.resumption is None:
            stack.enter_context(alone_in(folder))
        if begun is not None:
            begun(folder)
        warn_of_oddities(request)
        return train(request, model, eval_env, folder, arguments, callbacks), folder


def train(
    request: Request,
    model: BaseAlgorithm,
    eval_env: VecEnv | None,
    folder: RunFolder,
    arguments: dict[str, Any],
    callbacks: list[BaseCallback],
) -> int:
    """
    Train a model that has been built, and leave what there is to say of it in its folder.

    :param request: the run
    :param model: what learns
    :param eval_env: evaluation environments, if any
    :param folder: the run's folder
    :param arguments: what was written down of the command
    :param callbacks: those that the settings name
    :return: exit code
    """
    with StopRequest() as stop:
        with _no_folder_left_if_refused(request, model, folder), tracking(request, arguments) as formats:
            model.set_logger(make_logger(request, folder, formats))
            evaluation = learn(request, model, eval_env, folder, stop, callbacks)
        early = stop.requested
        save(request, model, folder)
        report(request, folder, evaluation, early)
    _draw(folder)
    return stop.exit_code


def arguments_of(request: Request, model: BaseAlgorithm) -> dict[str, Any]:
    """
    What is written down of a command: its options, with what was chosen for the user.

    :param request: the run
    :param model: what learns
    """
    written = {name: value for name, value in vars(request.args).items() if name != "resume"}
    chosen = {"env": request.env_id, "seed": request.seed, "n_timesteps": request.n_timesteps}
    if request.resumption is None:
        return {**written, **chosen, "steps_before": model.num_timesteps, "wandb_id": new_id()}
    changed = {name: value for name, value in written.items() if name in FREE_OPTIONS}
    return {"wandb_id": new_id(), **written, **request.resumption.arguments, **changed, **chosen}


def start_folder(request: Request, arguments: dict[str, Any]) -> RunFolder:
    """
    Make the run's folder, unless it goes on in its own, and write down how it was started.

    :param request: the run
    :param arguments: every option
    """
    args = request.args
    if request.resumption is not None:
        folder = request.resumption.folder
    else:
        folder = create_run_folder(args.log_folder, args.algo, request.env_id, str(uuid.uuid4()) if args.uuid else "")
    describe_run(folder, explicit_values(request.settings), arguments, ["sbbatch", "train", *request.words])
    return folder


def learn(
    request: Request,
    model: BaseAlgorithm,
    eval_env: VecEnv | None,
    folder: RunFolder,
    stop: StopRequest,
    more: list[BaseCallback],
) -> Evaluation | None:
    """
    Train until the steps are done or somebody asks to stop.

    :param request: the run
    :param model: what learns
    :param eval_env: evaluation environments, if any
    :param folder: the run's folder
    :param stop: Ctrl-C
    :param more: callbacks that the settings name
    :return: the evaluations, if any
    """
    args, goes_on = request.args, request.resumption
    evaluation = None
    if eval_env is not None:
        began_at = None if goes_on is None else goes_on.began_at
        evaluation = Evaluation(
            eval_env, folder.path, args.eval_freq, args.eval_episodes, stop, args.verbose > 0, began_at
        )
    if args.verbose > 0:
        say(f"training {args.algo} on {request.env_id} for {request.n_timesteps:,} agent steps, seed {request.seed}")
        say(f"run folder: {folder.path}")
    interval: dict[str, Any] = {}
    if args.log_interval != -1:
        interval["log_interval"] = args.log_interval if args.log_interval > 0 else None
    callbacks = make_callbacks(request, folder, stop, evaluation, more)
    again = args.trained_agent is not None or goes_on is not None
    steps = request.n_timesteps if goes_on is None else goes_on.total - goes_on.steps
    first_step = model.num_timesteps
    try:
        with stop.interruptible():
            model.learn(steps, callback=callbacks, reset_num_timesteps=not again, **interval)
    except KeyboardInterrupt:  # a second Ctrl-C; the model is saved all the same
        pass
    except NumericalError as error:
        raise NumericalError(f"{error}; {_what_is_left(folder)}") from error
    except Exception as error:  # of an environment or a callback: what was learned is not to be lost with it
        if model.num_timesteps > first_step:
            save(request, model, folder)
        if args.vec_env == "subproc" and isinstance(error, _LOST_PROCESS):
            raise UserError(
                f"the process of an environment ended, by a kill or an error; {_what_is_left(folder)}"
            ) from error
        if not isinstance(error, UserError):
            warn(f"training broke off at {model.num_timesteps:,} agent steps; {_what_is_left(folder)}")
        raise
    return evaluation


@contextmanager
def _closing(env: VecEnv) -> Iterator[VecEnv]:
    """Close environments in the end, also those of which a process has ended before."""
    try:
        yield env
    finally:
        if getattr(env.unwrapped, "waiting", False):  # in the middle of a step, whose answers may not all come
            for process in getattr(env.unwrapped, "processes", ()):
                process.terminate()
        with suppress(*_LOST_PROCESS):
            env.close()


@contextmanager
def _no_folder_left_if_refused(request: Request, model: BaseAlgorithm, folder: RunFolder) -> Iterator[None]:
    """What is refused before the first step, e.g. bounds of the batch size that this agent cannot have, was no run."""
    first_step = model.num_timesteps
    try:
        yield
    except UserError:
        if request.resumption is None and model.num_timesteps == first_step:
            discard_run(folder)
        raise


def _what_is_left(folder: RunFolder) -> str:
    kept = sorted(folder.path.glob("*.zip"), key=lambda path: path.stat().st_mtime)
    return f"last good model: {kept[-1]}" if kept else "no model was saved"


def save(request: Request, model: BaseAlgorithm, folder: RunFolder) -> None:
    """
    Save the last model, its normalization, and the replay buffer if asked for.

    :param request: the run
    :param model: what learned
    :param folder: the run's folder
    """
    try:
        save_model(model, folder.last_model)
        if request.args.save_replay_buffer:
            model.save_replay_buffer(folder.replay_buffer)  # type: ignore[attr-defined]
    except UnwritableFile as error:
        raise UnwritableFile(f"{error}; {_what_is_left(folder)}") from error


def report(request: Request, folder: RunFolder, evaluation: Evaluation | None, early: bool) -> None:
    """
    Say how it went and where everything is but the pictures, which may still take a while.

    :param request: the run
    :param folder: its folder
    :param evaluation: the evaluations, if any
    :param early: whether it was stopped
    """
    if early:
        say("stopped early; the model is saved")
    if evaluation is not None and evaluation.evaluations_results:
        results, steps = evaluation.evaluations_results, evaluation.evaluations_timesteps
        say(f"last evaluation: {describe_returns(results[-1])} at {steps[-1]:,} agent steps")
        best = int(np.argmax([np.mean(returns) for returns in results]))
        say(f"best evaluation: {describe_returns(results[best])} at {steps[best]:,} agent steps")
    files = {
        "last model": folder.last_model,
        "best model": folder.best_model,
        "evaluations": folder.evaluations,
        "measurements": folder.batch_sizes,
        "replay buffer": find_replay_buffer(folder.last_model) if request.args.save_replay_buffer else None,
    }
    for name, path in files.items():
        if path is not None and path.exists():
            say(f"{name}: {path}")


def _draw(folder: RunFolder) -> None:
    """A run that learned something is worth more than its pictures: without one, say why and go on."""
    pictures = {"learning curve": lambda: plot_run(folder.path, folder.curve)}
    if folder.batch_sizes.exists():
        pictures["batch size picture"] = lambda: plot_batch([folder.path], folder.path / PICTURE_NAME)
    for name, draw in pictures.items():
        try:
            say(f"{name}: {draw()}")
        except UserError as error:
            say(f"no {name}: {error}")


@guarded
def main(argv: list[str] | None = None) -> int:
    """
    ``sbbatch train``.

    :param argv: arguments (``None``: those of the process)
    :return: exit code
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if any(word in TUNE_WORDS for word in words):
        return tune([word for word in words if word not in TUNE_WORDS])
    args = make_parser().parse_args(words)
    if args.resume is not None:
        return resume(read_resumption(words))
    request = read_request(words)
    if request.args.show_config:
        print(show_settings(request.cls, request.env_id, request.settings))
        return 0
    if args.seeds is None:
        return run(request)[0]
    from sbbatch.zoo.run.seeds import run_seeds  # which knows this module

    return run_seeds(request)


def tune(words: list[str]) -> int:
    """
    Search for hyperparameters instead, as rl-baselines3-zoo's ``train.py`` does with ``-optimize``.

    :param words: the other options
    """
    # Optuna is only imported when somebody tunes.
    return int(importlib.import_module("sbbatch.zoo.commands.tune").main(words))


def resume(request: Request) -> int:
    """
    Go on with a run, unless it is at its end.

    :param request: the run
    """
    goes_on = request.resumption
    assert goes_on is not None
    if goes_on.steps >= goes_on.total:
        say(f"the run in {goes_on.folder.path} has done its {goes_on.total:,} agent steps; give -n for more")
        return 0
    return run(request)[0]


if __name__ == "__main__":
    raise SystemExit(main())
