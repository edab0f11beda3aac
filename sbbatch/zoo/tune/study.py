"""
One Optuna study that any number of workers on any number of hosts bring to exactly its number of trials.

A study has slots, numbered from 0. Each slot gets one trial; where that fails (a killed worker, Ctrl-C, a bug) another
takes its place, with the same slot number and so with the same seeds. Workers never make a slot of their own: they
claim waiting trials. So the number of trials that count is the number of slots, whoever dies when.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from sbbatch.errors import InvalidValue
from sbbatch.version import __version__
from sbbatch.zoo.logs.folders import RunFolder, folder_name
from sbbatch.zoo.tune.request import Budget
from sbbatch.zoo.tune.space import Space, make_space
from sbbatch.zoo.tune.storage import MAX_REPEATS

DESCRIPTION = "sbbatch"  # user attribute of a study
SLOT, OUTCOME, ERROR, REASON = "slot", "outcome", "error", "reason"  # user attributes of a trial
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED)
# What a trial can come to; only the first can be the best, and only those of the first line count.
COUNTED_OUTCOMES = COMPLETE, PRUNED, DIVERGED, REFUSED = "complete", "pruned", "diverged", "refused"
FAILED, KILLED, INTERRUPTED, WITHDRAWN = "failed", "killed", "interrupted", "withdrawn"
# How the command line calls what two studies may differ in.
_OPTIONS = {
    "algo": "--algo",
    "env": "--env",
    "seed": "--seed",
    "n_timesteps": "-n",
    "n_evaluations": "--n-evaluations",
    "eval_episodes": "--eval-episodes",
    "n_eval_envs": "--n-eval-envs",
    "eval_max_steps": "--eval-max-steps",
    "n_seeds": "--n-seeds",
}


@dataclass(frozen=True)
class Plan:
    """
    All that a worker must know.

    :param algo: name of the algorithm
    :param env_id: environment
    :param study_name: in the database
    :param folder: of the study
    :param url: of the database
    :param space: what varies
    :param budget: of each trial
    :param seed: of the study
    :param n_trials: slots
    :param n_jobs: workers of this command
    :param sampler: its name
    :param pruner: its name
    :param n_startup_trials: random trials, and trials without pruning, first
    :param heartbeat: seconds between signs of life
    :param device: torch device
    :param verbose: SB3's level, plus one
    :param deadline: seconds since the epoch after which no trial is begun
    :param old_failures: numbers of the trials that had failed by a bug before this command
    :param packages: modules that register environments, imported by each worker
    :param allowed: modules whose callbacks and wrappers may be imported, besides those known to be harmless
    """

    algo: str
    env_id: str
    study_name: str
    folder: Path
    url: str
    space: Space
    budget: Budget
    seed: int
    n_trials: int
    n_jobs: int
    sampler: str
    pruner: str
    n_startup_trials: int
    heartbeat: int
    device: str
    verbose: int
    deadline: float | None
    old_failures: frozenset[int] = frozenset()
    packages: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()

    @property
    def run(self) -> RunFolder:
        """The settings that all trials share, written down as a run's."""
        return RunFolder(self.folder, folder_name(self.env_id))

    @property
    def steps(self) -> int:
        """Evaluations of a trial: Optuna's steps."""
        return self.budget.n_evaluations * self.budget.n_seeds

    def training_seed(self, slot: int, index: int) -> int:
        """
        :param slot: of the trial
        :param index: which training of the trial
        :return: a seed that leaves room for those of the other environments
        """
        return int(np.random.SeedSequence([self.seed, slot, index]).generate_state(1)[0] >> 2)

    def sampler_seed(self, slot: int) -> int:
        """
        :param slot: of the trial; with a seed for each, a resumed study goes on as if it had not been stopped
        """
        return int(np.random.SeedSequence([self.seed, slot]).generate_state(1)[0])


