"""PQN and PPO through the commands: what replay agents have and they do not, and everything else as for those."""

import numpy as np
import pytest
from run_tools import evaluations, refusal, run_folder

from sbbatch import ABS, PPO, PQN, BatchSizeSchedule, GradientNoiseScale
from sbbatch.networks.torsos import MinAtarCNN
from sbbatch.settings.reader import hyperparams_folder, read_yaml
from sbbatch.settings.resolution import read_parameters, resolve
from sbbatch.zoo.commands import enjoy, train

SHORT = ["--seed", "0", "--num-threads", "1", "--eval-episodes", "1", "--no-progress"]
SMALL = {
    "pqn": ["-params", "n_steps:8", "n_minibatches:4", "n_envs:4", "policy_kwargs:dict(net_arch=[16])"],
    "ppo": ["-params", "n_steps:8", "batch_size:16", "n_envs:4", "policy_kwargs:dict(net_arch=[16])"],
}


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"


@pytest.mark.parametrize("algo", ["pqn", "ppo"])
def test_a_run_is_trained_played_and_trained_further(logs, algo):
    words = ["--algo", algo, "--env", "CartPole-v1", "-f", str(logs), *SHORT, "-n", "150"]
    assert train.main([*words, *SMALL[algo], "--eval-freq", "80", "--save-freq", "96", "--log-interval", "2"]) == 0
    folder = run_folder(logs, algo=algo)
    names = {path.name for path in folder.iterdir()}
    assert {"CartPole-v1.zip", "best_model.zip", "0.monitor.csv", "rl_model_96_steps.zip"} <= names
    assert "batch_size.csv" not in names  # it is fixed
    assert evaluations(folder)[0] == [80, 160]
    lines = (folder / "progress.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 + 2  # five rollouts of 32 steps, two evaluations
    assert train.main([*words, "-i", str(folder / "CartPole-v1.zip"), "--eval-freq", "-1"]) == 0
    cls = {"pqn": PQN, "ppo": PPO}[algo]
    assert cls.load(run_folder(logs, 2, algo) / "CartPole-v1.zip").num_timesteps == 160 + 160
    play = ["--algo", algo, "--env", "CartPole-v1", "-f", str(logs), "--n-episodes", "1", "--no-render"]
    assert enjoy.main(play) == 0


def test_a_normalized_run_of_continuous_actions(logs):
    words = ["--algo", "ppo", "--env", "Pendulum-v1", "-f", str(logs), *SHORT, "-n", "64", "--eval-freq", "-1"]
    assert train.main([*words, *SMALL["ppo"], "normalize:True"]) == 0
    assert (logs / "ppo/Pendulum-v1_1/vecnormalize.npz").exists()
    play = ["--algo", "ppo", "--env", "Pendulum-v1", "-f", str(logs), "--n-episodes", "1", "--no-render"]
    assert enjoy.main(play) == 0


@pytest.mark.parametrize("env_id", ["MinAtar/Breakout-v1", "ALE/Breakout-v5"])
def test_pqn_plays_games_with_the_sections_network(logs, env_id):
    pytest.importorskip("minatar")
    words = ["--algo", "pqn", "--env", env_id, "-f", str(logs), *SHORT, "-n", "64", "--eval-freq", "-1"]
    assert train.main([*words, "--n-envs", "4", "--n-steps", "8"]) == 0
    name = env_id.replace("/", "-")
    model = PQN.load(logs / "pqn" / f"{name}_1" / f"{name}.zip")
    assert (model.policy_class.__name__, model.n_steps) == ("RolloutCnnPolicy", 8)
    assert isinstance(model.q_net.features_extractor, MinAtarCNN) == env_id.startswith("MinAtar")


def test_evaluations_of_pqn_are_greedy():
    model = PQN("MlpPolicy", "CartPole-v1", seed=0)
    model.policy.explore = None  # would be called
    observation = np.zeros((3, 4), np.float32)
    assert len({tuple(model.predict(observation, deterministic=True)[0]) for _ in range(5)}) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size", "16"], "PQN has no batch_size: a gradient step learns from n_steps * n_envs / n_minibatches"),
        (["-params", "batch_size:16"], "give --n-steps N, or -params n_minibatches:N"),
        (["--save-replay-buffer"], "--save-replay-buffer: pqn learns from rollouts and has none"),
        (["--n-steps", "7", "-params", "n_minibatches:64"], "command line n_steps: got 7, whose 224 samples"),
        (["--env", "Pendulum-v1", "-n", "64"], "Discrete"),
        (["--abs", "64:8"], "--abs: got '64:8', expected LOW:HIGH with 1 <= LOW <= HIGH, e.g. 16:64"),
        (["--abs", "x"], "--abs: got 'x', expected LOW:HIGH"),
        (["--abs", "-params", "batch_size_callback:abs"], "batch_size_callback is given twice"),
        (["-params", "batch_size_callback:abs(9, 8)"], "max_size: got 8, expected at least min_size = 9"),
        (["-params", "batch_size_callback:abs(lwo=3)"], "did you mean 'low'?"),
        (["-params", "batch_size_callback:ab(3)"], "did you mean 'abs'?"),
        (["-params", "batch_size_callback:abs(8, 9"], "cannot read 'abs(8, 9'"),
        (["-params", "batch_size_callback:schedule(8)"], "got one size 8, expected two"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_folder(logs, capsys, words, message):
    env = [] if "--env" in words else ["--env", "CartPole-v1"]
    assert message in refusal(capsys, "--algo", "pqn", *env, "-f", str(logs), *words)
    assert not logs.exists()


@pytest.mark.parametrize(
    ("algo", "words", "message"),
    [
        ("pqn", ["--abs", "7:9", "-params", "n_minibatches:64"], "ABS: min_size: got 7, expected a multiple of 2"),
        ("dqn", ["--abs", "8:3000", "-params", "buffer_size:2000"], "max_size: got 3000, expected at most buffer_size"),
    ],
)
def test_what_is_refused_when_training_starts_leaves_no_run(logs, capsys, algo, words, message):
    common = ["--algo", algo, "--env", "CartPole-v1", "-f", str(logs), *SHORT, "--verbose", "0"]
    assert message in refusal(capsys, *common, *words)
    assert not list(logs.glob("*/*"))


def test_a_callback_is_written_down_as_it_was_given_and_read_again(logs):
    for number, words in enumerate((["--abs", "8:16"], ["--abs"]), 1):
        common = ["--algo", "pqn", "--env", "CartPole-v1", "-f", str(logs), *SHORT, "-n", "64", "--eval-freq", "-1"]
        assert train.main([*common, *words, *SMALL["pqn"]]) == 0
        path = logs / f"pqn/CartPole-v1_{number}/CartPole-v1/config.yml"
        assert read_yaml(path)["batch_size_callback"] == ("abs(8, 16)" if len(words) == 2 else "abs")
        again = resolve("pqn", "CartPole-v1", run_file=path)["batch_size_callback"].value
        assert isinstance(again, ABS)
        assert (again.config()["min_size"], again.config()["max_size"]) == (
            (8, 16) if len(words) == 2 else (None, None)
        )


def callback(text):
    return resolve("pqn", "CartPole-v1", read_parameters([f"batch_size_callback:{text}"]))["batch_size_callback"].value


def test_callbacks_are_read_with_their_arguments():
    given = callback("abs(8, 64, check_every=5, low=0.05, kind=linear)").config()
    names = ("min_size", "max_size", "check_every", "low", "kind")
    assert [given[name] for name in names] == [8, 64, 5, 0.05, "linear"]
    noise, linear, piecewise = map(callback, ("noise_scale(16, 64)", "schedule(8, 128)", "schedule({0: 8, 0.5: 32})"))
    assert isinstance(noise, GradientNoiseScale)
    assert all(isinstance(one, BatchSizeSchedule) for one in (linear, piecewise))
    assert [linear.schedule(0.5), piecewise.schedule(0.5)] == [68, 32]
    assert callback("None") is None


def test_a_file_may_ask_for_an_adaptive_batch(tmp_path):
    path = tmp_path / "my.yml"
    path.write_text("CartPole-v1:\n  n_timesteps: 10\n  batch_size_callback: abs(8, 64, check_every=5, low=0.05)\n")
    assert resolve("pqn", "CartPole-v1", {}, path)["batch_size_callback"].value.config()["check_every"] == 5


TUNED = ["Hopper", "Humanoid", "HumanoidStandup", "Reacher", "Swimmer", "Walker2d"]
TUNED += ["InvertedDoublePendulum", "InvertedPendulum"]


@pytest.mark.parametrize("task", ["HalfCheetah", "Ant", "Pusher", *TUNED])
def test_mujoco_tasks_have_the_studys_settings(task):
    # For tasks with values of their own the study's are asked for.
    conf_file = hyperparams_folder() / "ppo_abs.yml" if task in TUNED else None
    settings = resolve("ppo", f"{task}-v5", {}, conf_file)
    assert (settings["vf_coef"].value, settings["clip_range_vf"].value) == (0.25, 0.2)
    assert settings["normalize"].value["clip_obs"] == 10.0
    assert settings["learning_rate"].value(0.5) == pytest.approx(1.5e-4)


@pytest.mark.parametrize("task", TUNED)
def test_tuned_mujoco_tasks_keep_nothing_of_the_studys_settings(task):
    settings = resolve("ppo", f"{task}-v5")
    from_study = {key for key, setting in settings.items() if setting.origin == "hyperparams/ppo.yml mujoco"}
    assert from_study == set()
    assert settings["normalize"].value == {}


def test_no_other_environment_has_mujocos_section():
    assert "normalize" not in resolve("ppo", "CartPole-v1")
    assert "normalize" not in resolve("ppo", "ALE/Pong-v5")
