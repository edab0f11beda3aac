"""Search spaces: the packaged ones name real arguments, and what a user writes wrongly is told in one sentence."""

import optuna
import pytest
from stable_baselines3.common.vec_env import VecEnv

import sbbatch
from sbbatch.errors import InvalidType, InvalidValue, UserError
from sbbatch.settings.reader import read_yaml
from sbbatch.settings.resolution import keyword_arguments, resolve
from sbbatch.zoo.run.build import make_model, run_env
from sbbatch.zoo.tune.request import read_arguments, read_request
from sbbatch.zoo.tune.space import Choices, Powers, Range, make_space, read_space, with_abs

SPACES = ("batch-lr-nstep", "full")
SMALL = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}, "batch_size": {"choices": [8, 32]}}


def request_of(*words):
    return read_request(read_arguments([*words]))


@pytest.mark.parametrize("algo", sbbatch.ALGORITHMS)
@pytest.mark.parametrize("name", [*SPACES, "abs"])
def test_every_key_of_the_packaged_spaces_is_an_argument_of_its_agent(algo, name):
    space = read_space(name, algo) if name in SPACES else with_abs(read_space("full", algo), algo, "batch_size", 1e4)
    arguments = keyword_arguments(sbbatch.ALGORITHMS[algo])
    for key in space.plain():
        assert key.partition(".")[0] in arguments


@pytest.mark.parametrize("algo", sbbatch.ALGORITHMS)
@pytest.mark.parametrize("name", SPACES)
def test_agents_can_be_built_at_both_ends_of_each_packaged_space(algo, name):
    space, cls = read_space(name, algo), sbbatch.ALGORITHMS[algo]
    base = {"policy_kwargs": dict(net_arch=[8], **({"noisy_sigma0": 0.5} if algo == "rainbow" else {}))}
    for end in (0, -1):
        values = {axis.key: axis.extremes()[end] for axis in space.axes}
        changed = {**base, "buffer_size": 5000} if algo not in ("pqn", "ppo") else base
        settings = resolve(algo, "CartPole-v1", {**changed, **space.settings(values, base)})
        env = run_env("CartPole-v1", cls, settings, 0, True, 8)
        assert isinstance(env, VecEnv)
        make_model(cls, env, settings, 0, "cpu", 0)
        env.close()


@pytest.mark.parametrize("algo", sbbatch.ALGORITHMS)
def test_the_batch_sizes_of_the_study_are_powers_of_two_up_to_512(algo):
    axes = {axis.key: axis for axis in read_space("batch-lr-nstep", algo).axes}
    assert list(axes) == [
        *(["n_steps", "learning_rate", "q_lambda"] if algo == "pqn" else []),
        *(["batch_size", "learning_rate", "gae_lambda"] if algo == "ppo" else []),
        *(["batch_size", "learning_rate", "n_steps"] if algo not in ("pqn", "ppo") else []),
    ]
    assert axes["learning_rate"] == Range("learning_rate", 1e-5, 1e-2, log=True)
    if algo not in ("pqn", "ppo"):
        assert axes["batch_size"] == Powers("batch_size", 2, 0, 9)
        assert axes["n_steps"] == Range("n_steps", 1, 10)


def test_values_go_to_optuna_and_come_back():
    space = make_space(
        "mine",
        {
            "batch_size": {"low": 1, "high": 512, "powers_of": 2},
            "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
            "n_steps": {"low": 1, "high": 10},
            "policy_kwargs.net_arch": {"choices": [[64], [64, 64]]},
            "max_grad_norm": {"choices": [None, 10.0]},
            "gamma": {"choices": [0.9]},
        },
        "here",
    )
    assert space.fixed == {"gamma": 0.9}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        trial = study.ask()
        values = space.suggest(trial)
        assert space.values(trial.params) == values
        assert values["batch_size"] in {2**n for n in range(10)}
        assert 1e-5 <= values["learning_rate"] <= 1e-2
        assert values["n_steps"] in range(1, 11)
        assert values["policy_kwargs.net_arch"] in ([64], [64, 64])
        assert values["max_grad_norm"] in (None, 10.0)
    assert "log2_batch_size" in trial.params  # a sampler that sees exponents knows their order


