"""What Optuna maximizes: trainings with one choice of settings, and the score that grows from their evaluations."""

from __future__ import annotations

import math
import os
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.analysis.metrics import iqm
from sbbatch.envs.stuck import STUCK_STEPS
from sbbatch.errors import NumericalError, UserError
from sbbatch.files import atomic_write
from sbbatch.settings.imports import allow_imports
from sbbatch.settings.resolution import COMMAND_LINE, Settings, require_algorithm, resolve, run_value
from sbbatch.zoo.run.build import run_env
from sbbatch.zoo.run.callbacks import StopRequest, StopWhenAsked
from sbbatch.zoo.run.evaluation import Evaluation
from sbbatch.zoo.run.train import make_model
from sbbatch.zoo.tune.request import Budget, StudyRequest
from sbbatch.zoo.tune.study import COUNTED

# Greedy evaluations are unsteady; `sbbatch plot compare` averages as many.
LAST_EVALUATIONS = 3
_EVAL_SEED_OFFSET = 10_000  # as in `sbbatch train`, so that a trial can be repeated there episode by episode
_ERROR_CHARACTERS = 4_000


class NotCounted(Exception):
    """The trial is none of those that count: somebody asked to stop, or other workers were faster."""


class RunningScore:
    """
    What a trial is worth so far: each seed counts with the mean of its last evaluations, the seeds together with their
    interquartile mean. The last running score is the trial's.
    """

    def __init__(self, trial: optuna.Trial, budget: Budget) -> None:
        self.trial = trial
        self.budget = budget
        self.seeds: list[int] = []
        self.evaluations: list[list[float]] = []  # mean return of each evaluation, for each seed

    def begin(self, seed: int) -> None:
        """The next training, with its seed."""
        self.seeds.append(seed)
        self.evaluations.append([])

    @property
    def scores(self) -> list[float]:
        """Of each seed so far."""
        return [float(np.mean(means[-LAST_EVALUATIONS:])) for means in self.evaluations if means]

    @property
    def value(self) -> float:
        """Of all seeds so far."""
        return iqm(np.array(self.scores))

    def add(self, mean_return: float) -> bool:
        """
        Report the mean return of an evaluation to Optuna; whether the trial goes on.

        :raises NumericalError: the return is NaN or infinite
        """
        if not math.isfinite(mean_return):
            raise NumericalError(f"an evaluation returned {mean_return}")
        self.evaluations[-1].append(mean_return)
        step = sum(map(len, self.evaluations))
        self.trial.report(self.value, step)
        # After its last evaluation a trial has cost all it could, and is a better rival for others as a whole one.
        return step == self.budget.n_evaluations * self.budget.n_seeds or not self.trial.should_prune()


