"""Going on with a model: in the environment it was trained in, with its own statistics, and told truthfully."""

import os
import shutil
import subprocess
from pathlib import Path

import compare as benchmark
import numpy as np
import pytest

from sbbatch import DQN
from sbbatch.persistence.normalization import statistics_of
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.commands import enjoy, quickstart, record
from sbbatch.zoo.logs.folders import RunFolder
from sbbatch.zoo.play.scores import games_side_by_side
from sbbatch.zoo.run import train
from sbbatch.zoo.run.build import check_trained_in, make_env
from sbbatch.zoo.run.request import read_request

SHORT = ["--algo", "dqn", "-n", "200", "--seed", "0", "--num-threads", "1", "--eval-episodes", "1"]
PARAMS = ["-params", "learning_starts:100", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]
NORMALIZED = [*SHORT, *PARAMS, "normalize:True", "gamma:0.5", "frame_stack:2"]


def refusal(capsys, *words):
    assert train.main(list(words)) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def config(logs, number, env="CartPole-v1"):
    return read_yaml(logs / "dqn" / f"{env}_{number}" / env / "config.yml")


@pytest.fixture(scope="module")
def normalized(tmp_path_factory):
    """A run with settings that no packaged file has."""
    logs = tmp_path_factory.mktemp("logs")
    assert train.main([*NORMALIZED, "-f", str(logs), "--save-freq", "100", "--eval-freq", "150"]) == 0
    return logs


@pytest.fixture(scope="module")
def pong(tmp_path_factory):
    """A run under another protocol than the algorithm's."""
    logs = tmp_path_factory.mktemp("logs")
    words = ["--env", "Pong", "--protocol", "atari100k", "--eval-freq", "-1", "-f", str(logs)]
    params = [*PARAMS[:-1], "buffer_size:500", "gradient_steps:1"][:-1]
    assert train.main([*SHORT, *words, *params]) == 0
    return logs / "dqn/ALE-Pong-v5_1/ALE-Pong-v5.zip"


def test_a_run_goes_on_with_its_own_settings_and_writes_them_down(normalized):
    model = normalized / "dqn/CartPole-v1_1/CartPole-v1.zip"
    words = ["--algo", "dqn", "-n", "50", "-f", str(normalized), "-i", str(model), "-params", "batch_size:16"]
    assert train.main([*words, "--eval-freq", "-1"]) == 0
    assert config(normalized, 2) == {**config(normalized, 1), "n_timesteps": 50, "batch_size": 16}
    loaded = DQN.load(normalized / "dqn/CartPole-v1_2/CartPole-v1.zip")
    assert (loaded.gamma, loaded.batch_size, loaded.num_timesteps) == (0.5, 16, 208 + 64)


def test_a_model_without_its_run_claims_no_hyperparameters_it_does_not_have(tmp_path):
    words = [*SHORT, "-f", str(tmp_path), "--eval-freq", "-1"]
    assert train.main([*words, *PARAMS, "gamma:0.5"]) == 0
    stray = shutil.copy(tmp_path / "dqn/CartPole-v1_1/CartPole-v1.zip", tmp_path / "stray.zip")
    assert train.main([*words, "-i", str(stray)]) == 0
    assert config(tmp_path, 2) == {"n_timesteps": 200}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-params", "policy_kwargs:dict(net_arch=[3])"], "a trained agent keeps its network; remove policy_kwargs"),
        (["-params", "normalize:False"], "normalize: got None, but the agent was trained with {}"),
        (["-conf", "my.yml"], "remove -conf"),
    ],
)
def test_what_a_trained_agent_cannot_change_is_refused(normalized, capsys, more, message):
    model = normalized / "dqn/CartPole-v1_1/CartPole-v1.zip"
    assert message in refusal(capsys, *SHORT, "-f", str(normalized / "new"), "-i", str(model), *more)
    assert not (normalized / "new").exists()


def test_an_atari_run_goes_on_under_its_own_protocol_only(pong, capsys):
    words = [*SHORT, "--env", "Pong", "-i", str(pong)]
    assert read_request(words).settings["atari_protocol"].value == "atari100k"
    message = "--protocol: got 'sb3', but the agent was trained with 'atari100k'"
    assert message in refusal(capsys, *words, "--protocol", "sb3")
    read_request([*words, "--protocol", "atari100k"])


