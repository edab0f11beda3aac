"""The commands as a user types them: what they leave behind, and how they refuse."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import compare as benchmark
import gymnasium as gym
import numpy as np
import pytest

from sbbatch import DQN
from sbbatch.envs.make import canonical_id
from sbbatch.errors import UserError
from sbbatch.persistence.normalization import load_normalization, save_normalization
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.commands import cli, enjoy
from sbbatch.zoo.play.scores import play_at_random
from sbbatch.zoo.run import assemble, train
from sbbatch.zoo.run.build import make_env, save_model
from sbbatch.zoo.run.callbacks import StopRequest

REPOSITORY = Path(train.__file__).parents[2]

SHORT = ["-n", "300", "--seed", "3", "--eval-episodes", "1", "--num-threads", "1"]
PARAMS = ["-params", "learning_starts:100", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"


def cartpole(logs, *more, algo="dqn"):
    words = ["--algo", algo, "--env", "CartPole-v1", "-f", str(logs), *SHORT, "--eval-freq", "150", *more]
    return train.main([*words, *PARAMS] if "-params" not in more else words)


def refusal(capsys, main, *words):
    assert main(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("sbbatch: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize("algo", ["dqn", "qrdqn"])
def test_a_run_leaves_the_zoos_files(logs, algo, capsys):
    assert cartpole(logs, algo=algo) == 0
    folder = logs / algo / "CartPole-v1_1"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    inner = {f"CartPole-v1/{name}" for name in (".lock", "args.yml", "command.txt", "config.yml")}
    outer = {"CartPole-v1.zip", "best_model.zip", "evaluations.npz", "progress.csv", "0.monitor.csv"}
    assert files == inner | outer | {"learning_curve.png"}
    assert str(folder / "CartPole-v1.zip") in capsys.readouterr().out
    with np.load(folder / "evaluations.npz") as arrays:
        assert arrays["timesteps"][0] == 150
        assert arrays["timesteps"][-1] == 304  # 300 rounded up to whole updates of 16 steps


def test_a_run_can_be_repeated_from_what_it_wrote_down(logs):
    assert cartpole(logs) == 0
    assert cartpole(logs) == 0
    inner = "CartPole-v1/config.yml"
    assert read_yaml(logs / "dqn/CartPole-v1_1" / inner) == read_yaml(logs / "dqn/CartPole-v1_2" / inner)
    first, second = (np.load(logs / f"dqn/CartPole-v1_{n}/evaluations.npz") for n in (1, 2))
    assert first["results"].tolist() == second["results"].tolist()


def test_a_model_goes_on_where_it_ended(logs, capsys):
    assert cartpole(logs, "--save-replay-buffer") == 0
    model = logs / "dqn/CartPole-v1_1/CartPole-v1.zip"
    assert cartpole(logs, "-i", str(model), "-params", "train_freq:16") == 0
    assert "replay_buffer.npz" in capsys.readouterr().out
    with np.load(logs / "dqn/CartPole-v1_2/evaluations.npz") as arrays:
        assert arrays["timesteps"][0] == 304 + 150


def test_a_model_of_another_algorithm_or_environment_is_refused(logs, capsys, tmp_path):
    assert cartpole(logs) == 0
    model = logs / "dqn/CartPole-v1_1/CartPole-v1.zip"
    capsys.readouterr()
    common = ["-n", "300", "-f", str(logs), "-i", str(model)]
    assert "QRDQN" in refusal(capsys, train.main, "--algo", "qrdqn", "--env", "CartPole-v1", *common)
    refusal(capsys, train.main, "--algo", "dqn", "--env", "Acrobot-v1", *common)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(model.read_bytes()[:5000])
    common[-1] = str(cut)
    assert "truncated" in refusal(capsys, train.main, "--algo", "dqn", "--env", "CartPole-v1", *common)
    assert not (logs / "qrdqn").exists()


def test_checkpoints_come_with_their_replay_buffer(logs):
    assert cartpole(logs, "--save-freq", "120", "--save-replay-buffer", "--eval-freq", "-1") == 0
    folder = logs / "dqn/CartPole-v1_1"
    model = folder / "rl_model_128_steps.zip"
    assert model.exists()
    assert train.find_replay_buffer(model) == folder / "rl_model_replay_buffer_128_steps.npz"
    assert train.find_replay_buffer(folder / "best_model.zip") is None
    assert not (folder / "evaluations.npz").exists()


def test_several_environments_are_counted_in_agent_steps(logs):
    assert cartpole(logs, "--n-envs", "4", "--eval-freq", "100") == 0
    with np.load(logs / "dqn/CartPole-v1_1/evaluations.npz") as arrays:
        assert arrays["timesteps"].tolist()[:3] == [100, 200, 300]


def test_a_normalized_run_is_played_with_its_own_statistics(logs, capsys):
    more = ["-params", "normalize:True", *PARAMS[1:]]
    assert cartpole(logs, *more) == 0
    folder = logs / "dqn/CartPole-v1_1"
    assert (folder / "vecnormalize.npz").exists()
    assert (folder / "best_vecnormalize.npz").exists()
    assert (
        enjoy.main(["--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), "--n-episodes", "2", "--load-best"]) == 0
    )
    assert "2 episodes" in capsys.readouterr().out


def test_statistics_survive_saving_and_refuse_other_files(tmp_path):
    env = make_env("CartPole-v1", seed=0, normalize={})
    env.reset()
    for _ in range(5):
        env.step([0])
    save_normalization(tmp_path / "v.npz", env)
    fresh = make_env("CartPole-v1", normalize={}, training=False)
    load_normalization(tmp_path / "v.npz", fresh)
    assert fresh.obs_rms.mean.tolist() == env.obs_rms.mean.tolist()
    (tmp_path / "v.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="not the statistics"):
        load_normalization(tmp_path / "v.npz", fresh)


def test_a_trained_agent_is_found_again_and_played(logs, capsys):
    assert cartpole(logs) == 0
    for more in ([], ["--load-best"], ["--exp-id", "1"]):
        assert enjoy.main(["--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), "--n-episodes", "2", *more]) == 0
    assert "2 episodes" in capsys.readouterr().out
    assert "run 4" in refusal(
        capsys, enjoy.main, "--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), "--exp-id", "4"
    )


def test_an_atari_run_plays_whole_games_with_raw_rewards(logs, capsys):
    words = ["--algo", "qrdqn", "--env", "breakout", "-f", str(logs), "-n", "200", "--seed", "0", "--batch-size", "8"]
    limits = ["--eval-freq", "200", "--eval-episodes", "2", "--eval-max-steps", "30", "--num-threads", "1"]
    params = ["-params", "learning_starts:190", "buffer_size:1000", "policy_kwargs:{'n_quantiles': 20}"]
    assert train.main([*words, *limits, *params]) == 0
    folder = logs / "qrdqn" / "ALE-Breakout-v5_1"
    assert (folder / "ALE-Breakout-v5.zip").exists()
    config = read_yaml(folder / "ALE-Breakout-v5" / "config.yml")
    assert (config["batch_size"], config["atari_protocol"]) == (8, "dopamine")
    with np.load(folder / "evaluations.npz") as arrays:
        assert arrays["ep_lengths"].tolist() == [[30, 30]]


def test_a_random_player_is_repeatable():
    first, second = (play_at_random("CartPole-v1", n_episodes=3, seed=5) for _ in range(2))
    assert first == second
    assert len(first) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--algo", "qrdnq"], "unknown algorithm 'qrdnq'; did you mean 'qrdqn'?"),
        (["--env", "CartPol-v1"], "did you mean 'CartPole-v1'?"),
        (["--env", "ALE/Breakuot-v5"], "did you mean 'ALE/Breakout-v5'?"),
        (["--env", "pongg"], "did you mean 'pong'?"),
        (["--env", "Pongg"], "did you mean 'ALE/Pong-v5'?"),
        (["--env", "nothing-like-it"], "expected an id such as"),
        (["--batchsize", "3"], "unknown option '--batchsize'; did you mean '--batch-size'?"),
        (["--batch-size", "0"], "batch_size: got 0, expected an int >= 1"),
        (["--batch-size", "-4"], "batch_size: got -4, expected an int >= 1"),
        (["--batch-size", "16.5"], "batch_size: got float 16.5, expected an int"),
        (["--batch-size", "sixteen"], "batch_size: got str 'sixteen', expected an int"),
        (["--batch-size", "200000"], "batch_size: got 200000"),
        (["--batch-size", "8", "-params", "batch_size:9"], "batch_size is given twice"),
        (["--n-steps", "0"], "n_steps: got 0, expected an int >= 1"),
        (["--n-envs", "0"], "n_envs: got 0, expected an int >= 1"),
        (["--n-envs", "100000000"], "n_envs: got 100000000, expected an int between 1 and 16384"),
        (["--n-envs", "513", "--vec-env", "subproc"], "n_envs: got 513, expected an int between 1 and 512"),
        (["-n", "0"], "got 0, expected an int >= 1 or -1"),
        (["-n", "1e5"], "did you mean 100000?"),
        (["-n", "500"], "learning_starts 1000 >= n_timesteps 500: no update would happen"),
        (["--eval-episodes", "0"], "--eval-episodes: got 0"),
        (["-params", "batch_size=16"], "did you mean batch_size:16?"),
        (["-params", "learning_strats:5"], "did you mean 'learning_starts'?"),
        (["-params", "buffer_size:1000000000000"], "buffer_size: got 1000000000000"),
        (["-params", "policy_kwargs:dict(net_arhc=[3])"], "did you mean 'net_arch'?"),
        (["-conf", "none.yml"], "no such file: none.yml"),
        (["-i", "none.zip"], "no such model file: none.zip"),
        (["-params", "gradient_steps:0"], "command line gradient_steps: got 0, so that no update would happen"),
        (["-params", "tau:0"], "command line tau: got 0, so that the target network would never change"),
        (["--device", "gpu!"], "--device: got 'gpu!', on which PyTorch cannot compute here; expected auto, cpu"),
        (["--device", "meta"], "--device: got 'meta', on which PyTorch cannot"),
        (["--device", "cuda:99"], "--device: got 'cuda:99', on which PyTorch cannot"),
        (["--seed", "4294967295"], "--seed: got 4294967295, expected an int between 0 and 2147483647 or -1"),
        (["--protocol", "sb3"], "CartPole-v1 is no Atari game"),
        (["--env", "ALE/Pong-v5", "--protocol", "sb4"], "did you mean 'sb3'?"),
        (["--env", "ALE/Pong-v5", "-params", "frame_stack:3"], "frame_stack: got 3"),
        (["--env", "Pendulum-v1", "-n", "300"], "Discrete"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_folder(logs, capsys, words, message):
    algo = [] if "--algo" in words else ["--algo", "dqn"]
    assert message in refusal(capsys, train.main, *algo, "-f", str(logs), *words)
    assert not logs.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(assemble, "run_env", None)
    file = tmp_path / "file"
    file.write_text("")
    words = ["--algo", "dqn", "-f", str(tmp_path / "logs")]
    assert "is a file, not a folder" in refusal(capsys, train.main, "--algo", "dqn", "-f", str(file))
    assert "with -tb" in refusal(capsys, train.main, *words, "-tb", str(file / "tb"))
    assert list(tmp_path.iterdir()) == [file]


def test_a_bug_keeps_its_traceback():
    @cli.guarded
    def broken(argv=None):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken([])


def test_a_full_disk_is_one_sentence(capsys):
    @cli.guarded
    def full(argv=None):
        raise OSError(28, "No space left on device", "model.zip")

    assert full([]) == 2
    assert "cannot write model.zip: No space left on device" in capsys.readouterr().err


def test_a_full_memory_is_one_sentence(capsys):
    @cli.guarded
    def full(argv=None):
        raise MemoryError("Unable to allocate 1.46 TiB")

    assert full([]) == 2
    assert capsys.readouterr().err == (
        "sbbatch: error: the memory is full (Unable to allocate 1.46 TiB); ask for less at once\n"
    )


@pytest.mark.parametrize("option", ["-i", "-f", "-tb", "-conf"])
def test_a_name_that_is_too_long_is_one_sentence(capsys, option):
    assert "name" in refusal(capsys, train.main, "--algo", "dqn", option, "x" * 300)


def test_the_command_knows_its_sub_commands(capsys):
    assert cli.main([]) == 0
    assert "train" in capsys.readouterr().out
    assert "did you mean 'train'?" in refusal(capsys, cli.main, "trian")
    assert "did you mean 'qrdqn'?" in refusal(capsys, cli.main, "train", "--algo", "qrdn")


def test_environment_ids_have_one_spelling():
    assert canonical_id("BreakoutNoFrameskip-v4") == canonical_id("breakout") == "ALE/Breakout-v5"
    assert canonical_id("CartPole-v1") == "CartPole-v1"


def test_ctrl_c_saves_says_where_and_exits_with_130(logs, capsys):
    def interrupt():
        # The run's monitor file appears when learning begins.
        while not list(logs.glob("dqn/*/0.monitor.csv")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert cartpole(logs, "-n", "1000000", "--eval-freq", "-1") == 130
    out = capsys.readouterr().out
    assert "stopped early" in out
    assert str(logs / "dqn/CartPole-v1_1/CartPole-v1.zip") in out
    assert (logs / "dqn/CartPole-v1_1/CartPole-v1.zip").exists()


def test_a_second_ctrl_c_interrupts_at_once_but_only_where_nothing_is_saved():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.exit_code == 130
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt), stop.interruptible():
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_no_ctrl_c_takes_the_last_model_or_its_path(logs, capsys, monkeypatch):
    def save(model, path):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        save_model(model, path)

    def draw(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "save_model", save)
    monkeypatch.setattr(train, "plot_run", draw)
    assert cartpole(logs, "--eval-freq", "-1") == 130
    captured = capsys.readouterr()
    assert f"last model: {logs / 'dqn/CartPole-v1_1/CartPole-v1.zip'}" in captured.out
    assert "stopped early" not in captured.out
    assert captured.err == "\ninterrupted\n"


def run_script(*words):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    script = [sys.executable, str(REPOSITORY / "scripts" / "train.py")]
    return subprocess.run([*script, *words], env=environment, capture_output=True, text=True, timeout=120)


def test_the_script_exits_with_2_and_without_a_traceback():
    done = run_script("--algo", "qrdnq")
    assert done.returncode == 2
    assert done.stderr == "sbbatch: error: unknown algorithm 'qrdnq'; did you mean 'qrdqn'?\n"


def test_sigterm_saves_as_well(tmp_path):
    logs = tmp_path / "logs"
    words = ["--algo", "dqn", "-f", str(logs), "-n", "1000000", "--eval-freq", "-1", *PARAMS]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    script = str(REPOSITORY / "scripts" / "train.py")
    process = subprocess.Popen([sys.executable, script, *words], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not list(logs.glob("dqn/*/0.monitor.csv")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 143
    assert (logs / "dqn/CartPole-v1_1/CartPole-v1.zip").exists()


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("learning_rate:lin_7", "command line learning_rate: at the progress remaining 1: got 7.0"),
        ("importance_exponent:lin_7", "command line importance_exponent: at the progress remaining 1: got 7.0"),
        ("stats_window_size:0", "command line stats_window_size: got 0, expected an int between 1 and 2147483647"),
        ("priority_exponent:-1", "command line priority_exponent: got -1"),
        ("normalize:dict(gamma=7)", "command line normalize gamma: got 7"),
        ("policy:MultiInputPolicy", "MultiInputPolicy: got observations Box(4,) of float32, expected a Dict"),
        ("policy_kwargs:dict(net_arch=[-5])", "command line policy_kwargs: net_arch[0]: got -5"),
        (
            "policy_kwargs:dict(optimizer_kwargs=dict(ep=1))",
            "command line policy_kwargs: optimizer_kwargs: unknown key",
        ),
        ("replay_buffer_kwargs:dict(n_envs=3)", "command line replay_buffer_kwargs: 'n_envs' is set by the agent"),
        ("replay_buffer_kwargs:dict(frame_compression='lz5')", "frame_compression: got 'lz5'; did you mean 'lz4'?"),
    ],
)
def test_what_the_constructor_refuses_is_one_sentence_with_its_origin(logs, capsys, parameter, message):
    words = ["--algo", "dqn", "--env", "CartPole-v1", "-n", "3000", "-f", str(logs), "-params", parameter]
    assert message in refusal(capsys, train.main, *words)


def test_parameters_given_in_several_places_all_count(logs, capsys):
    cartpole(logs, "-params", "n_steps:3", "learning_starts:100", "-params", "gamma:0.9", *PARAMS[2:])
    config = read_yaml(logs / "dqn" / "CartPole-v1_1" / "CartPole-v1" / "config.yml")
    assert (config["n_steps"], config["gamma"]) == (3, 0.9)


@pytest.mark.parametrize("damage", ["cut", "array", "shape", "nan"])
def test_damaged_statistics_are_refused_and_change_nothing(tmp_path, damage):
    env = make_env("CartPole-v1", normalize={})
    env.obs_rms.update(np.ones((5, 4)))
    save_normalization(tmp_path / "v.npz", env)
    arrays = dict(np.load(tmp_path / "v.npz"))
    key = next(name for name in arrays if name.startswith("obs") and name.endswith("mean"))
    arrays[key] = np.zeros(7) if damage == "shape" else np.full(4, np.nan)
    if damage == "cut":
        (tmp_path / "v.npz").write_bytes((tmp_path / "v.npz").read_bytes()[:300])
    elif damage == "array":
        with (tmp_path / "v.npz").open("wb") as file:
            np.save(file, np.zeros(4))
    else:
        np.savez(tmp_path / "v.npz", **arrays)
    fresh = make_env("CartPole-v1", normalize={})
    with pytest.raises(UserError, match="not the statistics of this normalized environment"):
        load_normalization(tmp_path / "v.npz", fresh)
    assert fresh.ret_rms.count == make_env("CartPole-v1", normalize={}).ret_rms.count


@pytest.mark.parametrize("env_id", ["phys2d/CartPole-v1", "GymV26Environment-v0"])
def test_a_missing_package_is_named_however_it_shows(logs, capsys, env_id):
    try:
        gym.make(env_id)
    except ImportError:
        told = refusal(capsys, train.main, "--algo", "dqn", "--env", env_id, "-n", "300", "-f", str(logs))
        assert f"{env_id} needs a package that is not installed" in told


def test_too_many_threads_are_refused(logs, capsys):
    told = refusal(capsys, train.main, "--env", "CartPole-v1", "-f", str(logs), "--num-threads", "1" + 20 * "0")
    assert "expected an int between 1 and 1024 or -1" in told


@pytest.mark.parametrize("words", [["--model", "nosuch"], ["--json", "/dev/null/x.json"]])
def test_a_benchmark_refuses_its_files_before_it_works(capsys, words):
    told = refusal(capsys, benchmark.main, "--only", "memory", "--transitions", "1000", *words)
    assert "nosuch" in told or "give another folder with --json" in told


@pytest.mark.parametrize("broken_at", [0, 150])
def test_what_was_learned_outlives_a_bug_of_a_callback_or_an_environment(logs, monkeypatch, capsys, broken_at):
    def on_step(self):
        if self.num_timesteps > broken_at:
            return 1 // 0

    monkeypatch.setattr(DQN, "_on_step", on_step)
    with pytest.raises(ZeroDivisionError):
        cartpole(logs, "--eval-freq", "-1")
    model = logs / "dqn/CartPole-v1_1/CartPole-v1.zip"
    assert f"training broke off at {broken_at + 1} agent steps; last good model: {model}" in capsys.readouterr().err
    assert DQN.load(model).num_timesteps == broken_at + 1
