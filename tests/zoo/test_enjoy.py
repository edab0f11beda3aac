"""Playing with a trained agent: the zoo's options mean what they mean there, or say what to use instead."""

import csv
import shutil

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3

from sbbatch.zoo.commands import enjoy, evaluate, train
from sbbatch.zoo.logs.folders import RunFolder
from sbbatch.zoo.play import saved, screen
from sbbatch.zoo.play.screen import RenderedEnv

COMMON = ["--algo", "dqn", "--env", "CartPole-v1"]
PARAMS = ["-params", "learning_starts:100", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    limits = ["-n", "600", "--eval-freq", "300", "--eval-episodes", "1", "--save-freq", "200", "--seed", "0"]
    assert train.main([*COMMON, *limits, "--num-threads", "1", "--verbose", "0", "-f", str(folder), *PARAMS]) == 0
    return folder


def play(logs, *words, command=enjoy.main):
    return command([*COMMON, "-f", str(logs), *words])


def test_without_a_display_games_are_played_and_scored(logs, capsys):
    assert play(logs, "--n-episodes", "3") == 0
    told = capsys.readouterr().out
    assert "no display here: playing without a window" in told
    assert "(3 episodes)" in told


def test_a_number_of_steps_counts_only_games_that_have_ended(logs, tmp_path, capsys):
    assert play(logs, "-n", "60", "--no-render", "--reward-log", str(tmp_path)) == 0
    with (tmp_path / "0.monitor.csv").open() as file:
        assert file.readline().startswith("#{")
        rows = list(csv.DictReader(file))
    assert f"({len(rows)} episodes)" in capsys.readouterr().out
    lengths = [int(row["l"]) for row in rows]
    assert sum(lengths) <= 60
    assert [float(row["r"]) for row in rows] == lengths  # CartPole's reward
    assert play(logs, "-n", "2", "--no-render") == 0
    assert "no episode has ended within 2 agent steps" in capsys.readouterr().out


def test_games_are_not_played_for_a_log_that_cannot_be_kept(logs, tmp_path, capsys):
    run = logs / "dqn" / "CartPole-v1_1"
    episodes = (run / "0.monitor.csv").read_bytes()
    (tmp_path / "file").touch()
    for folder, message in ((run, "is the folder of a run"), (tmp_path / "file", "is a file, not a folder")):
        assert play(logs, "--no-render", "--reward-log", str(folder)) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert captured.out == ""
    assert (run / "0.monitor.csv").read_bytes() == episodes


def test_the_games_of_a_seed_are_the_same_in_any_number_of_steps(logs, tmp_path):
    for steps, name in (("200", "short"), ("400", "long")):
        play(logs, "-n", steps, "--no-render", "--reward-log", str(tmp_path / name))
    short, long = ((tmp_path / name / "0.monitor.csv").read_text().splitlines()[1:] for name in ("short", "long"))
    assert 2 < len(short) < len(long)
    assert long[: len(short)] == short


def test_checkpoints_are_found_by_their_steps(logs, capsys):
    run = logs / "dqn" / "CartPole-v1_1"
    found = sorted(int(path.stem.split("_")[2]) for path in run.glob("rl_model_*_steps.zip"))
    assert len(found) > 1
    for words, name in (
        (["--load-checkpoint", str(found[0])], f"rl_model_{found[0]}_steps.zip"),
        (["--load-last-checkpoint"], f"rl_model_{found[-1]}_steps.zip"),
        (["--load-best"], "best_model.zip"),
        (["-i", str(run / "best_model.zip")], "best_model.zip"),
        ([], "CartPole-v1.zip"),
    ):
        assert play(logs, "--n-episodes", "1", *words) == 0
        assert f"playing {run / name}" in capsys.readouterr().out
    assert play(logs, "--load-checkpoint", "7") == 2
    assert f"rl_model_{found[0]}_steps.zip" in capsys.readouterr().err


def test_a_file_says_what_it_is(logs, capsys):
    path = RunFolder(logs / "dqn" / "CartPole-v1_1", "CartPole-v1").last_model
    assert enjoy.main(["-i", str(path), "--n-episodes", "1"]) == 0
    assert enjoy.main(["-i", str(path), "--env", "Acrobot-v1"]) == 2
    assert "was trained in CartPole-v1, not in Acrobot-v1" in capsys.readouterr().err


@pytest.mark.parametrize("command", [enjoy.main, train.main])
def test_a_file_of_another_agent_is_refused_for_what_it_holds(logs, capsys, command):
    path = logs / "dqn" / "CartPole-v1_1" / "CartPole-v1.zip"
    assert command(["--algo", "ppo", "--env", "CartPole-v1", "-i", str(path), "-f", str(logs)]) == 2
    assert f"{path}: holds a DQN, but PPO was asked to load it" in capsys.readouterr().err


def test_a_model_that_is_missing_is_told_with_what_is_there_instead(logs, tmp_path, capsys):
    run = tmp_path / "dqn" / "CartPole-v1_1"
    shutil.copytree(logs / "dqn" / "CartPole-v1_1", run)
    (run / "CartPole-v1.zip").unlink()
    assert play(tmp_path) == 2
    assert f"no such model: {run / 'CartPole-v1.zip'}; there are: best_model.zip, " in capsys.readouterr().err


def test_stochastic_actions_are_those_of_training(logs, monkeypatch):
    asked = []
    predict = saved.play_episodes

    def watch(player, env, *args, deterministic, **kwargs):
        asked.append(deterministic)
        return predict(player, env, 1, deterministic=deterministic)

    monkeypatch.setattr(saved, "play_episodes", watch)
    for words in ([], ["--deterministic"], ["--stochastic"]):
        play(logs, *words)
    assert asked == [True, True, False]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--render"], "there is no display to open a window on; play with --no-render"),
        (["--gym-packages", "nosuch"], "--gym-packages"),
        (["--load-best", "--load-last-checkpoint"], "not allowed with argument"),
        (["--no-rendr"], "did you mean '--no-render'"),
        (["--exp-id", "9"], "run 9 of dqn on CartPole-v1 does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(logs, capsys, words, told):
    assert play(logs, *words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_window_shows_every_game(logs, capsys, monkeypatch):
    class Shown(gym.Wrapper):
        shown = 0

        def step(self, action):
            Shown.shown += 1
            return self.env.step(action)

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(screen, "HumanRendering", Shown)
    monkeypatch.setattr(screen, "require_display", lambda: None)
    assert play(logs, "--n-episodes", "2") == 0
    told = capsys.readouterr().out
    assert "episode 2: return" in told
    assert "(2 episodes)" in told
    assert Shown.shown > 10
    assert play(logs, "--n-envs", "4") == 2
    assert "a window shows one episode" in capsys.readouterr().err


def test_a_real_window_is_opened(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    game = RenderedEnv("CartPole-v1", 0, "dopamine", window=True)
    first = game.reset()
    assert game.step(0)[0].shape == first.shape
    assert game.env.window is not None
    game.env.close()


def test_a_model_of_sb3_is_played_from_its_file(tmp_path, capsys):
    stable_baselines3.DQN("MlpPolicy", "CartPole-v1", seed=0).save(tmp_path / "m.zip")
    path = str(tmp_path / "m.zip")
    for command, words in ((enjoy.main, ["--n-episodes", "2"]), (evaluate.main, ["-n", "2"])):
        assert command(["-i", path, "--env", "CartPole-v1", *words]) == 0
        assert "2 " in capsys.readouterr().out
    assert enjoy.main(["-i", path]) == 2
    assert "does not say what it was trained in; give --env" in capsys.readouterr().err
    stable_baselines3.PPO("MlpPolicy", "CartPole-v1", clip_range=lambda left: 0.2, device="cpu").save(path)
    assert enjoy.main(["-i", path, "--env", "CartPole-v1", "--n-episodes", "1"]) == 2
    assert "(--trust)" in capsys.readouterr().err
    assert enjoy.main(["-i", path, "--env", "CartPole-v1", "--n-episodes", "1", "--trust"]) == 0


def test_a_run_of_the_zoo_is_played_without_reading_its_yaml(tmp_path, capsys):
    run = RunFolder(tmp_path / "dqn" / "CartPole-v1_1", "CartPole-v1")
    run.parameters.mkdir(parents=True)
    run.config.write_text("!!python/object/apply:collections.OrderedDict\n- - - batch_size\n    - 64\n")
    stable_baselines3.DQN("MlpPolicy", "CartPole-v1", seed=0).save(run.last_model)
    words = ["-i", str(run.last_model), "--env", "CartPole-v1", "--n-episodes", "1"]
    assert enjoy.main(words) == 0
    (run.parameters / "vecnormalize.pkl").write_bytes(b"")
    assert enjoy.main(words) == 2
    assert "sbbatch.interop.load_vec_normalize" in capsys.readouterr().err


def test_files_in_the_folder_of_the_algorithm_are_run_minus_one(logs, tmp_path):
    (tmp_path / "dqn").mkdir()
    source = logs / "dqn" / "CartPole-v1_1"
    for path in source.rglob("*"):
        target = tmp_path / "dqn" / path.relative_to(source)
        if path.is_file():
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    assert play(tmp_path, "--exp-id", "-1", "--n-episodes", "1") == 0
    assert play(tmp_path, "--n-episodes", "1") == 2


def test_what_a_run_leaves_is_read_by_sb3_and_the_zoos_plots(logs):
    from stable_baselines3.common.results_plotter import load_results, ts2xy

    run = logs / "dqn" / "CartPole-v1_1"
    pytest.importorskip("pandas")
    steps, returns = ts2xy(load_results(str(run)), "timesteps")
    assert len(steps) == len(returns) > 5
    assert steps[-1] <= 620
    with np.load(run / "evaluations.npz") as arrays:
        assert arrays["results"].shape == arrays["ep_lengths"].shape == (len(arrays["timesteps"]), 1)
