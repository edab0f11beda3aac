"""From a request to what trains: environments, model, callbacks."""

from __future__ import annotations

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.settings.resolution import run_value
from sbbatch.zoo.console.progress import Progress, say
from sbbatch.zoo.logs.folders import RunFolder
from sbbatch.zoo.play.scores import games_side_by_side
from sbbatch.zoo.run.build import load_model, make_model, run_env
from sbbatch.zoo.run.callbacks import BatchSizeLog, Checkpoint, EpisodeLog, StopRequest, StopWhenAsked
from sbbatch.zoo.run.evaluation import Evaluation
from sbbatch.zoo.run.request import Request
from sbbatch.zoo.run.resume import describe_resumption, find_replay_buffer, last_checkpoint


def build_env(request: Request) -> VecEnv:
    """
    The environments to learn in.

    :param request: the run
    """
    n_envs = run_value(request.settings, "n_envs", 1)
    return run_env(
        request.env_id,
        request.cls,
        request.settings,
        request.env_seed,
        True,
        n_envs,
        vec_env=request.args.vec_env,
        packages=request.args.gym_packages,
    )


def build_model(request: Request, env: VecEnv) -> BaseAlgorithm:
    """
    A new model, or the one to go on with.

    :param request: the run
    :param env: its environments
    """
    args, goes_on = request.args, request.resumption
    sb3_verbose = 1 if args.verbose > 1 else 0
    path = args.trained_agent if goes_on is None else goes_on.model
    if path is None:
        return make_model(request.cls, env, request.settings, request.seed, args.device, sb3_verbose)
    seed = request.own_seed if goes_on is None else None
    model = load_model(request.cls, path, env, request.settings, args.device, seed)
    env.seed(request.env_seed)  # loading has seeded it as the run began, and it would play the same games again
    replays = isinstance(model, OffPolicyAlgorithm)
    buffer = find_replay_buffer(path) if goes_on is None else goes_on.replay_buffer
    if replays and buffer is not None:
        model.load_replay_buffer(buffer, args.truncate_last_trajectory)  # type: ignore[attr-defined]
        say(f"loaded {buffer}")
    if goes_on is not None:
        describe_resumption(goes_on, replays)
    return model


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
        request.env_id,
        request.cls,
        request.settings,
        request.env_seed + 10_000,
        False,
        n_envs,
        request.args.eval_max_steps,
        request.args.vec_env,
        request.args.gym_packages,
    )


def make_callbacks(
    request: Request, folder: RunFolder, stop: StopRequest, evaluation: Evaluation | None, more: list[BaseCallback]
) -> list[BaseCallback]:
    """
    What runs beside learning.

    :param request: the run
    :param folder: its folder
    :param stop: Ctrl-C
    :param evaluation: the evaluations, if any
    :param more: those that the settings name
    """
    args, goes_on = request.args, request.resumption
    callbacks: list[BaseCallback] = [
        StopWhenAsked(stop),
        EpisodeLog(folder.episodes, request.env_id, go_on=goes_on is not None),
    ]
    callbacks.append(BatchSizeLog(folder.batch_sizes))
    if evaluation is not None:
        callbacks.append(evaluation)
    if args.save_freq > 0:
        saved_at = None if goes_on is None else last_checkpoint(goes_on)
        callbacks.append(Checkpoint(folder.path, args.save_freq, args.save_replay_buffer, saved_at))
    callbacks += more
    if request.shows_progress:
        callbacks.append(Progress())
    return callbacks
