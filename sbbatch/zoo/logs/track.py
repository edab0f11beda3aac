"""Tracking a run with Weights & Biases, also without a network (``WANDB_MODE=offline``)."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.logger import KVWriter

from sbbatch.errors import InvalidValue
from sbbatch.version import __version__

if TYPE_CHECKING:
    from sbbatch.zoo.run.request import Request

STEP_KEY = "global_step"  # as in runs that were synchronised from TensorBoard
_ID = re.compile(r"run-[0-9a-f]{8}")  # a number alone, such as 12e45678, would not be read as the text it was


def require_wandb() -> Any:
    """
    The library.

    :raises InvalidValue: it is not installed
    """
    try:
        import wandb
    except ImportError:
        wandb = None
    # A folder `wandb` of earlier runs can be imported as well, and has nothing in it.
    if not hasattr(wandb, "init"):
        raise InvalidValue("--track needs wandb; run pip install 'sbbatch[track]'")
    return wandb


def new_id() -> str:
    """An id under which a run is found again when it goes on."""
    return f"run-{secrets.token_hex(4)}"


class WandbWriter(KVWriter):
    """
    SB3's logger, written to Weights & Biases: what TensorBoard would show.

    :param run: a run of theirs
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        run.define_metric("*", step_metric=STEP_KEY)

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """As the format's."""
        shown = {key: value for key, value in key_values.items() if "tensorboard" not in (key_excluded.get(key) or ())}
        numbers = {key: float(value) for key, value in shown.items() if isinstance(value, Real)}
        self._run.log({key: value for key, value in numbers.items() if math.isfinite(value)} | {STEP_KEY: step})

    def close(self) -> None:
        """Nothing: the run ends with its command."""


@contextmanager
def tracking(request: Request, arguments: dict[str, Any]) -> Iterator[list[KVWriter]]:
    """
    Track a run while it is under way, if that was asked for.

    :param request: the run
    :param arguments: what its ``args.yml`` holds, with the id it is tracked under
    :return: a format for SB3's logger, or none
    :raises InvalidValue: it cannot be tracked, e.g. because nobody is logged in
    """
    if not request.args.track:
        yield []
        return
    run = _start(request, arguments)
    exit_code = 1
    try:
        yield [WandbWriter(run)]
        exit_code = 0
    finally:
        run.finish(exit_code=exit_code)


def _start(request: Request, arguments: dict[str, Any]) -> Any:
    wandb, args = require_wandb(), request.args
    settings = {key: setting.given for key, setting in request.settings.items() if setting.explicit}
    try:
        return wandb.init(
            name=f"{request.env_id}__{args.algo}__{request.seed}__{int(time.time())}",
            project=args.wandb_project_name,
            entity=args.wandb_entity,
            group=args.wandb_group,
            tags=[*args.wandb_tags, f"v{__version__}"],
            config={**arguments, "saved_hyperparams": settings},
            id=_checked_id(arguments["wandb_id"]),
            resume=None if request.resumption is None else "allow",
        )
    except wandb.Error as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InvalidValue(f"--track: {reason}; without a network, set WANDB_MODE=offline") from error


def _checked_id(name: Any) -> str:
    if not (isinstance(name, str) and _ID.fullmatch(name)):
        raise InvalidValue(f"args.yml wandb_id: got {name!r}, expected what --track wrote, such as run-12e45678")
    return name
