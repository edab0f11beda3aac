"""``sbbatch train`` as a user types it: what it leaves behind, and how it refuses."""

import os
import shutil
import signal
import subprocess

import compare as benchmark
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from run_tools import (
    PARAMS,
    REPOSITORY,
    cartpole,
    config,
    evaluations,
    interrupt_when,
    refusal,
    run_folder,
    start_script,
)

from sbbatch import DQN
from sbbatch.envs.make import canonical_id
from sbbatch.persistence.normalization import statistics_of
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.commands import cli, enjoy, train
from sbbatch.zoo.run import train as training
from sbbatch.zoo.run.build import save_model
from sbbatch.zoo.run.callbacks import StopRequest
from sbbatch.zoo.run.resume import find_replay_buffer


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"


def test_a_run_leaves_the_zoos_files(logs, capsys, pictures):
    pictures()
    assert cartpole(logs, eval_freq=100) == 0
    folder = run_folder(logs)
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    inner = {f"CartPole-v1/{name}" for name in (".lock", "args.yml", "command.txt", "config.yml")}
    outer = {"CartPole-v1.zip", "best_model.zip", "evaluations.npz", "progress.csv", "0.monitor.csv"}
    assert files == inner | outer | {"learning_curve.png", "learning_curve.pdf"}
    assert str(folder / "CartPole-v1.zip") in capsys.readouterr().out
    assert evaluations(folder)[0] == [100, 160]  # 150 rounded up to whole updates of 16 steps


def test_a_run_can_be_repeated_from_what_it_wrote_down(logs, dqn_run):
    assert cartpole(logs, eval_freq=60) == 0
    assert config(run_folder(logs)) == config(dqn_run)
    assert evaluations(run_folder(logs)) == evaluations(dqn_run)


def test_checkpoints_come_with_their_replay_buffer(dqn_run):
    model = dqn_run / "rl_model_64_steps.zip"
    assert model.exists()
    assert find_replay_buffer(model) == dqn_run / "rl_model_replay_buffer_64_steps.npz"
    assert find_replay_buffer(dqn_run / "best_model.zip") is None


def test_several_environments_are_counted_in_agent_steps(logs):
    assert cartpole(logs, "--n-envs", "4", eval_freq=50) == 0
    assert evaluations(run_folder(logs))[0][:2] == [52, 100]


def test_every_model_of_a_normalized_run_has_the_statistics_it_was_saved_with(logs):
    assert cartpole(logs, "--save-freq", "50", eval_freq=100, params=[*PARAMS, "normalize:True"]) == 0
    folder = run_folder(logs)
    names = ["rl_model_64_steps.zip", "best_model.zip", "CartPole-v1.zip"]
    counts = [float(np.load(statistics_of(folder / name))["obs..count"]) for name in names]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    words = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(logs), "--n-episodes", "1", "--no-render"]
    assert enjoy.main([*words, "--load-best"]) == 0


def test_an_atari_run_plays_whole_games_with_raw_rewards(logs):
    words = ["--algo", "qrdqn", "--env", "breakout", "-f", str(logs), "-n", "40", "--seed", "0", "--batch-size", "8"]
    limits = ["--eval-freq", "40", "--eval-episodes", "2", "--eval-max-steps", "30", "--num-threads", "1"]
    params = ["-params", "learning_starts:35", "buffer_size:1000", "policy_kwargs:{'n_quantiles': 20}"]
    assert train.main([*words, *limits, *params]) == 0
    folder = logs / "qrdqn" / "ALE-Breakout-v5_1"
    assert (folder / "ALE-Breakout-v5.zip").exists()
    settings = read_yaml(folder / "ALE-Breakout-v5" / "config.yml")
    assert (settings["batch_size"], settings["atari_protocol"]) == (8, "dopamine")
    with np.load(folder / "evaluations.npz") as arrays:
        assert arrays["ep_lengths"].tolist() == [[30, 30]]


@pytest.mark.parametrize("words", [["-n", "500"], ["-n", "1200"], ["-n", "300", "-params", "learning_starts:300"]])
def test_a_run_shorter_than_its_warm_up_gets_a_shorter_one(words, tmp_path, capsys):
    options = ["--algo", "dqn", "--env", "CartPole-v1", "--eval-freq", "-1", "-f", str(tmp_path)]
    assert train.main([*options, *words]) == 0
    n_timesteps = int(words[1])
    assert f"lowered to {n_timesteps // 10}" in capsys.readouterr().err
    folder = tmp_path / "dqn" / "CartPole-v1_1"
    assert read_yaml(folder / "CartPole-v1" / "config.yml")["learning_starts"] == n_timesteps // 10
    assert DQN.load(folder / "CartPole-v1.zip", device="cpu")._n_updates > 0