def test_a_recording_shows_the_runs_own_protocol_unless_told_otherwise(pong, monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(record, "record", lambda *_, protocol, **__: (seen.append(protocol), (0.0, 1))[1])
    words = ["--algo", "dqn", "--env", "Pong", "-i", str(pong)]
    stray = shutil.copy(pong, tmp_path / "stray.zip")
    assert [record.main([*words, *more]) for more in ([], ["--protocol", "btr"], ["-i", str(stray)])] == [0] * 3
    assert seen == ["atari100k", "btr", "atari100k"]


def test_a_model_without_its_run_goes_on_under_the_protocol_it_was_trained_with(pong, capsys, tmp_path):
    stray = shutil.copy(pong, tmp_path / "stray.zip")
    words = [*SHORT, "--env", "Pong", "-i", str(stray)]
    assert read_request(words).settings["atari_protocol"].value == "atari100k"
    message = "--protocol: got 'sb3', but the agent was trained with 'atari100k'"
    assert message in refusal(capsys, *words, "--protocol", "sb3")
    assert DQN.load(stray, env="Pong").get_env().unwrapped.protocol.name == "atari100k"


def test_a_model_is_played_in_its_own_environment_only(pong, capsys, tmp_path):
    common = ["--algo", "dqn", "--env", "Amidar"]
    run = shutil.copytree(pong.parent, tmp_path / "dqn/ALE-Amidar-v5_1")
    shutil.move(run / "ALE-Pong-v5", run / "ALE-Amidar-v5")
    shutil.move(run / "ALE-Pong-v5.zip", run / "ALE-Amidar-v5.zip")
    model = str(run / "ALE-Amidar-v5.zip")
    for main, more in (
        (enjoy.main, ["-f", str(tmp_path)]),
        (record.main, ["-i", model, "-o", str(tmp_path / "a.gif")]),
        (train.main, ["-n", "200", "-f", str(tmp_path / "new"), "-i", model]),
    ):
        assert main([*common, *more]) == 2
        assert "was trained in ALE/Pong-v5, not in ALE/Amidar-v5; give --env ALE/Pong-v5" in capsys.readouterr().err
    check_trained_in("PongNoFrameskip-v4", "ALE/Pong-v5", "a name of another time")


def test_every_model_has_the_statistics_it_was_saved_with(normalized):
    folder = normalized / "dqn/CartPole-v1_1"
    names = ["rl_model_112_steps.zip", "best_model.zip", "CartPole-v1.zip"]
    counts = [float(np.load(statistics_of(folder / name))["obs..count"]) for name in names]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert len({statistics_of(folder / name) for name in names}) == 3


def test_normalized_stacks_are_trained_on_and_played(normalized, capsys):
    env = make_env("CartPole-v1", normalize={}, frame_stack=2)
    best = ["--exp-id", "1", "--load-best"]
    assert env.reset().shape == env.get_original_obs().shape == (1, 8)
    assert enjoy.main(["--algo", "dqn", "--env", "CartPole-v1", "-f", str(normalized), "--n-episodes", "2", *best]) == 0
    assert "2 episodes" in capsys.readouterr().out


def test_an_atari_evaluation_plays_each_game_in_a_slot_of_its_own():
    assert [games_side_by_side("ALE/Pong-v5", n) for n in (5, 100, 200)] == [5, 100, 128]
    assert games_side_by_side("ALE/Pong-v5", 100, 7) == 7
    assert games_side_by_side("CartPole-v1", 5) == 1


def test_a_kill_while_evaluations_are_written_leaves_the_earlier_ones(tmp_path, monkeypatch):
    real, calls = np.savez, []

    def killed(file, **arrays):
        calls.append(arrays)
        if len(calls) > 1:
            file.write(b"half")
            raise KeyboardInterrupt
        real(file, **arrays)

    monkeypatch.setattr("sbbatch.zoo.run.evaluation.np.savez", killed)
    train.main([*SHORT, *PARAMS, "-f", str(tmp_path), "--eval-freq", "100"])
    assert len(calls) > 1
    with np.load(tmp_path / "dqn/CartPole-v1_1/evaluations.npz") as arrays:
        assert arrays["timesteps"].tolist() == [100]


def test_a_short_warm_up_is_told_in_one_line(tmp_path, capsys):
    words = [*SHORT, *PARAMS, "-f", str(tmp_path), "--eval-freq", "-1"]
    words[words.index("learning_starts:100")] = "learning_starts:20"
    assert train.main(words) == 0
    warning = "sbbatch: warning: learning_starts 20 < batch_size 64: the first batches repeat the same transitions\n"
    assert capsys.readouterr().err == warning


def test_a_run_that_is_longer_than_asked_by_its_first_update_says_so(tmp_path, capsys):
    words = [*SHORT, *PARAMS, "-f", str(tmp_path), "--eval-freq", "-1"]
    words[words.index("train_freq:16")] = "train_freq:2100"
    assert train.main(words) == 0
    assert capsys.readouterr().err == (
        "sbbatch: warning: train_freq 2100 > n_timesteps 200: the run goes on until its first update\n"
    )


def test_the_quickstart_plays_its_own_run_and_not_the_latest(tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    def open_run(run, *_):
        raise Reached(run)

    mine = RunFolder(tmp_path, "ALE-RoadRunner-v5")
    monkeypatch.setattr(train, "run", lambda request: (0, mine))
    monkeypatch.setattr(quickstart, "agent_of_run", open_run)
    with pytest.raises(Reached) as caught:
        quickstart.main(["-f", str(tmp_path)])
    assert caught.value.args == (mine,)


def test_a_half_made_virtual_environment_is_made_anew(tmp_path):
    def program(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    script = tmp_path / "scripts" / "venv.sh"
    script.parent.mkdir()
    shutil.copy(Path(train.__file__).parents[3] / "scripts" / "venv.sh", script)
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


def test_the_memory_benchmark_counts_transitions(monkeypatch):
    seen = []
    monkeypatch.setattr(benchmark, "memory", lambda *args: seen.append(args[2]) or {})
    assert benchmark.main(["--only", "memory", "--transitions", "1234"]) == 0
    assert seen == [1234]
