"""What the trials of a study came to: as lines, as a table, and the best one as a hyperparameter file."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import Any

import optuna
import yaml
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from sbbatch.zoo.console.progress import say
from sbbatch.zoo.logs.folders import plain
from sbbatch.zoo.tune.study import (
    COMPLETE,
    COUNTED_OUTCOMES,
    ERROR,
    REASON,
    SLOT,
    WITHDRAWN,
    Plan,
    description_of,
    finished_slots,
    outcome_of,
    slot_of,
)
from sbbatch.zoo.tune.trial import LAST_EVALUATIONS

BEST_NAME = "best.yml"
_FEW_TRIALS = 8  # too few to tell importances from
_TOP_TRIALS = 5  # that PED-ANOVA compares with all, at least


@dataclass(frozen=True)
class Result:
    """
    A trial for people.

    :param number: of Optuna
    :param slot: its place in the study
    :param outcome: see :mod:`sbbatch.zoo.tune.study`
    :param score: the last running score; NaN if it has none
    :param values: what was searched
    :param seeds: of its trainings
    :param scores: of each of them
    :param seconds: it took
    :param reason: why it ended so, if it did not just train
    """

    number: int
    slot: int
    outcome: str
    score: float
    values: dict[str, Any]
    seeds: list[int]
    scores: list[float]
    seconds: float
    reason: str

    @property
    def has_score(self) -> bool:
        """Whether there is something to learn from it."""
        return math.isfinite(self.score)


def results_of(plan: Plan, study: optuna.Study) -> list[Result]:
    """
    All trials that have ended, except those that only gave their place back.

    :param plan: of the study
    :param study: the same
    """
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    return [_result(plan, trial) for trial in ended if SLOT in trial.user_attrs and outcome_of(trial) != WITHDRAWN]


def _result(plan: Plan, trial: FrozenTrial) -> Result:
    attributes = trial.user_attrs
    lines = str(attributes.get(ERROR) or attributes.get(REASON) or "").strip().splitlines()
    return Result(
        number=trial.number,
        slot=slot_of(trial),
        outcome=outcome_of(trial),
        score=math.nan if trial.value is None else trial.value,
        values=plan.space.values(trial.params),
        seeds=attributes.get("seeds", []),
        scores=attributes.get("scores", []),
        seconds=attributes.get("seconds", math.nan),
        reason=lines[-1] if lines else "",
    )


def best_of(results: list[Result]) -> Result | None:
    """
    :param results: of a study
    :return: the best whole trial; of equal ones the first
    """
    return max((one for one in results if one.outcome == COMPLETE), key=lambda one: one.score, default=None)


def ranked(results: list[Result]) -> list[Result]:
    """
    The best first: whole trials, then those that were stopped early, then those without a score.

    :param results: trials
    """
    return sorted(results, key=lambda one: (one.outcome != COMPLETE, -_finite(one), one.number))


def _finite(one: Result) -> float:
    return one.score if one.has_score else -math.inf


def text_of(value: Any) -> str:
    """
    :param value: of an axis
    :return: four digits are enough for people
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Announcer:
    """
    Prints a line for each trial that ends.

    :param plan: of the study
    :param study: the same
    """

    def __init__(self, plan: Plan, study: optuna.Study) -> None:
        self.plan, self.study = plan, study

    def __call__(self, trial: FrozenTrial) -> None:
        """
        :param trial: that has ended
        """
        one = _result(self.plan, trial)
        if not self.plan.verbose or one.outcome == WITHDRAWN:
            return
        score = f"{one.score:.1f}" if one.has_score else "-"
        what = "" if one.outcome == COMPLETE else f" {one.outcome}"
        reason = f" ({one.reason})" if one.reason else ""
        done = len(finished_slots(self.study.get_trials(deepcopy=False), self.plan.n_trials))
        say(f"[{done}/{self.plan.n_trials}] trial {one.number}: {score}{what}, {searched(one)}{reason}")


def searched(one: Result) -> str:
    """
    :param one: a trial
    :return: what it searched, in a line
    """
    return ", ".join(f"{key} {text_of(value)}" for key, value in one.values.items())


def n_done(results: list[Result]) -> int:
    """
    :param results: of a study
    :return: slots with a trial that counts
    """
    return len({one.slot for one in results if one.outcome in COUNTED_OUTCOMES})


def summary(plan: Plan, results: list[Result]) -> str:
    """
    :param plan: of the study
    :param results: of the study
    :return: how many trials came to what
    """
    counts = Counter(one.outcome for one in results)
    done = n_done(results)
    parts = ", ".join(f"{n} {outcome}" for outcome, n in counts.most_common())
    return f"{done} of {max(plan.n_trials, done)} trials are done ({parts or 'none has ended'})"