def test_a_warm_up_that_leaves_something_to_learn_in_stays(tmp_path, capsys):
    common = ["--algo", "dqn", "--env", "CartPole-v1", "-f", str(tmp_path)]
    for words, start in ((["-n", "2001"], 1000), (["-n", "300", "-params", "learning_starts:299"], 299)):
        assert train.read_request([*common, *words]).settings["learning_starts"].value == start
    assert capsys.readouterr().err == ""


def test_the_threads_of_one_run_are_not_those_of_the_next(tmp_path, monkeypatch):
    before, asked = th.get_num_threads(), []
    monkeypatch.setattr("sbbatch.zoo.run.train.fastest_threads", lambda model: asked.append(th.get_num_threads()) or 3)
    words = ["--algo", "dqn", "--env", "CartPole-v1", "--eval-freq", "-1", "-f", str(tmp_path), "-n", "100"]
    assert train.main([*words, "--seeds", "0:2"]) == 0
    assert asked == [before, before]
    assert train.main([*words, "--num-threads", "2"]) == 0
    assert th.get_num_threads() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--algo", "qrdnq"], "unknown algorithm 'qrdnq'; did you mean 'qrdqn'?"),
        (["--env", "CartPol-v1"], "did you mean 'CartPole-v1'?"),
        (["--env", "ALE/Breakuot-v5"], "did you mean 'ALE/Breakout-v5'?"),
        (["--batchsize", "3"], "unknown option '--batchsize'; did you mean '--batch-size'?"),
        (["--batch-size", "0"], "batch_size: got 0"),
        (["--batch-size", "sixteen"], "batch_size: got"),
        (["--batch-size", "8", "-params", "batch_size:9"], "batch_size is given twice"),
        (["--n-envs", "100000000"], "n_envs: got 100000000"),
        (["-n", "1e5"], "did you mean 100000?"),
        (["-params", "batch_size=16"], "did you mean batch_size:16?"),
        (["-params", "learning_strats:5"], "did you mean 'learning_starts'?"),
        (["-params", "buffer_size:1000000000000"], "buffer_size: got 1000000000000"),
        (["-params", "policy_kwargs:dict(net_arhc=[3])"], "did you mean 'net_arch'?"),
        (["-params", "learning_rate:lin_7"], "command line learning_rate: "),
        (["-params", "normalize:dict(gamma=7)"], "command line normalize gamma: got 7"),
        (["-params", "policy:MultiInputPolicy"], "expected a Dict"),
        (["-params", "replay_buffer_kwargs:dict(frame_compression='lz5')"], "did you mean 'lz4'?"),
        (["-params", "gradient_steps:0"], "command line gradient_steps: got 0"),
        (["-conf", "none.yml"], "no such file: none.yml"),
        (["-i", "none.zip"], "no such model file: none.zip"),
        (["--device", "meta"], "--device: got 'meta', on which PyTorch cannot"),
        (["--device", "cuda:99", "--strict-device"], "--device: got 'cuda:99', which is not here"),
        (["--seed", "4294967295"], "--seed: got 4294967295"),
        (["--num-threads", "100000"], "--num-threads: got 100000"),
        (["--protocol", "sb3"], "CartPole-v1 is no Atari game"),
        (["--env", "ALE/Pong-v5", "--protocol", "sb4"], "did you mean 'sb3'?"),
        (["--env", "Pendulum-v1", "-n", "300"], "Discrete"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_no_folder(logs, capsys, words, message):
    algo = [] if "--algo" in words else ["--algo", "dqn"]
    assert message in refusal(capsys, *algo, "-f", str(logs), *words)
    assert not logs.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training, "run_env", None)
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file, not a folder" in refusal(capsys, "--algo", "dqn", "-f", str(file))
    words = ["--algo", "dqn", "-f", str(tmp_path / "logs")]
    assert "with -tb" in refusal(capsys, *words, "-tb", str(file / "tb"))
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "model.zip"), "cannot open or write model.zip: No space left"),
        (MemoryError("Unable to allocate 1.46 TiB"), "out of memory (Unable to allocate 1.46 TiB)"),
        (ZeroDivisionError(), None),
    ],
)
def test_a_full_disk_or_memory_is_one_sentence_and_a_bug_a_traceback(capsys, error, message):
    @cli.guarded
    def broken(argv=None):
        raise error

    if message is None:
        with pytest.raises(ZeroDivisionError):
            broken([])
    else:
        assert message in refusal(capsys, main=lambda words: broken(words))


