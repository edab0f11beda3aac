"""An evaluation ends, whatever the agent does; and what is said about its games is right."""

import csv

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy

from sbbatch import DQN
from sbbatch.analysis.scores import Scale
from sbbatch.envs.make import parallel_episodes
from sbbatch.zoo.commands import evaluate
from sbbatch.zoo.play.scores import Episode, RandomPolicy, play_episodes, report, statistics
from sbbatch.zoo.run import build


class AlwaysZero:
    def predict(self, observation, **_):
        return np.zeros(len(observation), dtype=int), None


def test_a_game_without_a_time_limit_is_cut_off_and_that_is_told_once(capsys, monkeypatch):
    monkeypatch.setattr(build, "UNLIMITED_STEPS", 30)
    env = build.make_env("CliffWalking-v1", training=False, seed=0)
    assert play_episodes(AlwaysZero(), env, 3) == [Episode(-30.0, 30)] * 3
    (warning,) = capsys.readouterr().err.splitlines()
    assert "cut off after 30 agent steps" in warning


def test_a_limit_that_was_asked_for_is_not_told(capsys):
    env = build.make_env("CliffWalking-v1", training=False, seed=0, max_steps=20)
    assert play_episodes(AlwaysZero(), env, 2) == [Episode(-20.0, 20)] * 2
    assert capsys.readouterr().err == ""
    learned_in = build.make_env("CliffWalking-v1", training=True).envs[0]
    assert not learned_in.has_wrapper_attr("_max_episode_steps")
    assert build.make_env("CartPole-v1", training=False).get_attr("spec")[0].max_episode_steps == 500


def test_statistics_worked_by_hand():
    found = statistics([1.0, 2.0, 3.0, 10.0])
    assert found["mean"] == 4.0
    assert found["median"] == found["interquartile mean"] == 2.5  # without 1 and 10
    assert found["standard deviation"] == pytest.approx((50 / 3) ** 0.5)  # squares 9, 4, 1 and 36
    assert found["standard error"] == pytest.approx((50 / 3) ** 0.5 / 2)
    assert (found["least"], found["greatest"]) == (1.0, 10.0)


def test_one_episode_has_no_deviation_and_the_report_says_so():
    found = statistics([7.0])
    assert np.isnan([found["standard deviation"], found["standard error"]]).all()
    lines = report("m.zip", "CartPole-v1", [Episode(7.0, 10)])
    assert [line.split()[-1] for line in lines if "standard" in line] == ["-", "-"]


def test_episodes_that_were_cut_are_counted_in_the_report():
    games = [Episode(0.0, 501, stuck=True), Episode(1.0, 30), Episode(0.0, 700, stuck=True)]
    assert report("m.zip", "CartPole-v1", games)[-1].strip() == "2 of 3 episodes were cut: stuck"
    assert "stuck" not in " ".join(report("m.zip", "CartPole-v1", games[1:2]))


@pytest.mark.parametrize("limit", [[], ["--stuck-steps", "-1"], ["--stuck-steps", "5"]])
def test_only_greedy_play_is_cut_when_it_is_stuck(limit, tmp_path, capsys):
    gym.register("Idle-v0", lambda: Idle(), max_episode_steps=40)
    try:
        table = tmp_path / "games.csv"
        words = ["--env", "Idle-v0", "-n", "2", "--csv", str(table)]
        assert evaluate.main([*words, "--random", *limit]) == 0
        model = tmp_path / "m.zip"
        DQN("MlpPolicy", "Idle-v0", device="cpu").save(model)
        steps = []
        for how in ([], ["--stochastic"]):
            assert evaluate.main(["-i", str(model), "-n", "2", "--csv", str(table), *how, *limit]) == 0
            steps.append([row["steps"] for row in csv.DictReader(table.open())])
        assert steps == [["6", "6"] if limit[-1:] == ["5"] else ["40", "40"], ["40", "40"]]
        assert ("2 of 2 episodes were cut: stuck" in capsys.readouterr().out) == (limit[-1:] == ["5"])
    finally:
        del gym.registry["Idle-v0"]