def test_an_entry_of_a_dictionary_leaves_the_others_alone():
    space = make_space("mine", {"policy_kwargs.optimizer_kwargs.eps": {"choices": [1e-8, 1e-4]}}, "here")
    values = {"policy_kwargs.optimizer_kwargs.eps": 1e-4}
    written = "dict(net_arch=[8], optimizer_kwargs=dict(eps=1e-8, weight_decay=0.1))"
    merged = {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-4, "weight_decay": 0.1}}
    assert space.settings(values, {"policy_kwargs": written}) == {"policy_kwargs": merged}
    assert space.settings(values, {}) == {"policy_kwargs": {"optimizer_kwargs": {"eps": 1e-4}}}


def test_a_space_survives_being_written_down():
    for algo in sbbatch.ALGORITHMS:
        for name in SPACES:
            space = read_space(name, algo)
            assert make_space(name, space.plain(), "again") == space


def test_bounds_of_abs_take_the_place_of_the_batch_size_and_are_measured_often_enough():
    replay = with_abs(read_space("batch-lr-nstep", "qrdqn"), "qrdqn", "batch_size", 60_000)
    assert [axis.key for axis in replay.axes] == ["batch_size_callback", "learning_rate", "n_steps"]
    assert "abs(8, 64, check_every=1000)" in replay.axes[0].values
    rollouts = with_abs(read_space("batch-lr-nstep", "pqn"), "pqn", "n_steps", 192_000)
    assert [axis.key for axis in rollouts.axes] == ["batch_size_callback", "learning_rate", "q_lambda"]
    assert "abs(16, 64, check_every=100)" in rollouts.axes[0].values  # 192,000 steps are 6,000 rollouts of 32
    for algo in sbbatch.ALGORITHMS:
        request_of("--algo", algo, "--env", "CartPole-v1", "--abs")


def test_a_space_of_ones_own_is_read_from_yaml(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("learning_rate: {low: 1e-5, high: 1e-2, log: true}\nbatch_size: {choices: [8, 32]}\n")
    assert read_space(str(file), "dqn") == make_space("mine", SMALL, "")
    assert request_of("--algo", "dqn", "--space", str(file)).space == make_space("mine", SMALL, "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gamma": 0.9}, "here gamma: got float 0.9, expected {low: 1, high: 10} or {choices: [1, 2]}"),
        ({"gamma": {"low": 0.1}}, "expected {low: 1, high: 10}"),
        ({"gamma": {"low": 0.9, "high": 0.1}}, "here gamma: got low 0.9 and high 0.1, expected low < high"),
        ({"gamma": {"low": 0.1, "high": 0.9, "logg": True}}, "unknown key 'logg'; did you mean 'log'?"),
        ({"gamma": {"low": 0, "high": 1, "log": True}}, "here gamma low: got 0, expected a number above 0"),
        ({"gamma": {"low": "a", "high": 1}}, "here gamma low: got str 'a', expected a finite number"),
        ({"gamma": {"low": 0.1, "high": 0.9, "log": "yes"}}, "here gamma log: got str 'yes', expected True or False"),
        ({"n_steps": {"low": 3, "high": 8, "powers_of": 2}}, "here n_steps low: got 3, expected a power of 2"),
        ({"n_steps": {"low": 1, "high": 8, "powers_of": 2, "log": True}}, "powers_of is logarithmic already"),
        ({"gamma": {"choices": []}}, "here gamma: got choices list [], expected a list of values"),
        ({"gamma": {"choices": [0.9, 0.9]}}, "here gamma: a choice is given twice"),
        ({"gamma": {"choices": [0.9], "low": 1}}, "unknown key 'low'"),
        ({"gamma": {"choices": [0.9]}}, "here: nothing varies"),
        ({}, "here: nothing varies"),
    ],
)
def test_a_space_that_is_written_wrongly_is_told_in_one_sentence(content, message):
    with pytest.raises(UserError) as caught:
        make_space("mine", content, "here")
    assert message in str(caught.value)


