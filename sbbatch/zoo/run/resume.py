"""Which files of a run are the newest whole ones, so that it can be resumed from them."""

from __future__ import annotations

from pathlib import Path

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sbbatch.errors import InvalidValue, UserError, check_int
from sbbatch.files import check_zip
from sbbatch.persistence.model_file import ModelFile
from sbbatch.persistence.normalization import statistics_of
from sbbatch.zoo.console.progress import say, warn
from sbbatch.zoo.logs.folders import RunFolder
from sbbatch.zoo.run.build import check_trained_in
from sbbatch.zoo.run.request import Resumption


def newest_model(run: RunFolder, cls: type, env_id: str, normalized: bool) -> tuple[Path, int, Path | None]:
    """
    The model to resume from: of those with a replay buffer the newest, else the newest of all. An agent that learns
    from replay loses more with its memory than with the steps since an older checkpoint. Damaged files are skipped.

    :return: the file, its agent steps, and the file of the replay buffer that was saved with it
    """
    paths = [run.last_model, run.best_model, *sorted(run.path.glob("rl_model_*_steps.zip"))]
    found = {path: _steps_of(path, env_id, normalized) for path in paths if path.is_file()}
    models = [(steps, path != run.best_model, path) for path, steps in found.items() if steps is not None]
    if not models:
        raise InvalidValue(f"{run.path} has no model to resume from; begin the run anew, see {run.command}")
    models.sort(reverse=True)
    if issubclass(cls, OffPolicyAlgorithm):
        for steps, _, path in models:
            buffer = find_replay_buffer(path)
            if buffer is not None and _is_whole(buffer):
                return path, steps, buffer
    return models[0][2], models[0][0], None


def _steps_of(path: Path, env_id: str, normalized: bool) -> int | None:
    """Agent steps of a model; ``None``: it is damaged, or the statistics of its environments are."""
    try:
        plain = ModelFile(path).plain
        steps = check_int(f"{path}: num_timesteps", plain.get("num_timesteps"), 0)
        if normalized:
            check_zip(statistics_of(path), "statistics")
    except (UserError, FileNotFoundError) as error:
        warn(f"{error}; {path.name} is skipped")
        return None
    check_trained_in(plain.get("env_id"), env_id, str(path))
    return steps


def _is_whole(buffer: Path) -> bool:
    try:
        if buffer.suffix == ".npz":  # pickles of SB3's own classes have no checksums
            check_zip(buffer, "replay buffer")
    except InvalidValue as error:
        warn(f"{error}; {buffer.name} is skipped")
        return False
    return True


def find_replay_buffer(model: Path) -> Path | None:
    """The replay buffer that was saved together with a model."""
    if model.stem == "best_model":
        return None  # the buffer beside it belongs to the last model
    checkpoint = model.stem.startswith("rl_model_")
    name = model.stem.replace("rl_model_", "rl_model_replay_buffer_", 1) if checkpoint else "replay_buffer"
    return next(iter(sorted(model.parent.glob(f"{name}.*"))), None)


def last_checkpoint(resumption: Resumption) -> int:
    """Agent steps of the newest checkpoint up to the model that is resumed, or those at which the run began."""
    names = [path.stem.split("_")[2] for path in resumption.folder.path.glob("rl_model_*_steps.zip")]
    numbers = [int(name) for name in names if name.isdecimal()]
    return max((number for number in numbers if number <= resumption.steps), default=resumption.began_at)


def describe_resumption(resumption: Resumption, replays: bool) -> None:
    """Say from where a run is resumed, and what it has lost."""
    run, steps = resumption.folder, resumption.steps
    say(f"resuming from {resumption.model} at {steps:,} of {resumption.total:,} agent steps")
    if replays and resumption.replay_buffer is None:
        say("no replay buffer was saved with it: it starts with an empty one (see --save-replay-buffer)")
    if run.best_model.is_file() and (best := ModelFile(run.best_model).plain.get("num_timesteps", 0)) > steps:
        say(f"{run.best_model} is of {best:,} agent steps, which are trained again; it stays until a better one")