class Idle(gym.Env):
    """Nothing to see, nothing to earn."""

    observation_space, action_space = spaces.Box(0, 1, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_the_report_has_a_human_normalised_score_where_there_is_a_scale():
    games = [Episode(6.0, 10), Episode(6.0, 20)]
    lines = report("m.zip", "ALE/Pong-v5", games, Scale("Pong", 2.0, 10.0))
    assert lines[0] == "m.zip on ALE/Pong-v5, 2 whole episodes"
    assert lines[-1].split() == ["human-normalised", "0.500", "(random", "2,", "human", "10)"]
    assert "human" not in " ".join(report("m", "CartPole-v1", games))


def test_the_random_policy_is_scored_and_every_game_written(tmp_path, capsys):
    table = tmp_path / "games.csv"
    words = ["--random", "--env", "CartPole-v1", "-n", "12", "--seed", "3", "--csv", str(table)]
    assert evaluate.main([*words, "--reference", "20", "500"]) == 0
    told = capsys.readouterr().out
    rows = list(csv.DictReader(table.open()))
    assert [row["game"] for row in rows] == [str(n) for n in range(1, 13)]
    assert {row["seed"] for row in rows} == {"3"}
    returns = [float(row["return"]) for row in rows]
    assert f"{np.mean(returns):.2f}" in told
    assert "random policy on CartPole-v1, 12 whole episodes" in told
    assert "(random 20, human 500)" in told
    again = tmp_path / "again.csv"
    assert evaluate.main([*words[:-1], str(again)]) == 0
    assert again.read_text() == table.read_text()


def test_a_hundred_games_are_usual_and_each_slot_on_atari_has_one():
    args = evaluate.make_parser().parse_args([])
    assert args.n_episodes == 100
    assert parallel_episodes("ALE/Pong-v5", args.n_episodes) == 100


def test_the_random_player_stays_within_bounds():
    space = spaces.Box(np.array([-1.0, 2.0], "f4"), np.array([0.0, 5.0], "f4"))
    actions, _ = RandomPolicy(space, 200, 0).predict(None)
    assert actions.shape == (200, 2)
    assert actions.dtype == np.float32
    assert all(space.contains(action) for action in actions)
    assert {*RandomPolicy(spaces.Discrete(3, start=5), 200, 0).predict(None)[0]} == {5, 6, 7}


@pytest.mark.parametrize(
    ("space", "n"),
    [
        (spaces.Box(-1, 1, (1,), np.int32), 3),
        (spaces.Box(0, 1, (2,), np.uint8), 4),
        (spaces.MultiDiscrete([2, 3], start=[1, 0]), 6),
        (spaces.MultiBinary(2), 4),
    ],
)
def test_the_random_player_plays_every_action_and_the_same_with_a_seed(space, n):
    actions, again = (RandomPolicy(space, 200, 0).predict(None)[0] for _ in range(2))
    assert len(np.unique(actions, axis=0)) == n
    assert all(space.contains(action) for action in actions)
    assert (actions == again).all()


def test_episodes_are_those_of_sb3s_evaluation_and_end_after_a_number_of_steps():
    def make():
        return build.make_env("CartPole-v1", training=False, seed=0, n_envs=3)

    policy = [RandomPolicy(spaces.Discrete(2), 3, 0) for _ in range(2)]
    returns, lengths = evaluate_policy(policy[0], make(), 7, return_episode_rewards=True)
    episodes = play_episodes(policy[1], make(), 7)
    assert episodes == [Episode(*pair) for pair in zip(returns, lengths, strict=True)]
    episodes = play_episodes(AlwaysZero(), make(), n_steps=100)
    assert all(8 <= episode.steps == episode.score <= 11 for episode in episodes)
    assert 3 * 100 - 3 * 11 <= sum(episode.steps for episode in episodes) <= 3 * 100


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--random"], "--random: give the environment with --env"),
        (["--random", "--env", "CartPole-v1", "-i", "m.zip"], "not allowed with argument"),
        (["--random", "--env", "CartPole-v1", "--reference", "1", "1"], "two different finite"),
        (
            ["--random", "--env", "CartPole-v1", "--reference", "nan", "1"],
            "two different finite",
        ),
        (["--random", "--env", "CartPole-v1", "-n", "99999", "--n-envs", "99999"], "an int between 1 and 16384"),
        (["--random", "--env", "CartPole-v1", "--csv", "a.txt"], "expected .csv"),
        (["--env", "CartPole-v1", "--algo", "dqnn"], "unknown algorithm 'dqnn'; did you mean 'dqn'?"),
        (["-i", "nope.zip"], "no such model file: nope.zip"),
    ],
)
def test_a_mistake_is_one_sentence(capsys, words, told, tmp_path):
    assert evaluate.main([*words, "-f", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
