"""Slots of a study: each gets exactly one trial that counts, whoever dies when."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace as changed

import optuna
import pytest
from optuna.trial import TrialState
from tune_tools import begin, reload, states, storage_of

from sbbatch.errors import InvalidValue
from sbbatch.zoo.tune.storage import MAX_REPEATS, open_storage
from sbbatch.zoo.tune.study import (
    INTERRUPTED,
    KILLED,
    OUTCOME,
    SLOT,
    WITHDRAWN,
    claim,
    finished_slots,
    make_pruner,
    make_sampler,
    outcome_of,
    refill,
    repeat,
    replace,
    slot_of,
)

WAITING, RUNNING, COMPLETE = TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE


@pytest.fixture
def tiny(tmp_path):
    plan, study = begin(tmp_path, n_trials=3)
    refill(study, 3)
    return plan, study, storage_of(study)


def fail(study, trial, **attributes):
    for key, value in attributes.items():
        trial.set_user_attr(key, value)
    study.tell(trial, state=TrialState.FAIL)
    return study.trials[trial.number]


def slots(study):
    return [slot_of(trial) for trial in study.trials]


def test_every_slot_gets_one_waiting_trial_once(tiny):
    _, study, _ = tiny
    assert refill(study, 3) == 0
    assert slots(study) == [0, 1, 2]
    assert states(study) == [WAITING] * 3
    assert refill(study, 5) == 2  # the same study with a larger total


def test_trials_are_claimed_once_and_no_new_one_is_ever_made(tiny):
    _, study, storage = tiny
    assert [claim(study, storage, 3).number for _ in range(3)] == [0, 1, 2]
    assert claim(study, storage, 3) is None
    assert states(study) == [RUNNING] * 3


def test_slots_beyond_the_total_wait_for_a_larger_one(tiny):
    _, study, storage = tiny
    assert [claim(study, storage, 2).number for _ in range(2)] == [0, 1]
    assert claim(study, storage, 2) is None
    assert claim(study, storage, 3).number == 2


def test_several_workers_never_claim_the_same_trial(tmp_path):
    plan, study = begin(tmp_path, n_trials=40)
    refill(study, 40)

    def worker(_):
        storage = open_storage(plan.url, 15)
        own = optuna.load_study(study_name=plan.study_name, storage=storage)
        claimed = []
        while (trial := claim(own, storage, 40)) is not None:
            claimed.append(trial.number)
        return claimed

    with ThreadPoolExecutor(4) as pool:
        claimed = [number for numbers in pool.map(worker, range(4)) for number in numbers]
    assert sorted(claimed) == list(range(40))


def test_a_claimed_trial_has_a_heartbeat_before_it_runs(tiny):
    _, study, storage = tiny
    storage.grace_period = -1  # any trial with a heartbeat is found dead
    trial = claim(study, storage, 3)
    assert storage._get_stale_trial_ids(study._study_id) == [trial._trial_id]


def test_a_repeated_trial_has_the_same_slot_parameters_and_seeds_and_comes_first(tiny):
    plan, study, storage = tiny
    trial = claim(study, storage, 3)
    study.sampler = make_sampler(plan, 0)
    values = plan.space.suggest(trial)
    repeat(study, fail(study, trial, outcome=INTERRUPTED))
    again = claim(study, storage, 3)
    assert again.number == 3  # not 1, whose slot is higher
    assert slot_of(study.trials[3]) == 0
    assert plan.space.suggest(again) == values
    assert OUTCOME not in again.user_attrs


def test_a_replaced_trial_has_the_same_slot_and_parameters_of_its_own(tiny):
    _, study, storage = tiny
    trial = claim(study, storage, 3)
    trial.suggest_int("n_steps", 1, 10)
    replace(study, fail(study, trial))
    assert slots(study) == [0, 1, 2, 0]
    assert study.trials[3].params == {}


def test_what_died_between_two_writes_is_filled_again_with_the_same_parameters(tiny):
    plan, study, storage = tiny
    trial = claim(study, storage, 3)
    study.sampler = make_sampler(plan, 0)
    values = plan.space.suggest(trial)
    assert outcome_of(fail(study, trial)) == KILLED
    assert refill(study, 3) == 1
    assert plan.space.suggest(claim(study, storage, 3)) == values


def test_parameters_whose_worker_always_dies_are_given_up(tiny):
    plan, study, storage = tiny
    for _ in range(MAX_REPEATS + 1):
        trial = claim(study, storage, 1)
        plan.space.suggest(trial)
        fail(study, trial)
        refill(study, 3)
    assert study.trials[-1].params == {}
    assert study.trials[-2].params == study.trials[0].params
    assert slot_of(study.trials[-1]) == 0


def test_a_slot_that_two_hosts_filled_at_once_is_run_once(tiny):
    _, study, storage = tiny
    study.add_trial(optuna.create_trial(state=WAITING, user_attrs={SLOT: 1}))
    claimed = [claim(study, storage, 3).number for _ in range(3)]
    assert claimed == [0, 1, 2]
    assert outcome_of(study.trials[3]) == WITHDRAWN
    assert claim(study, storage, 3) is None


def test_finished_slots_are_those_with_a_trial_that_counts(tiny):
    _, study, storage = tiny
    study.tell(claim(study, storage, 3), 1.0)
    study.tell(claim(study, storage, 3), state=TrialState.PRUNED)
    fail(study, claim(study, storage, 3))
    assert finished_slots(study.trials, 3) == {0, 1}
    assert finished_slots(study.trials, 1) == {0}


def test_seeds_follow_from_the_study_and_the_slot(tiny):
    plan, _, _ = tiny
    seeds = [plan.training_seed(slot, index) for slot in range(50) for index in range(4)]
    assert len(set(seeds)) == 200
    assert max(seeds) < 2**30
    assert plan.training_seed(3, 1) == plan.training_seed(3, 1)
    assert changed(plan, seed=2).training_seed(3, 1) != plan.training_seed(3, 1)


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "qmc", "gp"])
def test_samplers_depend_on_the_seed_and_slot_alone(tmp_path, name):
    plan, _ = begin(tmp_path, "--sampler", name, "--n-startup-trials", "2")

    def parameters(seed):
        own = changed(plan, seed=seed)
        study = optuna.create_study(direction="maximize")
        for slot in range(5):
            study.sampler = make_sampler(own, slot)
            trial = study.ask()
            values = own.space.suggest(trial)
            study.tell(trial, -abs(values["n_steps"] - 3.0))
        return [trial.params for trial in study.trials]

    first = parameters(0)
    assert first == parameters(0)
    assert first != parameters(1)
    assert len({one["learning_rate"] for one in first}) == 5


def test_pruners_by_name(tmp_path):
    plan, _ = begin(tmp_path)
    kinds = {"none": "NopPruner", "median": "MedianPruner", "halving": "SuccessiveHalvingPruner"}
    for name, kind in {**kinds, "hyperband": "HyperbandPruner"}.items():
        assert type(make_pruner(changed(plan, pruner=name))).__name__ == kind


def test_a_study_goes_on_with_what_it_was_begun_with(tmp_path):
    plan, study = begin(tmp_path)
    again, same = begin(tmp_path, "--n-jobs", "2", "--sampler", "random", "--pruner", "none", "--n-seeds", "1")
    assert same._study_id == study._study_id
    assert (again.seed, again.space, again.budget) == (plan.seed, plan.space, plan.budget)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--n-seeds", "2"], "study 'a': it was begun with --n-seeds 1, not 2"),
        (["--abs"], "it was begun with --space batch-lr-nstep, not batch-lr-nstep-abs"),
        (["--seed", "7"], "it was begun with --seed 1, not 7"),
        (["--eval-episodes", "3"], "it was begun with --eval-episodes 2, not 3"),
        (["-n", "300"], "it was begun with -n 200, not 300"),
        (["-params", "gamma:0.5"], "it was begun with other hyperparameters: gamma 0.99, not 0.5"),
    ],
)
def test_a_study_of_the_same_name_that_is_another_is_refused(tmp_path, more, message):
    plan, _ = begin(tmp_path)
    with pytest.raises(InvalidValue) as caught:
        begin(tmp_path, *more)
    assert message in str(caught.value)
    assert "give another --study-name" in str(caught.value)
    assert states(reload(plan)) == []


def test_a_random_seed_is_kept_when_a_study_goes_on(tmp_path):
    plan, _ = begin(tmp_path, "--seed", "-1")
    assert begin(tmp_path, "--seed", "-1")[0].seed == plan.seed


def test_a_space_that_has_changed_under_its_name_is_refused(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("gamma: {low: 0.9, high: 0.99}")
    begin(tmp_path, "--space", str(file))
    file.write_text("gamma: {low: 0.5, high: 0.99}")
    with pytest.raises(InvalidValue, match=r"it was begun with other --space: gamma \{'low': 0\.9"):
        begin(tmp_path, "--space", str(file))


def test_a_study_of_another_algorithm_or_program_is_refused(tmp_path):
    begin(tmp_path)
    url = f"sqlite:///{tmp_path}/tune/dqn/CartPole-v1_a/study.db"
    with pytest.raises(InvalidValue, match="it was begun with --algo dqn, not qrdqn"):
        begin(tmp_path, "--storage", url, "--algo", "qrdqn")
    with pytest.raises(InvalidValue, match="it was begun with --env CartPole-v1, not Acrobot-v1"):
        begin(tmp_path, "--storage", url, "--env", "Acrobot-v1")
    assert not (tmp_path / "tune/qrdqn").exists()
    foreign = optuna.create_study(study_name="foreign", storage=url)
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(InvalidValue, match="study 'foreign' was not made by sbbatch tune"):
        begin(tmp_path, "--storage", url, name="foreign")


def test_settings_that_somebody_edited_are_refused(tmp_path):
    plan, _ = begin(tmp_path)
    plan.run.config.write_text(plan.run.config.read_text().replace("0.99", "0.5"))
    with pytest.raises(InvalidValue, match="is not what study 'a' was begun with; remove the file"):
        begin(tmp_path)