def table(plan: Plan, results: list[Result]) -> str:
    """
    :param plan: of the study
    :param results: of the study
    :return: CSV, one line per trial
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = [axis.key for axis in plan.space.axes]
    writer.writerow(["trial", "slot", "outcome", "score", *keys, "seeds", "scores", "seconds", "reason"])
    for one in results:
        values = [one.values.get(key, "") for key in keys]
        values = [json.dumps(value) if isinstance(value, (list, dict)) else value for value in values]
        score = one.score if one.has_score else ""
        seeds, scores = (" ".join(map(str, numbers)) for numbers in (one.seeds, one.scores))
        seconds = one.seconds if math.isfinite(one.seconds) else ""
        writer.writerow([one.number, one.slot, one.outcome, score, *values, seeds, scores, seconds, one.reason])
    return text.getvalue()


def best_settings(plan: Plan, study: optuna.Study, best: Result) -> dict[str, Any]:
    """
    All settings of a trial, as a section of a hyperparameter file.

    :param plan: of the study
    :param study: the same
    :param best: the trial
    """
    base = description_of(study)["settings"]
    return plain({**base, **plan.space.settings(best.values, base)})


def best_yaml(plan: Plan, study: optuna.Study, best: Result, n_trials: int) -> str:
    """
    A hyperparameter file for ``sbbatch train -conf``.

    :param plan: of the study
    :param study: the same
    :param best: the trial
    :param n_trials: those that it was the best of
    """
    seeds = ", ".join(f"{seed} ({score:.1f})" for seed, score in zip(best.seeds, best.scores, strict=True))
    n_last = min(LAST_EVALUATIONS, plan.budget.n_evaluations)
    story = (
        f"The best of {n_trials} trials of study {plan.study_name} (sbbatch tune, space {plan.space.name}): trial "
        f"{best.number}, score {best.score:.1f}. The score is the interquartile mean over seeds of the mean of the "
        f"last {n_last} evaluations; as the best of many it is flattering. Seeds and their scores: {seeds}. Another "
        "run: leave out --seed below; a longer one: add -n. The same training again:"
    )
    lines = [*textwrap.wrap(story, 118), shlex.join(repeat_command(plan, best))]
    comment = "".join(f"# {line}\n" for line in lines)
    return comment + yaml.safe_dump({plan.env_id: best_settings(plan, study, best)}, sort_keys=True)


def repeat_command(plan: Plan, best: Result) -> list[str]:
    """
    The command that trains exactly as a trial did with its first seed.

    :param plan: of the study
    :param best: the trial
    """
    budget = plan.budget
    words = ["sbbatch", "train", "--algo", plan.algo, "--env", plan.env_id, "-conf", str(plan.folder / BEST_NAME)]
    words += ["--seed", str(best.seeds[0]), "--num-threads", "1"]
    words += ["--eval-freq", str(max(budget.n_timesteps // budget.n_evaluations, 1))]
    words += ["--eval-episodes", str(budget.eval_episodes), "--n-eval-envs", str(budget.n_eval_envs)]
    words += ["--eval-max-steps", str(budget.eval_max_steps)] if budget.eval_max_steps is not None else []
    words += [word for name in plan.packages for word in ("--gym-packages", name)]
    return words + [word for name in plan.allowed for word in ("--allow-import", name)]


def importances(study: optuna.Study, plan: Plan) -> dict[str, float]:
    """
    How much each argument decides whether a trial is among the best (PED-ANOVA), largest first.

    Optuna looks at whole trials only, which are the good ones where there is pruning; here pruned ones count with the
    score they had.

    :param study: of ours
    :param plan: of the study
    :return: argument -> share of 1; empty if there are too few trials, or all are equal
    """
    known = [
        trial for trial in study.get_trials(deepcopy=False) if trial.value is not None and SLOT in trial.user_attrs
    ]
    known = [trial for trial in known if len(trial.params) == len(plan.space.axes)]
    if len(known) < _FEW_TRIALS or len({trial.value for trial in known}) < 2:
        return {}
    whole = optuna.create_study(direction="maximize")
    for trial in known:
        whole.add_trial(
            optuna.create_trial(
                state=TrialState.COMPLETE,
                value=trial.value,
                params=trial.params,
                distributions=trial.distributions,
            )
        )
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, min(_TOP_TRIALS / len(known), 0.5)))
    found = optuna.importance.get_param_importances(whole, evaluator=evaluator)
    keys = {axis.name: axis.key for axis in plan.space.axes}
    return {keys[name]: share for name, share in found.items()}
