"""A training run: build what was asked for, train, and leave model, logs and a report in its folder."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.agents.base.threads import fastest_threads
from sbbatch.analysis.metrics import describe_returns
from sbbatch.envs.make import parallel_episodes
from sbbatch.errors import NumericalError, UnwritableFile, UserError
from sbbatch.persistence.normalization import load_normalization, statistics_of
from sbbatch.settings.resolution import (
    COMMAND_LINE,
    Settings,
    constructor_values,
    explicit_values,
    run_value,
    with_origin,
)
from sbbatch.settings.schema import plain
from sbbatch.zoo.console.progress import Progress, say, warn
from sbbatch.zoo.logs.folders import RunFolder, alone_in, create_run_folder, describe_run
from sbbatch.zoo.logs.logger import make_logger
from sbbatch.zoo.logs.track import new_id, tracking
from sbbatch.zoo.run.build import default_policy, run_env, save_model
from sbbatch.zoo.run.callbacks import BatchSizeLog, Checkpoint, EpisodeLog, StopRequest, StopWhenAsked
from sbbatch.zoo.run.evaluation import Evaluation
from sbbatch.zoo.run.request import AUTO_THREADS, Request
from sbbatch.zoo.run.resume import describe_resumption, find_replay_buffer, last_checkpoint

_LOST_PROCESS = (EOFError, BrokenPipeError, ConnectionResetError)  # what the other end of its pipe sees


def run(
    request: Request, begun: Callable[[Path], object] = lambda path: None, folder: RunFolder | None = None
) -> tuple[int, RunFolder]:
    """
    Train as asked.

    :param begun: told the run's folder before the first step
    :param folder: of a new run; ``None``: the next free one
    :return: exit code (0, or by the shell's convention the signal that stopped it), and the run's folder
    :raises UserError: what cannot be built or written
    :raises NumericalError: the numbers became NaN or infinite
    """
    goes_on = request.resumption
    with ExitStack() as stack:
        stack.callback(th.set_num_threads, th.get_num_threads())  # of the next run in this process
        if request.num_threads > 0:
            th.set_num_threads(request.num_threads)
        if goes_on is not None:
            stack.enter_context(alone_in(goes_on.folder))
        env = stack.enter_context(_closing(build_env(request)))
        model = build_model(request, env)
        if request.num_threads == AUTO_THREADS:
            choose_threads(model)
        callbacks = [part.make() for part in run_value(request.settings, "callback") or ()]
        eval_env = stack.enter_context(_closing(build_env(request, False))) if request.eval_freq > 0 else None
        if goes_on is not None:
            folder = goes_on.folder
        else:
            folder = folder or new_folder(request)
            stack.enter_context(alone_in(folder))
        # Every option, with what was chosen for the user.
        own = {field.name: getattr(request, field.name) for field in fields(request) if field.name in request.arguments}
        arguments = {"wandb_id": new_id(), "steps_before": model.num_timesteps, **request.arguments, **own}
        if request.num_threads == AUTO_THREADS:  # an exact repetition takes as many
            arguments["num_threads"] = th.get_num_threads()
        arguments.pop("resume", None)
        describe_run(folder, explicit_values(request.settings), arguments, ["sbbatch", "train", *request.words])
        begun(folder.path)
        request.warn_of_oddities()
        first_step, stop = model.num_timesteps, stack.enter_context(StopRequest())
        try:
            with tracking(request.track, plain(arguments), explicit_values(request.settings), goes_on is not None):
                evaluation = _learn(request, model, eval_env, folder, stop, callbacks)
        except UserError:
            # What is refused before the first step, e.g. bounds that this agent cannot have, was no run.
            if goes_on is None and model.num_timesteps == first_step:
                shutil.rmtree(folder.path, ignore_errors=True)
            raise
        early = stop.requested
        _save(request, model, folder)
        if early:
            say("stopped early; the model is saved")
        _report(folder, evaluation, request.save_replay_buffer)
        return stop.exit_code, folder


def new_folder(request: Request) -> RunFolder:
    """The next free folder for a run."""
    name = str(uuid.uuid4()) if request.uuid else ""
    return create_run_folder(request.log_folder, request.algo, request.env, name)


def choose_threads(model: Any) -> None:
    """Take as many threads as make this model's gradient steps fastest, and say so if there was a choice."""
    most = th.get_num_threads()
    th.set_num_threads(fastest_threads(model))
    if most > 1:
        say(f"{th.get_num_threads()} of {most} threads, the fastest for a batch of {model.batch_size} (--num-threads)")


def build_env(request: Request, training: bool = True) -> VecEnv:
    """The environments to learn in, or those for whole episodes with raw rewards, which have other seeds."""
    n_envs, seed = run_value(request.settings, "n_envs", 1), request.env_seed
    more: dict[str, Any] = {"vec_env": request.vec_env, "packages": request.gym_packages}
    if not training:
        n_envs = parallel_episodes(request.env, request.eval_episodes, request.n_eval_envs)
        seed += 10_000
        more |= {"max_steps": request.eval_max_steps, "stuck_steps": request.stuck_steps}
    return run_env(request.env, request.cls, request.settings, seed, training, n_envs, **more)


def make_model(cls: Any, env: VecEnv, settings: Settings, seed: int, device: str, verbose: int) -> BaseAlgorithm:
    """A new model; the constructor's complaints about a setting get its origin in front."""
    policy = run_value(settings, "policy") or default_policy(env.observation_space)
    with _origins_named(settings):
        return cls(policy, env, seed=seed, device=device, verbose=verbose, **constructor_values(settings))


def build_model(request: Request, env: VecEnv) -> BaseAlgorithm:
    """
    A new model, or the one to train further, in which only what the command line names replaces what it was trained
    with.
    """
    settings, goes_on = request.settings, request.resumption
    path = request.trained_agent if goes_on is None else goes_on.model
    if path is None:
        return make_model(request.cls, env, settings, request.seed, request.device, int(request.verbose > 1))
    named = {key: value for key, value in constructor_values(settings).items() if settings[key].origin == COMMAND_LINE}
    if request.seed_given and goes_on is None:
        named["seed"] = request.seed
    with _origins_named(settings):
        model: BaseAlgorithm = request.cls.load(path, env=env, device=request.device, **named)
    load_normalization(statistics_of(path), env)
    env.seed(request.env_seed)  # loading has seeded it as the run began, and it would play the same episodes again
    replays = isinstance(model, OffPolicyAlgorithm)
    buffer = find_replay_buffer(path) if goes_on is None else goes_on.replay_buffer
    if replays and buffer is not None:
        model.load_replay_buffer(buffer, request.truncate_last_trajectory)  # type: ignore[attr-defined]
        say(f"loaded {buffer}")
    if goes_on is not None:
        describe_resumption(goes_on, replays)
    return model


@contextmanager
def _origins_named(settings: Settings) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise type(error)(with_origin(str(error), settings)) from error


def _learn(
    request: Request,
    model: BaseAlgorithm,
    eval_env: VecEnv | None,
    folder: RunFolder,
    stop: StopRequest,
    own_callbacks: list[BaseCallback],
) -> Evaluation | None:
    """Train until the steps are done or somebody asks to stop."""
    goes_on = request.resumption
    kept_steps, began_at, saved_at, steps = None, None, None, request.n_timesteps
    if goes_on is not None:
        kept_steps, began_at, saved_at = goes_on.steps, goes_on.began_at, last_checkpoint(goes_on)
        steps = goes_on.total - goes_on.steps
    tensorboard = request.tensorboard_log or (folder.path / "tensorboard" if request.track else None)
    tensorboard = None if tensorboard is None else tensorboard / folder.env_name / request.algo.upper()
    tables = request.verbose > 1 or (request.verbose == 1 and not request.shows_progress)
    model.set_logger(make_logger(folder, tensorboard=tensorboard, tables=tables, kept_steps=kept_steps))
    callbacks: list[BaseCallback] = [StopWhenAsked(stop)]
    callbacks.append(EpisodeLog(folder.episodes, request.env, resumes=goes_on is not None))
    callbacks.append(BatchSizeLog(folder.batch_sizes))
    evaluation = None
    if eval_env is not None:
        period, n_episodes = request.eval_freq, request.eval_episodes
        evaluation = Evaluation(eval_env, folder.path, period, n_episodes, stop, request.verbose > 0, began_at)
        callbacks.append(evaluation)
    if request.save_freq > 0:
        callbacks.append(Checkpoint(folder.path, request.save_freq, request.save_replay_buffer, saved_at))
    callbacks += own_callbacks
    if request.shows_progress:
        callbacks.append(Progress())
    if request.verbose > 0:
        say(f"training {request.algo} on {request.env} for {request.n_timesteps:,} agent steps, seed {request.seed}")
        say(f"run folder: {folder.path}")
    interval = {} if request.log_interval == -1 else {"log_interval": max(request.log_interval, 0) or None}
    first_step = model.num_timesteps
    try:
        with stop.interruptible():
            model.learn(steps, callback=callbacks, reset_num_timesteps=request.is_new, **interval)  # type: ignore[arg-type]
    except KeyboardInterrupt:  # a second Ctrl-C; the model is saved all the same
        pass
    except NumericalError as error:
        raise NumericalError(f"{error}; {_what_is_left(folder)}") from error
    except Exception as error:  # of an environment or a callback: what was learned is not to be lost with it
        if model.num_timesteps > first_step:
            _save(request, model, folder)
        if request.vec_env == "subproc" and isinstance(error, _LOST_PROCESS):
            raise UserError(f"the process of an environment was killed or failed; {_what_is_left(folder)}") from error
        if not isinstance(error, UserError):
            warn(f"training failed at {model.num_timesteps:,} agent steps; {_what_is_left(folder)}")
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


def _what_is_left(folder: RunFolder) -> str:
    kept = sorted(folder.path.glob("*.zip"), key=lambda path: path.stat().st_mtime)
    return f"last good model: {kept[-1]}" if kept else "no model was saved"


def _save(request: Request, model: BaseAlgorithm, folder: RunFolder) -> None:
    try:
        save_model(model, folder.last_model)
        if request.save_replay_buffer:
            model.save_replay_buffer(folder.replay_buffer)  # type: ignore[attr-defined]
    except UnwritableFile as error:
        raise UnwritableFile(f"{error}; {_what_is_left(folder)}") from error


def _report(folder: RunFolder, evaluation: Evaluation | None, replay_buffer: bool) -> None:
    """Say how it went and where everything is but the pictures, which may still take a while."""
    if evaluation is not None and evaluation.evaluations_results:
        results, steps = evaluation.evaluations_results, evaluation.evaluations_timesteps
        best = int(np.argmax([np.mean(returns) for returns in results]))
        say(f"last evaluation: {describe_returns(results[-1])} at {steps[-1]:,} agent steps")
        say(f"best evaluation: {describe_returns(results[best])} at {steps[best]:,} agent steps")
    files: dict[str, Path | None] = {
        "last model": folder.last_model,
        "best model": folder.best_model,
        "evaluations": folder.evaluations,
        "measurements": folder.batch_sizes,
        "replay buffer": find_replay_buffer(folder.last_model) if replay_buffer else None,
    }
    for name, path in files.items():
        if path is not None and path.exists():
            say(f"{name}: {path}")
