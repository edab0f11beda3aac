"""The files of the games: complete, true to ale-py, playable, and strictly read."""

import ale_py
import gymnasium as gym
import numpy as np
import pytest
from ale_py.roms import get_all_rom_ids

from sbbatch import ALGORITHMS
from sbbatch.analysis.scores import human_normalized
from sbbatch.envs.ale import make_ale_vec_env
from sbbatch.envs.atari import atari_game, rom_name
from sbbatch.errors import InvalidValue, UserError
from sbbatch.settings.games import GAME_SETS, find_game, game_set, games, read_game
from sbbatch.settings.reader import hyperparams_folder
from sbbatch.settings.resolution import resolve

# Obando-Ceron et al. (2023), appendix C.
ATARI20 = """
    AirRaid Asterix Asteroids Bowling Breakout DemonAttack Freeway Gravitar Jamesbond MontezumaRevenge MsPacman Pong
    PrivateEye Qbert Seaquest SpaceInvaders Venture WizardOfWor YarsRevenge Zaxxon
"""
ATARI26 = """
    Alien Amidar Assault Asterix BankHeist BattleZone Boxing Breakout ChopperCommand CrazyClimber DemonAttack Freeway
    Frostbite Gopher Hero Jamesbond Kangaroo Krull KungFuMaster MsPacman Pong PrivateEye Qbert RoadRunner Seaquest
    UpNDown
"""
WITHOUT_HUMAN = ["AirRaid", "Carnival", "ElevatorAction", "JourneyEscape", "Pooyan"]

GOOD = """
name: Pong
ale_id: ALE/Pong-v5
noframeskip_id: null
rom: pong
sets: [atari57]
random: -20.7
random_source: somebody
human: 14.6
human_source: somebody
overrides: {dqn: {batch_size: 8}}
"""


def test_every_file_is_read_and_the_sets_have_their_sizes():
    assert len(games()) == 62
    assert [len(game_set(name)) for name in GAME_SETS] == [20, 26, 57, 60]
    assert list(game_set("atari20")) == ATARI20.split()
    assert list(game_set("atari26")) == ATARI26.split()
    assert set(game_set("atari57")) - set(game_set("atari60")) == {"Defender", "Surround"}
    with pytest.raises(InvalidValue, match="did you mean 'atari57'"):
        game_set("atari75")


def test_names_are_those_of_ale_py():
    gym.register_envs(ale_py)
    for name, game in games().items():
        old_id = f"{name}NoFrameskip-v4"
        assert (game.name, atari_game(game.ale_id), atari_game(game.rom)) == (name, name, name)
        assert (game.ale_id, game.rom) == (f"ALE/{name}-v5", rom_name(name))
        assert game.rom in get_all_rom_ids()
        assert game.ale_id in gym.registry
        assert game.noframeskip_id == (old_id if old_id in gym.registry else None)


@pytest.mark.parametrize("name", ["AirRaid", "Defender", "ElevatorAction", "Skiing"])
def test_a_game_can_be_played(name):
    env = make_ale_vec_env(games()[name].ale_id, n_envs=1, seed=0)
    try:
        assert env.reset().shape == (1, 4, 84, 84)
        _, rewards, _, infos = env.step(np.zeros(1, dtype=np.int64))
        assert np.isfinite(rewards).all()
        assert "lives" in infos[0]
    finally:
        env.close()


@pytest.mark.parametrize(
    ("name", "score", "normalized"),
    [
        ("Breakout", 100.0, 3.413194),
        ("Breakout", 300.0, 10.357639),
        ("Pong", 15.0, 1.011331),
        ("ALE/Skiing-v5", -15_000.0, 0.164412),
        ("video_pinball", 20_000.0, 1.131996),  # with dqn_zoo's random score of 16256.9 it would be 2.652799
    ],
)
def test_known_scores_are_normalized_as_published(name, score, normalized):
    assert human_normalized(find_game(name), score) == pytest.approx(normalized, abs=1e-6)


def test_the_games_without_a_human_score_say_so_and_that_their_random_score_is_measured():
    assert [game.name for game in games().values() if game.human is None] == WITHOUT_HUMAN
    for name in WITHOUT_HUMAN:
        assert find_game(name).random_source.startswith("measured, not published: ")
        with pytest.raises(InvalidValue, match=f"{name} has no published human score"):
            human_normalized(find_game(name), 1.0)
    measured = [game.name for game in games().values() if "measured" in game.random_source]
    assert measured == WITHOUT_HUMAN


def test_a_game_without_a_file_and_a_misspelt_one_are_told_apart():
    with pytest.raises(InvalidValue, match="no facts about Adventure: it is none of the 62 games"):
        find_game("Adventure")
    with pytest.raises(InvalidValue, match="did you mean 'Breakout'"):
        find_game("Breakuot")
    assert resolve("dqn", "ALE/Adventure-v5")["batch_size"].value == 32


def test_a_complete_file_is_read(tmp_path):
    path = tmp_path / "Pong.yml"
    path.write_text(GOOD)
    game = read_game(path)
    assert (game.sets, game.random, game.noframeskip_id) == (["atari57"], -20.7, None)
    assert game.overrides == {"dqn": {"batch_size": 8}}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rom: pong", "", "missing key rom"),
        ("rom: pong", "rom: pong\nroom: pong", "unknown key 'room'; did you mean 'rom'?"),
        ("rom: pong", "rom: 3", "rom: got int 3, expected text"),
        ("random: -20.7", "random: .nan", "random: got nan, expected a finite number"),
        ("sets: [atari57]", "sets: atari57", "sets: got str 'atari57', expected a list"),
        ("{dqn: {batch_size: 8}}", "[]", "overrides: got list [], expected a dictionary"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path, old, new, message):
    path = tmp_path / "Pong.yml"
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError, match=r"^hyperparams/atari/Pong\.yml") as caught:
        read_game(path)
    assert message in str(caught.value)


def test_every_file_is_consistent():
    for game in games().values():
        assert set(game.sets) <= set(GAME_SETS)
        assert len(set(game.sets)) == len(game.sets)
        assert (game.human is None) == (game.human_source is None)
        assert set(game.overrides) <= set(ALGORITHMS)
        for algo in game.overrides:
            assert resolve(algo, game.ale_id)


def test_there_is_nothing_but_games_in_their_folder():
    files = {path.name for path in (hyperparams_folder() / "atari").iterdir()}
    assert files == {f"{name}.yml" for name in games()}
