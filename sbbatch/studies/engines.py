"""
Where the runs of a study are executed. Nothing is decided here: an engine begins commands and says what became of them,
and results lie in the folder of the studies, which every machine must see at the same place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sbbatch.errors import UserError
from sbbatch.studies.command import LOST, Command

Ended = Iterator[tuple[Command, str]]


class Engine(Protocol):
    """Executes commands, each once; one that was lost with its machine or process is begun again."""

    def map(self, commands: Sequence[Command]) -> Ended:
        """
        :param commands: in the order in which they should begin
        :return: each with what its ``execute`` returned, in the order in which they ended
        """


@dataclass(frozen=True)
class LocalPool:
    """
    This machine.

    :param n_jobs: runs at a time, each in a process of its own with one thread
    """

    n_jobs: int = 1

    def map(self, commands: Sequence[Command]) -> Ended:
        """See :class:`Engine`."""
        pool = ThreadPoolExecutor(self.n_jobs)
        try:
            futures = {pool.submit(command.execute): command for command in commands}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after an interrupt, which the processes have got too


@dataclass(frozen=True)
class Ray:
    """
    A Ray cluster, one core for each run; whatever dies with a worker or a node is begun again on another.

    :param address: of a node, ``"auto"`` (a cluster that runs on this machine) or ``"local"`` (one for this study)
    """

    address: str = "auto"

    def map(self, commands: Sequence[Command]) -> Ended:
        """See :class:`Engine`."""
        try:
            import ray
        except ImportError as error:
            raise UserError("--ray needs Ray: pip install 'sbbatch[ray]'") from error
        try:
            ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"--ray {self.address}: no cluster there ({error})") from error
        try:
            execute = ray.remote(num_cpus=1, max_retries=-1)(Command.execute)
            running = {execute.remote(command): command for command in commands}
            while running:
                (ended, *_), _ = ray.wait(list(running))
                yield running.pop(ended), ray.get(ended)
        finally:
            ray.shutdown()


class _Job:
    """A run for submitit, which asks for its checkpoint when Slurm takes the machine away: the same, from the start."""

    def __call__(self, command: Command) -> str:
        return command.execute()

    def checkpoint(self, command: Command) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, command)


@dataclass(frozen=True)
class Slurm:
    """
    An array of Slurm jobs, by submitit, one core for each run.

    :param folder: of what the jobs print; on the shared disk
    :param n_jobs: at a time
    :param options: of ``submitit.AutoExecutor``, e.g. ``slurm_partition``, ``timeout_min``, or ``cluster="local"`` to
        try it without Slurm
    """

    folder: Path
    n_jobs: int = 256
    options: Mapping[str, Any] = field(default_factory=dict)

    def map(self, commands: Sequence[Command]) -> Ended:
        """See :class:`Engine`."""
        try:
            import submitit
            from submitit.helpers import as_completed as as_jobs_end
        except ImportError as error:
            raise UserError("--slurm needs submitit: pip install 'sbbatch[slurm]'") from error
        options = dict(self.options)
        try:
            executor = submitit.AutoExecutor(self.folder.absolute(), cluster=options.pop("cluster", "slurm"))
            executor.update_parameters(name="sbbatch", cpus_per_task=1, slurm_array_parallelism=self.n_jobs)
            executor.update_parameters(**options)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"--slurm: {error}") from error
        by_job = dict(zip(executor.map_array(_Job(), commands), commands, strict=True))
        for job in as_jobs_end(list(by_job)):
            yield by_job[job], LOST if job.exception() else job.result()