def describe_study(
    algo: str, env_id: str, seed: int, space: Space, base: dict[str, Any], budget: Budget
) -> dict[str, Any]:
    """
    What makes a study this one; written into the database when it is made.

    :param algo: name of the algorithm
    :param env_id: environment
    :param seed: of the study
    :param space: what varies
    :param base: settings that all trials share
    :param budget: of each trial
    """
    own = {"algo": algo, "env": env_id, "seed": seed, **asdict(budget)}
    # As it comes back from the database: lists for tuples.
    return json.loads(json.dumps({**own, "space": space.name, "axes": space.plain(), "settings": base}))


def join_study(storage: RDBStorage, name: str, description: dict[str, Any], keeps_seed: bool) -> optuna.Study:
    """
    Make a study, or go on with one that is the same.

    :param storage: the database
    :param name: of the study
    :param description: from :func:`describe_study`
    :param keeps_seed: whether an existing study may have another seed, which it keeps
    :raises InvalidValue: there is another study of this name
    """
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    if not study.user_attrs and not study.get_trials(deepcopy=False):
        # In one piece: another host may look at any moment.
        study.set_user_attr(DESCRIPTION, {**description, "version": __version__})
    check_ours(study, {key: value for key, value in description.items() if not (key == "seed" and keeps_seed)})
    return study


def check_ours(study: optuna.Study, wanted: dict[str, Any]) -> None:
    """
    :param study: any study of the database
    :param wanted: what it must have been begun with
    :raises InvalidValue: it was made by another program, or with something else
    """
    if DESCRIPTION not in study.user_attrs or study.directions != [optuna.study.StudyDirection.MAXIMIZE]:
        raise InvalidValue(f"study '{study.study_name}' was not made by sbbatch tune; give another --study-name")
    known = description_of(study)
    for key, value in wanted.items():
        if known.get(key) != value:
            raise InvalidValue(f"study '{study.study_name}': {_difference(key, known.get(key), value)}")


def description_of(study: optuna.Study) -> dict[str, Any]:
    """
    :param study: of ours
    :return: what :func:`describe_study` said when it was made
    """
    return dict(study.user_attrs[DESCRIPTION])


def _difference(key: str, known: Any, given: Any) -> str:
    remedy = "give another --study-name, or the same again"
    if key in _OPTIONS:
        return f"it was begun with {_OPTIONS[key]} {known}, not {given}; {remedy}"
    if key == "space":
        return f"it was begun with --space {known}, not {given}; {remedy}"
    what = {"axes": "--space", "settings": "hyperparameters"}[key]
    changed = sorted(name for name in {*known, *given} if known.get(name) != given.get(name))[0]
    return f"it was begun with other {what}: {changed} {known.get(changed)}, not {given.get(changed)}; {remedy}"


def space_of(study: optuna.Study) -> Space:
    """
    :param study: of ours
    """
    known = description_of(study)
    return make_space(known["space"], known["axes"], f"study '{study.study_name}'")


def budget_of(study: optuna.Study) -> Budget:
    """
    :param study: of ours
    """
    known = description_of(study)
    return Budget(**{key: known[key] for key in Budget.__annotations__})


def slot_of(trial: FrozenTrial) -> int:
    """
    :param trial: any of the study; one that another program has put into it has none and comes last
    """
    return int(trial.user_attrs.get(SLOT, 2**31))


def outcome_of(trial: FrozenTrial) -> str:
    """
    :param trial: any of the study
    :return: one of the words above, or ``running``, ``waiting``
    """
    # What fits the state alone: Optuna copies the attributes of a killed trial, which may just have said its outcome.
    said = trial.user_attrs.get(OUTCOME)
    if trial.state is TrialState.FAIL:
        return said if said in (FAILED, INTERRUPTED, WITHDRAWN) else KILLED  # who was killed could not say so
    if trial.state is TrialState.PRUNED:
        return said if said in (DIVERGED, REFUSED) else PRUNED
    return trial.state.name.lower()


def finished_slots(trials: Iterable[FrozenTrial], n_trials: int) -> set[int]:
    """
    :param trials: of the study
    :param n_trials: slots
    :return: those with a trial that counts
    """
    return {slot_of(trial) for trial in trials if trial.state in COUNTED and slot_of(trial) < n_trials}