class TrialEvaluation(Evaluation):
    """
    The evaluations of ``sbbatch train``, exactly as many as the budget says, that leave no files.

    :param report: gets the mean return of each evaluation, and says whether the trial continues
    """

    def __init__(self, eval_env: VecEnv, budget: Budget, stop: StopRequest, report: Callable[[float], bool]) -> None:
        period = max(budget.n_timesteps // budget.n_evaluations, 1)
        super().__init__(eval_env, Path(), period, budget.eval_episodes, stop, announce=False)
        self.callback_on_new_best = None
        self.n_left = budget.n_evaluations
        self.pruned = False
        self._report = report

    def _evaluate(self) -> bool:
        if self.pruned or not self.n_left:
            return not self.pruned
        if not super()._evaluate():  # stopped in the middle of it
            return False
        self.n_left -= 1
        self.pruned = not self._report(float(np.mean(self._returns)))
        return not self.pruned

    def _write_down(self) -> None:
        pass


class Objective:
    """One trial, from its parameters to its score."""

    def __init__(self, request: StudyRequest, stop: StopRequest) -> None:
        self.request = request
        self.stop = stop

    def __call__(self, trial: optuna.Trial) -> float:
        """
        :param trial: of Optuna; how it ended, if it is not by a score, is among its user attributes
        :raises optuna.TrialPruned: others are better, a number became NaN, or the agent refuses the settings
        :raises NotCounted: somebody asked to stop, or there are enough trials
        """
        trial.set_user_attr("worker", f"{socket.gethostname()}:{os.getpid()}")
        older = trial.study.get_trials(deepcopy=False, states=(*COUNTED, TrialState.RUNNING))
        if sum(other.number < trial.number for other in older) >= self.request.options.n_trials:
            trial.set_user_attr("outcome", "surplus")
            raise NotCounted
        score, start = RunningScore(trial, self.request.budget), time.monotonic()
        outcome: dict[str, str] = {}
        try:
            return self.run(trial, score)
        except (NumericalError, UserError) as error:
            outcome["outcome"] = "diverged" if isinstance(error, NumericalError) else "refused"
            outcome["reason"] = str(error).removeprefix(COMMAND_LINE).strip()
            raise optuna.TrialPruned from error
        except (NotCounted, KeyboardInterrupt):
            outcome["outcome"] = "interrupted"
            raise NotCounted from None
        except (optuna.TrialPruned, StorageInternalError, UpdateFinishedTrialError):
            raise
        except Exception:  # a bug of ours or of the environment's
            text = traceback.format_exc()
            outcome = {"error": text[-_ERROR_CHARACTERS:], "outcome": "failed"}
            with atomic_write(self.request.folder / "errors" / f"trial_{trial.number}.txt") as file:
                file.write(f"trial {trial.number}: {self.request.space.values(trial.params)}\n\n{text}".encode())
            raise
        finally:
            seconds = round(time.monotonic() - start, 2)
            found = {"seeds": score.seeds, "evaluations": score.evaluations, "scores": score.scores, "seconds": seconds}
            for key, value in {**found, **outcome}.items():
                trial.set_user_attr(key, value)

    def run(self, trial: optuna.Trial, score: RunningScore) -> float:
        """Train with one choice of settings, once for each seed; the trial's score."""
        request, options = self.request, self.request.options
        changed = request.space.settings(request.space.suggest(trial), request.settings)
        settings = resolve(options.algo, options.env, changed, run_file=request.run.config)
        settings = allow_imports(settings, options.allow_import)
        itself = trial.study.get_trials(deepcopy=False)[trial.number]
        retried = RetryHeartbeatStaleTrialCallback.retried_trial_number(itself)
        first_attempt = trial.number if retried is None else retried
        for index in range(request.budget.n_seeds):
            score.begin(request.training_seed(first_attempt, index))
            evaluation = self.train(settings, score)
            if evaluation.pruned:
                raise optuna.TrialPruned
            if evaluation.n_left and self.stop.requested:  # else a callback of the settings ended it early
                raise NotCounted
        return score.value

    def train(self, settings: Settings, score: RunningScore) -> TrialEvaluation:
        """One training of a trial, with the last seed of its score; its evaluations."""
        options, budget, seed = self.request.options, self.request.budget, score.seeds[-1]
        cls = require_algorithm(options.algo)
        with ExitStack() as stack:
            env = run_env(options.env, cls, settings, seed, True, run_value(settings, "n_envs", 1))
            stack.callback(env.close)
            model = make_model(cls, env, settings, seed, options.device, int(options.verbose > 1))
            own = [part.make() for part in run_value(settings, "callback") or ()]
            eval_seed, n_envs = seed + _EVAL_SEED_OFFSET, budget.n_eval_envs
            limits = {"max_steps": budget.eval_max_steps, "stuck_steps": STUCK_STEPS, "tell": None}
            eval_env = run_env(options.env, cls, settings, eval_seed, False, n_envs, **limits)
            stack.callback(eval_env.close)
            evaluation = TrialEvaluation(eval_env, budget, self.stop, score.add)
            with self.stop.interruptible():
                model.learn(budget.n_timesteps, callback=[StopWhenAsked(self.stop), evaluation, *own])
        return evaluation
