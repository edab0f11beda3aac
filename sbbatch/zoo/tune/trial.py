"""One trial: trainings with one choice of settings, their evaluations, and the score that grows from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.analysis.metrics import iqm
from sbbatch.errors import NumericalError
from sbbatch.settings.imports import allow_imports
from sbbatch.settings.reader import read_yaml
from sbbatch.settings.resolution import Settings, require_algorithm, resolve, run_value
from sbbatch.zoo.run.build import make_model, run_env
from sbbatch.zoo.run.callbacks import StopRequest, StopWhenAsked
from sbbatch.zoo.run.evaluation import Evaluation
from sbbatch.zoo.tune.request import Budget
from sbbatch.zoo.tune.study import Plan

# Greedy evaluations are unsteady; `sbbatch plot compare` averages as many.
LAST_EVALUATIONS = 3
_EVAL_SEED_OFFSET = 10_000  # as in `sbbatch train`, so that a trial can be repeated there game by game


class Interrupted(Exception):
    """Somebody asked to stop before the trial was done."""


class RunningScore:
    """
    What a trial is worth so far: each seed counts with the mean of its last evaluations, the seeds together with their
    interquartile mean. The last running score is the trial's.

    :param trial: of Optuna, which is told every score
    :param budget: of the trial
    """

    def __init__(self, trial: optuna.Trial, budget: Budget) -> None:
        self.trial = trial
        self.budget = budget
        self.seeds: list[int] = []
        self.evaluations: list[list[float]] = []  # mean return of each evaluation, for each seed

    def begin(self, seed: int) -> None:
        """
        :param seed: of the next training
        """
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
        Tell Optuna of an evaluation.

        :param mean_return: of its games
        :return: whether the trial goes on
        :raises NumericalError: the return is none
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

    :param eval_env: whole games, raw rewards
    :param budget: of the trial
    :param stop: ends an evaluation that is under way
    :param report: gets the mean return of each evaluation, and says whether to go on
    """

    def __init__(self, eval_env: VecEnv, budget: Budget, stop: StopRequest, report: Callable[[float], bool]) -> None:
        period = max(budget.n_timesteps // budget.n_evaluations, 1)
        super().__init__(eval_env, Path(), period, budget.eval_episodes, stop, announce=False)
        self.callback_on_new_best = None
        self.n_left = budget.n_evaluations
        self.pruned = False
        self._report = report

    def _on_step(self) -> bool:
        return super()._on_step() if self.n_left else True

    def _on_training_end(self) -> None:
        if self.n_left and not self.pruned:
            super()._on_training_end()

    def _evaluate(self) -> bool:
        if not super()._evaluate():  # stopped in the middle of it
            return False
        self.pruned = not self._report(float(np.mean(self.evaluations_results[-1])))
        return not self.pruned

    def _write_down(self) -> None:
        self.evaluations_results.append(self._returns)
        self.n_left -= 1


def run_trial(plan: Plan, slot: int, score: RunningScore, stop: StopRequest) -> float:
    """
    Train with one choice of settings, once for each seed.

    :param plan: of the study
    :param slot: of the trial, which decides its seeds
    :param score: of the trial
    :param stop: Ctrl-C and the like
    :return: the trial's score
    :raises optuna.TrialPruned: others are better
    :raises Interrupted: somebody asked to stop
    :raises UserError: the agent refuses the settings
    :raises NumericalError: a number became NaN or infinite
    """
    values = plan.space.suggest(score.trial)
    score.trial.set_user_attr("values", values)
    changed = plan.space.settings(values, read_yaml(plan.run.config))
    settings = allow_imports(resolve(plan.algo, plan.env_id, changed, run_file=plan.run.config), plan.allowed)
    for index in range(plan.budget.n_seeds):
        score.begin(plan.training_seed(slot, index))
        evaluation = train(plan, settings, score, stop)
        if evaluation.pruned:
            raise optuna.TrialPruned
        if evaluation.n_left and stop.requested:  # else a callback of the settings ended it, which is its whole length
            raise Interrupted
    return score.value


def train(plan: Plan, settings: Settings, score: RunningScore, stop: StopRequest) -> TrialEvaluation:
    """
    One training of a trial.

    :param plan: of the study
    :param settings: of the trial
    :param score: of the trial, with the seed of this training
    :param stop: Ctrl-C and the like
    :return: its evaluations
    """
    cls, budget, seed = require_algorithm(plan.algo), plan.budget, score.seeds[-1]
    env = run_env(plan.env_id, cls, settings, seed, True, run_value(settings, "n_envs", 1))
    eval_env: VecEnv | None = None
    try:
        model = make_model(cls, env, settings, seed, plan.device, 1 if plan.verbose > 1 else 0)
        own = [part.make() for part in run_value(settings, "callback") or ()]
        eval_seed = seed + _EVAL_SEED_OFFSET
        eval_env = run_env(plan.env_id, cls, settings, eval_seed, False, budget.n_eval_envs, budget.eval_max_steps)
        evaluation = TrialEvaluation(eval_env, budget, stop, score.add)
        with stop.interruptible():
            model.learn(budget.n_timesteps, callback=[StopWhenAsked(stop), evaluation, *own])
        return evaluation
    finally:
        env.close()
        if eval_env is not None:
            eval_env.close()
