"""``sbbatch train``: build the run that was asked for, train, report."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import (
    CSVOutputFormat,
    HumanOutputFormat,
    KVWriter,
    Logger,
    TensorBoardOutputFormat,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.errors import InvalidValue, NumericalError, UnwritableFile, UserError
from sbbatch.zoo.batch_plot import PICTURE_NAME, plot_batch
from sbbatch.zoo.build import load_model, make_model, run_env, save_model
from sbbatch.zoo.callbacks import BatchSizeLog, Checkpoint, EpisodeLog, LenientWriter, StopRequest, StopWhenAsked
from sbbatch.zoo.cli import guarded
from sbbatch.zoo.config import explicit_values, run_value
from sbbatch.zoo.evaluate import Evaluation, describe_returns, games_side_by_side
from sbbatch.zoo.folders import (
    RunFolder,
    claim_numbered,
    create_run_folder,
    describe_run,
    discard_run,
    folder_name,
    unwritable,
)
from sbbatch.zoo.plot import plot_run
from sbbatch.zoo.progress import Progress, say
from sbbatch.zoo.request import Request, read_request, warn_of_short_start
from sbbatch.zoo.show import show_settings


def run(request: Request) -> tuple[int, RunFolder]:
    """
    Train as asked.

    :param request: the run
    :return: exit code, and the run's folder
    """
    args = request.args
    if args.num_threads > 0:
        th.set_num_threads(args.num_threads)
    env = run_env(
        request.env_id, request.cls, request.settings, request.seed, True, run_value(request.settings, "n_envs", 1)
    )
    eval_env: VecEnv | None = None
    try:
        model = build_model(request, env)
        eval_env = build_eval_env(request)
        folder = start_folder(request)
        model.set_logger(make_logger(request, folder))
        warn_of_short_start(request)
        with StopRequest() as stop:
            evaluation = learn(request, model, eval_env, folder, stop)
            early = stop.requested
            save(request, model, folder)
            report(request, folder, evaluation, early)
        _draw(folder)
        return stop.exit_code, folder
    finally:
        env.close()
        if eval_env is not None:
            eval_env.close()


def build_model(request: Request, env: VecEnv) -> BaseAlgorithm:
    """
    A new model, or the one to go on with.

    :param request: the run
    :param env: its environments
    """
    args = request.args
    sb3_verbose = 1 if args.verbose > 1 else 0
    if args.trained_agent is None:
        return make_model(request.cls, env, request.settings, request.seed, args.device, sb3_verbose)
    seed = request.seed if args.seed != -1 else None
    model = load_model(request.cls, args.trained_agent, env, request.settings, args.device, seed)
    buffer = find_replay_buffer(args.trained_agent) if isinstance(model, OffPolicyAlgorithm) else None
    if buffer is not None:
        model.load_replay_buffer(buffer)  # type: ignore[attr-defined]
        say(f"loaded {buffer}")
    return model


def find_replay_buffer(model: Path) -> Path | None:
    """
    The replay buffer that was saved together with a model.

    :param model: ``<env>.zip`` or ``rl_model_<n>_steps.zip``
    """
    if model.stem == "best_model":
        return None  # the buffer beside it belongs to the last model
    name = "replay_buffer"
    if model.stem.startswith("rl_model_"):
        name = model.stem.replace("rl_model_", "rl_model_replay_buffer_", 1)
    return next(iter(sorted(model.parent.glob(f"{name}.*"))), None)


def build_eval_env(request: Request) -> VecEnv | None:
    """
    Whole games with raw rewards, from other seeds than the training's.

    :param request: the run
    """
    if not request.evaluates:
        return None
    episodes = request.args.eval_episodes
    n_envs = games_side_by_side(request.env_id, episodes, request.args.n_eval_envs)
    return run_env(
        request.env_id, request.cls, request.settings, request.seed + 10_000, False, n_envs, request.args.eval_max_steps
    )


def start_folder(request: Request) -> RunFolder:
    """
    Make the run's folder and write down how it was started.

    :param request: the run
    """
    args = request.args
    folder = create_run_folder(args.log_folder, args.algo, request.env_id, str(uuid.uuid4()) if args.uuid else "")
    arguments = {**vars(args), "env": request.env_id, "seed": request.seed, "n_timesteps": request.n_timesteps}
    describe_run(folder, explicit_values(request.settings), arguments, ["sbbatch", "train", *request.words])
    return folder


def make_logger(request: Request, folder: RunFolder) -> Logger:
    """
    SB3's logger: ``progress.csv``, TensorBoard if asked for, tables if there is no progress bar.

    :param request: the run
    :param folder: its folder
    """
    table = folder.path / "progress.csv"
    formats: list[KVWriter] = [LenientWriter(CSVOutputFormat(str(table)), table)]
    if request.args.verbose > 1 or (request.args.verbose == 1 and not request.shows_progress):
        formats.append(HumanOutputFormat(sys.stdout))
    if request.args.tensorboard_log is not None:
        parent = request.args.tensorboard_log / folder_name(request.env_id)
        try:
            parent.mkdir(parents=True, exist_ok=True)
            target = claim_numbered(parent, request.args.algo.upper())
        except OSError as error:
            raise InvalidValue(unwritable(parent, error, "-tb")) from None
        try:
            formats.append(LenientWriter(TensorBoardOutputFormat(str(target)), target))
        except AssertionError:
            raise InvalidValue("-tb needs tensorboard; run pip install 'sbbatch[plots]'") from None
    return Logger(str(folder.path), formats)


def make_callbacks(
    request: Request, folder: RunFolder, stop: StopRequest, evaluation: Evaluation | None
) -> list[BaseCallback]:
    """
    What runs beside learning.

    :param request: the run
    :param folder: its folder
    :param stop: Ctrl-C
    :param evaluation: the evaluations, if any
    """
    args = request.args
    callbacks: list[BaseCallback] = [StopWhenAsked(stop), EpisodeLog(folder.episodes, request.env_id)]
    callbacks.append(BatchSizeLog(folder.batch_sizes))
    if evaluation is not None:
        callbacks.append(evaluation)
    if args.save_freq > 0:
        callbacks.append(Checkpoint(folder.path, args.save_freq, args.save_replay_buffer))
    if request.shows_progress:
        callbacks.append(Progress())
    return callbacks


def learn(
    request: Request, model: BaseAlgorithm, eval_env: VecEnv | None, folder: RunFolder, stop: StopRequest
) -> Evaluation | None:
    """
    Train until the steps are done or somebody asks to stop.

    :param request: the run
    :param model: what learns
    :param eval_env: evaluation environments, if any
    :param folder: the run's folder
    :param stop: Ctrl-C
    :return: the evaluations, if any
    """
    args = request.args
    evaluation = None
    if eval_env is not None:
        evaluation = Evaluation(eval_env, folder.path, args.eval_freq, args.eval_episodes, stop, args.verbose > 0)
    if args.verbose > 0:
        say(f"training {args.algo} on {request.env_id} for {request.n_timesteps:,} agent steps, seed {request.seed}")
        say(f"run folder: {folder.path}")
    interval = {"log_interval": args.log_interval} if args.log_interval > 0 else {}
    callbacks = make_callbacks(request, folder, stop, evaluation)
    again, first_step = args.trained_agent is not None, model.num_timesteps
    try:
        with stop.interruptible():
            model.learn(request.n_timesteps, callback=callbacks, reset_num_timesteps=not again, **interval)
    except KeyboardInterrupt:  # a second Ctrl-C; the model is saved all the same
        pass
    except NumericalError as error:
        raise NumericalError(f"{error}; {_what_is_left(folder)}") from error
    except UserError:
        if model.num_timesteps == first_step:  # e.g. bounds of the batch size that this agent cannot have
            discard_run(folder)
        raise
    return evaluation


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
    request = read_request(argv)
    if request.args.show_config:
        print(show_settings(request.cls, request.env_id, request.settings))
        return 0
    return run(request)[0]


if __name__ == "__main__":
    raise SystemExit(main())
