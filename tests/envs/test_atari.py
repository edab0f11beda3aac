"""Names of games and protocols."""

from dataclasses import FrozenInstanceError, replace

import pytest

from sbbatch.envs.atari import (
    PROTOCOLS,
    AtariProtocol,
    atari_game,
    get_protocol,
    looks_like_atari,
    require_atari_game,
    rom_name,
)
from sbbatch.errors import InvalidType, InvalidValue


@pytest.mark.parametrize(
    ("text", "game"),
    [
        ("Breakout", "Breakout"),
        ("ALE/Breakout-v5", "Breakout"),
        ("Breakout-v4", "Breakout"),
        ("BreakoutNoFrameskip-v4", "Breakout"),
        ("ms_pacman", "MsPacman"),
        ("ALE/TicTacToe3D-v5", "TicTacToe3D"),
    ],
)
def test_every_spelling_of_a_game_is_understood(text, game):
    assert atari_game(text) == game
    assert require_atari_game(text) == game


@pytest.mark.parametrize(
    "text",
    [
        "CartPole-v1",
        "Blackjack-v1",
        "MinAtar/Breakout-v1",
        "",
        "Pong-ram-v4",
        "ALE/Brekout-v5",
        "Pong\n",
    ],
)
def test_what_is_not_an_atari_game_is_none(text):
    assert atari_game(text) is None


def test_every_v5_id_of_gymnasium_is_a_game_and_maps_to_its_rom():
    import ale_py
    import gymnasium as gym

    gym.register_envs(ale_py)
    specs = [spec for name, spec in gym.registry.items() if name.startswith("ALE/")]
    assert len(specs) > 100
    for spec in specs:
        assert f"ALE/{atari_game(spec.id)}-v5" == spec.id
        assert rom_name(spec.id) == spec.kwargs["game"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ALE/Brekout-v5", "did you mean 'ALE/Breakout-v5'?"),
        ("BrekoutNoFrameskip-v4", "did you mean 'ALE/Breakout-v5'?"),
        ("ms_pakman", "did you mean 'ms_pacman'?"),
        ("Qbertt", "did you mean 'Qbert'?"),
        ("CartPole-v1", "expected an id such as 'CartPole-v1' or 'ALE/Breakout-v5'"),  # and that of a package
    ],
)
def test_a_misspelt_game_is_told_with_the_nearest_one(text, told):
    with pytest.raises(InvalidValue) as error:
        require_atari_game(text)
    assert str(error.value).startswith(f"unknown environment '{text}'; {told}")


def test_ids_that_are_meant_to_be_atari_are_recognised_even_if_misspelt():
    assert looks_like_atari("ALE/Brekout-v5")
    assert looks_like_atari("BrekoutNoFrameskip-v4")
    assert not looks_like_atari("CartPole-v1")
    assert not looks_like_atari("Breakout")


def test_the_protocols_say_what_the_papers_say():
    table = {
        name: (p.sticky_actions, p.noop_max, p.fire_on_reset, p.life_loss_terminal, p.clip_rewards)
        for name, p in PROTOCOLS.items()
    }
    assert table == {
        "sb3": (0.0, 30, True, True, True),
        "dopamine": (0.25, 0, False, False, True),
        "atari100k": (0.0, 29, False, True, True),
        "pqn": (0.0, 29, True, True, True),
        "btr": (0.25, 30, False, False, True),
    }
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert (protocol.frame_skip, protocol.frame_stack, protocol.max_frames) == (4, 4, 108_000)
        assert not protocol.full_action_space


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_evaluation_plays_whole_games_for_raw_rewards_and_changes_nothing_else(name):
    protocol = PROTOCOLS[name]
    assert protocol.evaluation() == replace(protocol, life_loss_terminal=False, clip_rewards=False)


def test_a_protocol_is_found_by_name_or_passed_through_and_cannot_be_changed():
    own = AtariProtocol("own", 0.1, 5, fire_on_reset=False, life_loss_terminal=False, clip_rewards=False)
    assert get_protocol("btr") is PROTOCOLS["btr"]
    assert get_protocol(own) is own
    with pytest.raises(FrozenInstanceError):
        own.noop_max = 3


def test_an_unknown_protocol_is_told_with_the_nearest_one():
    with pytest.raises(InvalidValue, match="unknown protocol 'dopamin'; did you mean 'dopamine'"):
        get_protocol("dopamin")
    with pytest.raises(InvalidValue, match="unknown protocol 'x'; known: atari100k, btr, dopamine, pqn, sb3"):
        get_protocol("x")


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"sticky_actions": 1.5}, InvalidValue, r"sticky_actions: got 1.5, expected a finite number in \[0, 1\]"),
        ({"frame_stack": 0}, InvalidValue, "frame_stack: got 0, expected an int between 1 and 64"),
        ({"frame_skip": 4.0}, InvalidType, "frame_skip: got float 4.0, .*; did you mean 4?"),
        ({"clip_rewards": 1}, InvalidType, "clip_rewards: got int 1, expected True or False"),
    ],
)
def test_a_protocol_with_an_impossible_value_is_refused(change, kind, message):
    with pytest.raises(kind, match=message):
        replace(PROTOCOLS["sb3"], **change)
