"""Tracking a run with Weights & Biases through its synchronisation of TensorBoard's files."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sbbatch.errors import InvalidValue
from sbbatch.version import __version__

_ID = re.compile(r"run-[0-9a-f]{8}")  # a number alone, such as 12e45678, would not be read as the text it was


def require_wandb() -> Any:
    """The library, or an ``InvalidValue`` if it is not installed."""
    try:
        import wandb
    except ImportError:
        wandb = None
    # A folder `wandb` of earlier runs can be imported as well, and has nothing in it.
    if not hasattr(wandb, "init"):
        raise InvalidValue("--track needs wandb; run pip install 'sbbatch[track]'")
    return wandb


def new_id() -> str:
    """An id under which a run is found again when it is resumed."""
    return f"run-{secrets.token_hex(4)}"


@contextmanager
def tracking(
    wanted: bool, arguments: Mapping[str, Any], hyperparameters: Mapping[str, Any], resumes: bool
) -> Iterator[None]:
    """
    Send what TensorBoard is told in here to Weights & Biases as well; ``WANDB_MODE=offline`` keeps it on this machine.

    :param wanted: ``False``: nothing is sent
    :param arguments: content of ``args.yml``, with the id that the run is tracked under
    :param hyperparameters: content of ``config.yml``
    :param resumes: whether a run of this id may exist
    """
    if not wanted:
        yield
        return
    wandb, run_id = require_wandb(), arguments["wandb_id"]
    if not (isinstance(run_id, str) and _ID.fullmatch(run_id)):
        raise InvalidValue(f"args.yml wandb_id: got {run_id!r}, expected what --track wrote, such as run-12e45678")
    try:
        run = wandb.init(
            name=f"{arguments['env']}__{arguments['algo']}__{arguments['seed']}__{int(time.time())}",
            project=arguments["wandb_project_name"],
            entity=arguments["wandb_entity"],
            group=arguments["wandb_group"],
            tags=[*arguments["wandb_tags"], f"v{__version__}"],
            config={**arguments, "saved_hyperparams": hyperparameters},
            id=run_id,
            resume="allow" if resumes else None,
            sync_tensorboard=True,
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InvalidValue(f"--track: {reason}; without a network, set WANDB_MODE=offline") from error
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        run.finish(exit_code=exit_code)
