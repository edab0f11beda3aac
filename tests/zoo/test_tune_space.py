"""Search spaces: the packaged ones name real arguments, and a user's own is refused in one sentence if it is wrong."""

import optuna
import pytest
from tune_tools import request_of

import sbbatch
from sbbatch.arguments import declared
from sbbatch.errors import InvalidType, InvalidValue, UserError
from sbbatch.settings.resolution import resolve
from sbbatch.zoo.run.build import run_env
from sbbatch.zoo.run.train import make_model
from sbbatch.zoo.tune.space import extremes, make_space, read_space, with_abs

SPACES = ("batch-lr-nstep", "full")


@pytest.mark.parametrize("algo", sbbatch.ALGORITHMS)
def test_every_key_of_the_packaged_spaces_is_an_argument_of_its_agent(algo):
    full = read_space("full", algo)
    for space in (read_space("batch-lr-nstep", algo), full, with_abs(full, algo, "batch_size", 1e4)):
        assert {key.partition(".")[0] for key in space.entries} <= set(declared(sbbatch.ALGORITHMS[algo]))


@pytest.mark.parametrize("algo", ["qrdqn", "btr", "ppo"])
@pytest.mark.parametrize("name", SPACES)
def test_agents_can_be_built_at_both_ends_of_each_packaged_space(algo, name):
    space, cls = read_space(name, algo), sbbatch.ALGORITHMS[algo]
    base = {"policy_kwargs": {"net_arch": [8]}}
    for end in (0, -1):
        values = {key: extremes(entry)[end] for key, entry in space.entries.items()}
        changed = base if algo == "ppo" else {**base, "buffer_size": 5000}
        settings = resolve(algo, "CartPole-v1", {**changed, **space.settings(values, base)})
        env = run_env("CartPole-v1", cls, settings, 0, True, 8)
        make_model(cls, env, settings, 0, "cpu", 0)
        env.close()


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
        assert values["gamma"] == 0.9
    assert "log2_batch_size" in trial.params  # a sampler that sees exponents knows their order
    assert "gamma" not in trial.params


def test_an_entry_of_a_dictionary_leaves_the_others_alone():
    space = make_space("mine", {"policy_kwargs.optimizer_kwargs.eps": {"choices": [1e-8, 1e-4]}}, "here")
    values = {"policy_kwargs.optimizer_kwargs.eps": 1e-4}
    written = "dict(net_arch=[8], optimizer_kwargs=dict(eps=1e-8, weight_decay=0.1))"
    merged = {"net_arch": [8], "optimizer_kwargs": {"eps": 1e-4, "weight_decay": 0.1}}
    assert space.settings(values, {"policy_kwargs": written}) == {"policy_kwargs": merged}
    assert space.settings(values, {}) == {"policy_kwargs": {"optimizer_kwargs": {"eps": 1e-4}}}
    with pytest.raises(InvalidType, match=r"expected a mapping for optimizer_kwargs"):
        space.settings(values, {"policy_kwargs": [1]})


def test_bounds_of_abs_take_the_place_of_the_batch_size_and_are_measured_often_enough():
    replay = with_abs(read_space("batch-lr-nstep", "qrdqn"), "qrdqn", "batch_size", 60_000)
    assert list(replay.entries) == ["batch_size_callback", "learning_rate", "n_steps"]
    assert "abs(8, 64, check_every=1000)" in replay.entries["batch_size_callback"]["choices"]
    rollouts = with_abs(read_space("batch-lr-nstep", "pqn"), "pqn", "n_steps", 192_000)
    assert list(rollouts.entries) == ["batch_size_callback", "learning_rate", "q_lambda"]
    # 192,000 steps are 6,000 rollouts of 32.
    assert "abs(16, 64, check_every=100)" in rollouts.entries["batch_size_callback"]["choices"]
    for algo in ("btr", "pqn", "ppo"):
        request_of("--algo", algo, "--env", "CartPole-v1", "--abs")


def test_a_space_of_ones_own_is_read_from_yaml(tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text("learning_rate: {low: 1e-5, high: 1e-2, log: true}\nbatch_size: {choices: [8, 32]}\n")
    found = request_of("--algo", "dqn", "--space", str(file)).space
    assert found == read_space(str(file), "dqn")
    assert found.entries["batch_size"] == {"choices": [8, 32]}
    with pytest.raises(InvalidValue, match="--abs: write batch_size_callback into"):
        request_of("--space", str(file), "--abs")


@pytest.mark.parametrize(
    "entry",
    [
        0.9,
        {"low": 0.1},
        {"low": 0.9, "high": 0.1},
        {"low": 0.1, "high": 0.9, "logg": True},
        {"low": 0, "high": 1, "log": True},
        {"low": "a", "high": 1},
        {"low": 0.1, "high": 0.9, "log": "yes"},
        {"low": 3, "high": 8, "powers_of": 2},
        {"choices": []},
        {"choices": [0.9], "low": 1},
        {"choices": [0.9]},  # nothing varies
    ],
)
def test_a_space_that_is_written_wrongly_is_refused(entry):
    with pytest.raises(UserError, match=r"^here"):
        make_space("mine", {"gamma": entry}, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach_size: {choices: [8, 32]}", "did you mean 'batch_size'?"),
        ("batch_size: {low: 0, high: 512}", "batch_size"),
        ("batch_size: {low: 1, high: 1000000}", "buffer_size"),
        ("bootstrap: {choices: [double, tripple]}", "tripple"),
        ("seed: {low: 1, high: 5}", "--seed"),
        ("n_timesteps: {low: 100, high: 500}", "n_timesteps is searched"),
        ("gamma: {low: 0.5, high: 0.9}", "gamma is searched"),
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