def n_slots(study: optuna.Study) -> int:
    """
    :param study: of ours
    :return: the largest number of trials that anybody has asked for
    """
    return len({slot_of(trial) for trial in study.get_trials(deepcopy=False) if SLOT in trial.user_attrs})


def refill(study: optuna.Study, n_trials: int) -> int:
    """
    Give every slot that has none a waiting trial: at the beginning, and after what died between two writes.

    :param study: of ours
    :param n_trials: slots
    :return: how many were missing
    """
    trials = study.get_trials(deepcopy=False)
    taken = {slot_of(trial) for trial in trials if trial.state is not TrialState.FAIL}
    missing = [slot for slot in range(n_trials) if slot not in taken]
    for slot in missing:
        before = [trial for trial in trials if slot_of(trial) == slot and outcome_of(trial) in (KILLED, INTERRUPTED)]
        n_killed = sum(outcome_of(trial) == KILLED for trial in before)
        if before and n_killed <= MAX_REPEATS:
            repeat(study, before[-1])
        else:
            study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs={SLOT: slot}))
    return len(missing)


def repeat(study: optuna.Study, trial: FrozenTrial) -> None:
    """
    Let a trial be run again with the same parameters and seeds.

    :param study: of ours
    :param trial: that was interrupted
    """
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={SLOT: slot_of(trial)},
        )
    )


def replace(study: optuna.Study, trial: FrozenTrial) -> None:
    """
    Let another trial, with parameters of its own, take a slot.

    :param study: of ours
    :param trial: that failed by a bug
    """
    study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs={SLOT: slot_of(trial)}))


def claim(study: optuna.Study, storage: RDBStorage, n_trials: int) -> optuna.Trial | None:
    """
    Take a waiting trial for this process alone, the lowest slot first, so that a repeated one is not put off.

    :param study: of ours
    :param storage: its database
    :param n_trials: slots
    :return: the trial, or ``None`` if none waits
    """
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    for trial in sorted(waiting, key=lambda trial: (slot_of(trial), trial.number)):
        if slot_of(trial) >= n_trials:
            continue
        # First the heartbeat: a running trial that never had one would never be found dead.
        storage.record_heartbeat(trial._trial_id)
        try:
            claimed = storage.set_trial_state_values(trial._trial_id, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            continue
        if claimed and not _withdrawn(study, trial):
            return optuna.Trial(study, trial._trial_id)
    return None


def _withdrawn(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Two hosts that began at the same moment may both have filled a slot: the older trial stays."""
    others = study.get_trials(deepcopy=False)
    older = [other for other in others if slot_of(other) == slot_of(trial) and other.number < trial.number]
    if not any(other.state is not TrialState.FAIL for other in older):
        return False
    optuna.Trial(study, trial._trial_id).set_user_attr(OUTCOME, WITHDRAWN)
    study.tell(trial.number, state=TrialState.FAIL)
    return True


def make_sampler(plan: Plan, slot: int) -> BaseSampler:
    """
    :param plan: of the study
    :param slot: of the trial it is for
    """
    seed = plan.sampler_seed(slot)
    independent = RandomSampler(seed=seed)
    if plan.sampler == "random":
        return independent
    if plan.sampler == "cmaes":
        return CmaEsSampler(seed=seed, n_startup_trials=plan.n_startup_trials, warn_independent_sampling=False)
    if plan.sampler == "qmc":  # one sequence, from which each trial takes the next point
        return QMCSampler(
            scramble=True, seed=plan.sampler_seed(0), independent_sampler=independent, warn_independent_sampling=False
        )
    if plan.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=plan.n_startup_trials)
    # Several workers, of which each host may have one, would otherwise all go where the last result was best.
    return TPESampler(seed=seed, n_startup_trials=plan.n_startup_trials, multivariate=True, constant_liar=True)


def make_pruner(plan: Plan) -> optuna.pruners.BasePruner:
    """
    :param plan: of the study; numbers are rl-baselines3-zoo's where it has the pruner
    """
    if plan.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=4)
    if plan.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=plan.steps)
    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(plan.n_startup_trials, n_warmup_steps=plan.budget.n_evaluations // 3)
    return optuna.pruners.NopPruner()
