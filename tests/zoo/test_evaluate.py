"""An evaluation ends, whatever the agent does."""

import numpy as np

from sbbatch.zoo import build, gym_env
from sbbatch.zoo.evaluate import evaluate_returns


class Stuck:
    def predict(self, observation, **_):
        return np.zeros(len(observation), dtype=int), None


def test_a_game_without_a_time_limit_is_cut_off_and_that_is_told_once(capsys, monkeypatch):
    monkeypatch.setattr(gym_env, "UNLIMITED_STEPS", 30)
    env = build.make_env("CliffWalking-v1", training=False, seed=0)
    assert evaluate_returns(Stuck(), env, 3) == [-30.0] * 3
    (warning,) = capsys.readouterr().err.splitlines()
    assert "cut off after 30 agent steps, for CliffWalking-v1 has no time limit; set one with --eval-max" in warning


def test_a_limit_that_was_asked_for_is_not_told(capsys):
    env = build.make_env("CliffWalking-v1", training=False, seed=0, max_steps=20)
    assert evaluate_returns(Stuck(), env, 2) == [-20.0] * 2
    assert capsys.readouterr().err == ""


def test_games_to_learn_from_and_limits_of_ones_own_are_left_alone():
    def limits(env_id, training):
        return [env.has_wrapper_attr("_max_episode_steps") for env in build.make_env(env_id, training=training).envs]

    assert limits("CliffWalking-v1", True) == [False]
    assert build.make_env("CartPole-v1", training=False).get_attr("spec")[0].max_episode_steps == 500