def test_a_study_may_search_in_a_suite():
    found = request_of("--algo", "rainbow", "--env", "ALE/Pong-v5", "--suite", "atari100k", "-n", "5000")
    assert (found.base["atari_protocol"], found.base["n_steps"]) == ("atari100k", 10)
    assert found.budget.n_timesteps == 5000


def test_an_entry_of_something_that_is_no_dictionary_is_refused():
    space = make_space("mine", {"gamma.x": {"choices": [1, 2]}}, "here")
    with pytest.raises(InvalidType, match=r"gamma: got float 0\.9, expected a mapping for x"):
        space.settings({"gamma.x": 1}, {"gamma": 0.9})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach_size: {choices: [8, 32]}", "unknown key 'bach_size'; did you mean 'batch_size'?"),
        ("batch_size: {low: 0, high: 512}", "batch_size: got 0, expected an int >= 1"),
        ("batch_size: {low: 1.5, high: 512}", "batch_size: got float 1.5, expected an int"),
        ("learning_rate: {low: 1e-4, high: 3.0}", "learning_rate: got 3.0, expected a finite number in [0, 1]"),
        ("batch_size: {low: 1, high: 1000000}", "expected at most buffer_size"),
        ("bootstrap: {choices: [double, tripple]}", "unknown bootstrap 'tripple'"),
        ("seed: {low: 1, high: 5}", "'seed' is no hyperparameter; give it as --seed"),
        ("n_timesteps: {low: 100, high: 500}", "n_timesteps is the same for all trials; give -n"),
        ("gamma: {low: 0.5, high: 0.9}", "gamma is searched, and given with -params too"),
        ("", "is empty"),
        ("gamma: {low: 0.5, high: 0.9}\ngamma: {low: 0.5, high: 0.9}", "duplicate key gamma at lines 1 and 2"),
    ],
)
def test_what_the_agent_would_refuse_is_told_before_a_study_is_made(tmp_path, text, message):
    file = tmp_path / "mine.yml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        request_of("--algo", "dqn", "--space", str(file), "-params", "gamma:0.9", "-f", str(tmp_path / "logs"))
    assert message in str(caught.value)
    assert "command line" not in str(caught.value)
    assert not (tmp_path / "logs").exists()


def test_unknown_spaces_and_bounds_in_a_file_of_ones_own_are_refused(tmp_path):
    with pytest.raises(InvalidValue, match="--space: unknown space 'batch-lr'; did you mean 'batch-lr-nstep'"):
        request_of("--space", "batch-lr")
    with pytest.raises(InvalidValue, match=r"no such file: missing\.yml"):
        request_of("--space", "missing.yml")
    file = tmp_path / "mine.yml"
    file.write_text("batch_size: {choices: [8, 32]}")
    with pytest.raises(InvalidValue, match="--abs: write batch_size_callback into"):
        request_of("--space", str(file), "--abs")
    with pytest.raises(InvalidValue, match="has no batch-lr-nstep for mine"):
        read_space("batch-lr-nstep", "mine")


def test_the_packaged_file_is_one_mapping_of_spaces_to_agents():
    sections = read_yaml(sbbatch.settings.resolution.hyperparams_folder() / "spaces.yml")
    assert set(sections) == {*SPACES, "abs"}
    for section in sections.values():
        assert set(section) == set(sbbatch.ALGORITHMS)
    assert isinstance(read_space("full", "dqn").axes[3], Choices)
