"""The scale of a game, in the report of an evaluation."""

import pytest

from sbbatch.zoo.play.scores import Episode, report, scale_of


@pytest.mark.parametrize(
    ("env_id", "scores"), [("ALE/Breakout-v5", (1.7, 30.5)), ("ALE/AirRaid-v5", None), ("CartPole-v1", None)]
)
def test_scale_of_an_atari_game_is_the_published_one(env_id, scores):
    scale = scale_of(env_id)
    assert (scale and (scale.random, scale.human)) == scores


def test_report_of_an_atari_game_has_its_human_normalised_score():
    games = [Episode(score, 10) for score in (90.0, 110.0)]
    (line,) = [line for line in report("dqn", "ALE/Breakout-v5", games, scale_of("Breakout")) if "human" in line]
    assert line.split()[1] == "3.413"  # (100 - 1.7) / (30.5 - 1.7)
