"""``-i``: a model is trained further in its own environment, with its own settings and statistics."""

import shutil

import pytest
from run_tools import PARAMS, SHORT, cartpole, config, episode_lengths, evaluations, refusal, run_folder

from sbbatch import DQN
from sbbatch.zoo.commands import enjoy, quickstart, record, train
from sbbatch.zoo.commands.train import read_request
from sbbatch.zoo.logs.folders import RunFolder
from sbbatch.zoo.run.build import check_trained_in, make_env


@pytest.fixture(scope="module")
def normalized(tmp_path_factory):
    """A run with settings that no packaged file has."""
    logs = tmp_path_factory.mktemp("logs")
    assert cartpole(logs, params=[*PARAMS, "normalize:True", "gamma:0.5", "frame_stack:2"]) == 0
    return run_folder(logs)


@pytest.fixture(scope="module")
def pong(tmp_path_factory):
    """A run under another protocol than the algorithm's."""
    logs = tmp_path_factory.mktemp("logs")
    words = ["--env", "Pong", "--protocol", "atari100k", "--eval-freq", "-1", "-f", str(logs), "-n", "80"]
    assert train.main([*SHORT, *words, *PARAMS[:-1], "buffer_size:500"]) == 0
    return logs / "dqn/ALE-Pong-v5_1/ALE-Pong-v5.zip"


def test_a_model_is_trained_further_with_its_replay_buffer_in_new_episodes(tmp_path, dqn_run, capsys):
    model = str(dqn_run / "CartPole-v1.zip")
    assert cartpole(tmp_path, "-i", model, eval_freq=100, params=["-params", "train_freq:16"]) == 0
    assert "replay_buffer.npz" in capsys.readouterr().out
    assert evaluations(run_folder(tmp_path))[0][0] == 160 + 100
    assert episode_lengths(run_folder(tmp_path))[:3] != episode_lengths(dqn_run)[:3]


def test_a_run_keeps_its_own_settings_and_writes_them_down(normalized, tmp_path):
    model = normalized / "CartPole-v1.zip"
    words = ["-i", str(model), "-params", "batch_size:16"]
    assert train.main(["--algo", "dqn", "-n", "50", "-f", str(tmp_path), "--eval-freq", "-1", *words]) == 0
    assert config(run_folder(tmp_path)) == {**config(normalized), "n_timesteps": 50, "batch_size": 16}
    loaded = DQN.load(run_folder(tmp_path) / "CartPole-v1.zip")
    assert (loaded.gamma, loaded.batch_size, loaded.num_timesteps) == (0.5, 16, 160 + 64)


def test_a_model_without_its_run_claims_no_hyperparameters_it_does_not_have(tmp_path, dqn_run):
    stray = shutil.copy(dqn_run / "CartPole-v1.zip", tmp_path / "stray.zip")
    assert cartpole(tmp_path, "-i", str(stray), params=[]) == 0
    assert config(run_folder(tmp_path)) == {"n_timesteps": 150}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-params", "policy_kwargs:dict(net_arch=[3])"], "a trained agent keeps its network; remove policy_kwargs"),
        (["-params", "normalize:False"], "normalize: got None, but the agent was trained with {}"),
        (["-conf", "my.yml"], "remove -conf"),
        (["--suite", "mujoco"], "remove --suite"),
        (["--algo", "qrdqn"], "QRDQN"),
        (["--env", "Acrobot-v1"], "was trained in CartPole-v1"),
    ],
)
def test_what_a_trained_agent_cannot_change_is_refused(normalized, capsys, tmp_path, more, message):
    model = normalized / "CartPole-v1.zip"
    assert message in refusal(capsys, *SHORT, "-n", "200", "-f", str(tmp_path / "new"), "-i", str(model), *more)
    assert not (tmp_path / "new").exists()


def test_a_damaged_model_is_refused(dqn_run, capsys, tmp_path):
    cut = tmp_path / "cut.zip"
    cut.write_bytes((dqn_run / "CartPole-v1.zip").read_bytes()[:2000])
    assert "truncated" in refusal(capsys, *SHORT, "-n", "200", "-f", str(tmp_path / "new"), "-i", str(cut))


def test_an_atari_model_keeps_its_protocol_with_and_without_its_run(pong, capsys, tmp_path):
    for model in (pong, shutil.copy(pong, tmp_path / "stray.zip")):
        words = [*SHORT, "--env", "Pong", "-i", str(model), "-f", str(tmp_path / "logs")]
        assert read_request(words).settings["atari_protocol"].value == "atari100k"
        message = "--protocol: got 'sb3', but the agent was trained with 'atari100k'"
        assert message in refusal(capsys, *words, "--protocol", "sb3")
        read_request([*words, "--protocol", "atari100k"])
    assert DQN.load(pong, env="Pong").get_env().unwrapped.protocol.name == "atari100k"


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
        told = refusal(capsys, *common, *more, main=main)
        assert "was trained in ALE/Pong-v5, not in ALE/Amidar-v5; give --env ALE/Pong-v5" in told
    check_trained_in("PongNoFrameskip-v4", "ALE/Pong-v5", "a name of another time")


def test_normalized_stacks_are_observed_and_stored():
    env = make_env("CartPole-v1", normalize={}, frame_stack=2)
    assert env.reset().shape == env.get_original_obs().shape == (1, 8)


@pytest.mark.parametrize(
    ("param", "warning"),
    [
        ("learning_starts:20", "learning_starts 20 < batch_size 64: the first batches repeat transitions"),
        ("train_freq:1600", "train_freq 1600 > n_timesteps 150: the run lasts until its first update"),
    ],
)
def test_what_is_seldom_meant_is_told_in_one_line(tmp_path, capsys, param, warning):
    defaults = {"learning_starts": "learning_starts:100", "train_freq": "train_freq:16"}
    defaults[param.split(":")[0]] = param
    assert cartpole(tmp_path, params=["-params", *defaults.values(), *PARAMS[3:]]) == 0
    assert capsys.readouterr().err == f"sbbatch: warning: {warning}\n"


def test_the_quickstart_plays_its_own_run_and_not_the_latest(tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    def open_run(run, *_):
        raise Reached(run)

    mine = RunFolder(tmp_path, "ALE-RoadRunner-v5")
    monkeypatch.setattr(quickstart, "run", lambda request: (0, mine))
    monkeypatch.setattr(quickstart, "draw_pictures", lambda folder: None)
    monkeypatch.setattr(quickstart, "agent_of_run", open_run)
    with pytest.raises(Reached) as caught:
        quickstart.main(["-f", str(tmp_path)])
    assert caught.value.args == (mine,)
