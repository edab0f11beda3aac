"""``train --show-config``: every setting, its value and where it came from, and nothing else happens."""

import pytest

from sbbatch.arguments import declared
from sbbatch.settings.resolution import RUN_KEYS, require_algorithm, resolve
from sbbatch.settings.show import show_settings
from sbbatch.zoo.commands.cli import main

FLAGS = {"policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}


def rows_of(text):
    """key -> (value, origin), as far as two spaces separate them."""
    rows = [[part.strip() for part in line.split("  ") if part.strip()] for line in text.splitlines()]
    assert all(len(row) == 3 for row in rows)
    assert len({key for key, _, _ in rows}) == len(rows)
    return {key: (value, origin) for key, value, origin in rows}


@pytest.fixture
def shown(capsys, monkeypatch, tmp_path):
    """What the command prints; nothing may be built or written."""

    def refuse(*args, **kwargs):
        raise AssertionError("something was built")

    monkeypatch.setattr("stable_baselines3.common.vec_env.DummyVecEnv.__init__", refuse)
    monkeypatch.setattr("sbbatch.envs.ale.AleVecEnv.__init__", refuse)
    monkeypatch.chdir(tmp_path)

    def show(*words):
        assert main(["train", *words, "--show-config"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert list(tmp_path.iterdir()) == []
        return rows_of(captured.out)

    return show


@pytest.mark.parametrize("algo", ["btr", "pqn", "ppo"])
@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "CartPole-v1"])
def test_every_argument_and_every_value_of_the_run_has_a_line(shown, algo, env_id):
    keys = {key.partition(".")[0] for key in shown("--algo", algo, "--env", env_id)}
    assert keys == (set(declared(require_algorithm(algo))) - FLAGS) | RUN_KEYS


def test_each_origin_is_told(shown):
    rows = shown("--algo", "qrdqn", "--env", "ALE/Pong-v5", "--batch-size", "8", "-params", "normalize:null")
    assert rows["batch_size"] == ("8", "command line")
    assert rows["n_steps"] == ("3", "hyperparams/qrdqn.yml atari")
    assert rows["batch_divisor"] == ("1", "class default")
    assert rows["n_envs"] == ("1", "run default")
    assert rows["normalize"] == ("null", "command line")
    assert rows["policy_kwargs.initializer"] == ("variance_scaling", "hyperparams/qrdqn.yml atari")
    assert rows["policy_kwargs.optimizer_kwargs.eps"] == ("0.0003125", "hyperparams/qrdqn.yml atari")


def test_a_suite_that_was_asked_for_is_an_origin(shown):
    rows = shown("--algo", "rainbow", "--env", "Breakout", "--suite", "atari100k")
    assert rows["atari_protocol"] == ("atari100k", "suite atari100k")
    assert rows["n_timesteps"] == ("100000", "suite atari100k")
    assert rows["n_steps"] == ("10", "hyperparams/rainbow.yml atari100k")
    # What the recipe prefers about its network is a default of the class.
    assert rows["policy_kwargs.noisy_sigma0"] == ("0.1", "class default")
    assert rows["policy_kwargs.optimizer_kwargs.eps"] == ("0.00015", "hyperparams/rainbow.yml atari100k")


def test_what_the_run_does_unasked_is_shown(shown):
    rows = shown("--algo", "ppo", "--env", "FrozenLake-v1", "-n", "100")
    assert rows["policy"] == ("(by the observations)", "run default")
    assert rows["atari_protocol"] == ("null", "run default")
    assert shown("--algo", "ppo", "--env", "Adventure", "-params", "policy:CnnPolicy")["atari_protocol"][0] == "sb3"


def test_values_are_shown_as_they_were_written(shown):
    rows = shown("--algo", "ppo", "--env", "CartPole-v1", "--abs", "16:64", "-params", "normalize:True")
    assert rows["learning_rate"] == ("lin_0.001", "hyperparams/ppo.yml CartPole-v1")
    assert rows["batch_size_callback"] == ("abs(16, 64)", "command line")
    assert rows["normalize"] == ("true", "command line")


def test_a_long_value_pushes_nobody_elses_origin_aside():
    settings = resolve("dqn", "CartPole-v1", {"policy_kwargs": {"net_arch": [64] * 20}})
    lines = show_settings(require_algorithm("dqn"), "CartPole-v1", settings).splitlines()
    long = [line for line in lines if line.startswith("policy_kwargs.net_arch")]
    assert len(long) == 1
    assert long[0].endswith(f"{[64] * 20}  command line")
    assert len({line.rindex("  ") for line in lines if line not in long}) == 1


def test_a_trained_agent_keeps_its_suite(capsys):
    assert main(["train", "--algo", "dqn", "--env", "Pong", "-i", "x.zip", "--suite", "atari100k"]) == 2
    assert "--suite: " in capsys.readouterr().err


def test_an_agent_that_goes_on_shows_the_settings_of_its_run(tmp_path, capsys):
    words = ["train", "--algo", "dqn", "--env", "CartPole-v1", "-f", str(tmp_path)]
    params = ["-params", "learning_starts:10", "train_freq:16", "gradient_steps:1", "buffer_size:100"]
    assert main([*words, "-n", "32", "--seed", "0", "--eval-freq", "-1", "--no-progress", *params]) == 0
    model = tmp_path / "dqn/CartPole-v1_1/CartPole-v1.zip"
    capsys.readouterr()
    assert main([*words, "-i", str(model), "--show-config", "-params", "gamma:0.5"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["gamma"] == ("0.5", "command line")
    assert rows["buffer_size"] == ("100", str(model.parent / "CartPole-v1/config.yml"))
    assert rows["tau"] == ("1.0", "class default")
    model.rename(tmp_path / "moved.zip")
    assert main([*words, "-i", str(tmp_path / "moved.zip"), "--show-config", "-params", "gamma:0.5"]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["gamma"] == ("0.5", "command line")
    assert "buffer_size" not in rows
    assert len(list((tmp_path / "dqn").iterdir())) == 1