@pytest.mark.parametrize("option", ["-i", "-f", "-tb", "-conf"])
def test_a_name_that_is_too_long_is_one_sentence(capsys, option):
    assert "name" in refusal(capsys, "--algo", "dqn", option, "x" * 300)


def test_the_command_knows_its_sub_commands(capsys):
    assert cli.main([]) == 0
    assert "train" in capsys.readouterr().out
    assert "did you mean 'train'?" in refusal(capsys, "trian", main=cli.main)
    assert "did you mean 'qrdqn'?" in refusal(capsys, "train", "--algo", "qrdn", main=cli.main)


def test_environment_ids_have_one_spelling():
    assert canonical_id("BreakoutNoFrameskip-v4") == canonical_id("breakout") == "ALE/Breakout-v5"
    assert canonical_id("CartPole-v1") == "CartPole-v1"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_where_and_is_the_exit_code(logs, capsys, signum):
    interrupt_when(lambda: list(logs.glob("dqn/*/0.monitor.csv")), signum)  # which appears when learning begins
    assert cartpole(logs, n=1_000_000) == 128 + signum
    out = capsys.readouterr().out
    assert "stopped early" in out
    assert str(run_folder(logs) / "CartPole-v1.zip") in out
    assert (run_folder(logs) / "CartPole-v1.zip").exists()


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

    def draw(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_model", save)
    monkeypatch.setattr(train, "draw_pictures", draw)
    assert cartpole(logs) == 130
    captured = capsys.readouterr()
    assert f"last model: {run_folder(logs) / 'CartPole-v1.zip'}" in captured.out
    assert "stopped early" not in captured.out
    assert captured.err == "\ninterrupted\n"


def test_the_script_exits_with_2_and_without_a_traceback():
    process = start_script("--algo", "qrdnq")
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (2, "sbbatch: error: unknown algorithm 'qrdnq'; did you mean 'qrdqn'?\n")


def test_parameters_given_in_several_places_all_count(logs):
    assert cartpole(logs, "-params", "n_steps:3", "gamma:0.9") == 0
    written = config(run_folder(logs))
    assert (written["n_steps"], written["gamma"], written["train_freq"]) == (3, 0.9, 16)


@pytest.mark.parametrize("env_id", ["phys2d/CartPole-v1", "GymV26Environment-v0"])
def test_a_missing_package_is_named_however_it_shows(logs, capsys, env_id):
    try:
        gym.make(env_id)
    except ImportError:
        told = refusal(capsys, "--algo", "dqn", "--env", env_id, "-n", "300", "-f", str(logs))
        assert f"{env_id} needs a package that is not installed" in told


def test_a_benchmark_refuses_its_files_before_it_works(capsys):
    words = ["--only", "memory", "--transitions", "1000", "--json", "/dev/null/x.json"]
    assert "give another folder with --json" in refusal(capsys, *words, main=benchmark.main)


@pytest.mark.parametrize("broken_at", [0, 100])
def test_what_was_learned_outlives_a_bug_of_a_callback_or_an_environment(logs, monkeypatch, capsys, broken_at):
    def on_step(self):
        if self.num_timesteps > broken_at:
            return 1 // 0

    monkeypatch.setattr(DQN, "_on_step", on_step)
    with pytest.raises(ZeroDivisionError):
        cartpole(logs)
    model = run_folder(logs) / "CartPole-v1.zip"
    assert f"training failed at {broken_at + 1} agent steps; last good model: {model}" in capsys.readouterr().err
    assert DQN.load(model).num_timesteps == broken_at + 1


def test_a_half_made_virtual_environment_is_made_anew(tmp_path):
    def program(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    script = tmp_path / "scripts" / "venv.sh"
    script.parent.mkdir()
    shutil.copy(REPOSITORY / "scripts" / "venv.sh", script)
    for name in ("setup.cfg", "pyproject.toml"):
        (tmp_path / name).touch()
    program(tmp_path / ".venv/bin/python", "exit 1")
    program(tmp_path / "good", "exit 0")
    program(tmp_path / "python", '[ "$2" = venv ] && cp good .venv/bin/python; exit 0')
    environment = {**os.environ, "PYTHON": str(tmp_path / "python")}
    command = ["bash", str(script), "test"]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert "making .venv" in first
    assert second == ""
