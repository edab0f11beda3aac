"""Atari protocols as data, and the names of the games.

A protocol is everything two papers may disagree about before the first pixel reaches an agent: sticky actions, no-ops,
what ends a learning episode, how rewards are clipped. Scores are only comparable under one protocol, hence the names.

ale-py is imported inside functions, so that importing this module stays cheap.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from sbbatch.errors import InvalidType, InvalidValue, check_int, check_number, did_you_mean

SCREEN_SIZE = 84
# ROMs that ale-py ships without a one-player mode: Gymnasium has no id for them and neither have we.
_TWO_PLAYER_ROMS = frozenset({"combat", "joust", "maze_craze", "warlords"})

_ATARI_ID = re.compile(
    r"(?P<prefix>ALE/)?(?P<game>\w+?)(?P<mode>NoFrameskip|Deterministic)?(?P<version>-v[045])?", re.ASCII
)


@dataclass(frozen=True)
class AtariProtocol:
    """
    How a game is presented to an agent. Frames are 84x84 greyscale, the maximum of the last two of each skip.

    :param name: what to call it in logs and errors
    :param sticky_actions: probability in [0, 1] that a frame repeats the previous action instead of the agent's
    :param noop_max: a game starts with a number of no-ops drawn uniformly from 0..``noop_max``; unit: frames
    :param fire_on_reset: press FIRE once at the start of each game that has this button
    :param life_loss_terminal: a lost life ends the learning episode (never the game)
    :param clip_rewards: clip rewards to [-1, 1]; for ALE's whole-numbered rewards the same as taking the sign
    :param frame_skip: frames per agent step
    :param frame_stack: number of screens in one observation
    :param max_frames: a game is truncated after this many frames, no-ops and FIRE not counted; 108,000 frames are
        30 minutes or 27,000 agent steps
    :param full_action_space: all 18 actions instead of those that do something in the game
    :raises InvalidValue: a number outside its range
    :raises InvalidType: a value of the wrong type
    """

    name: str
    sticky_actions: float
    noop_max: int
    fire_on_reset: bool
    life_loss_terminal: bool
    clip_rewards: bool
    frame_skip: int = 4
    frame_stack: int = 4
    max_frames: int = 108_000
    full_action_space: bool = False

    def __post_init__(self) -> None:
        # Checked here because the C++ environment hangs or crashes on some of these instead of complaining.
        check_number("sticky_actions", self.sticky_actions, 0.0, 1.0)
        check_int("noop_max", self.noop_max, 0, 1_000)
        check_int("frame_skip", self.frame_skip, 1, 100)
        check_int("frame_stack", self.frame_stack, 1, 64)
        check_int("max_frames", self.max_frames, 1, 2**31 - 1)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "bool" and not isinstance(value, bool):
                raise InvalidType(f"{field.name}: got {type(value).__name__} {value!r}, expected True or False")

    def evaluation(self) -> AtariProtocol:
        """
        The protocol that scores are measured under.

        :return: whole games and raw rewards, everything else equal
        """
        return replace(self, life_loss_terminal=False, clip_rewards=False)


# In all of them the first observation of a learning episode is one screen behind ``frame_stack - 1`` black ones.
PROTOCOLS: dict[str, AtariProtocol] = {
    protocol.name: protocol
    for protocol in (
        # DLR-RM/stable-baselines3 common/atari_wrappers.py (AtariWrapper, VecFrameStack), NoFrameskip-v4 ids.
        # Deviates: 0..30 no-ops instead of 1..30; FIRE once per game and not after each lost life (nor followed by
        # action 2), because one environment of a C++ vector cannot be stepped alone.
        AtariProtocol("sb3", 0.0, 30, fire_on_reset=True, life_loss_terminal=True, clip_rewards=True),
        # google/dopamine discrete_domains/atari_lib.py and its gin files for 200M frames (Machado et al., 2018).
        # Deviates: every time limit is a truncation (Dopamine also has a cap of 100,000 frames that is a terminal).
        AtariProtocol("dopamine", 0.25, 0, fire_on_reset=False, life_loss_terminal=False, clip_rewards=True),
        # google/dopamine labs/atari_100k (configs/*.gin, atari_100k_runner.py): DER, DrQ, SPR.
        # Deviates: the 0..29 no-ops are frames, as in its legacy runner; in the default one they are agent steps.
        AtariProtocol("atari100k", 0.0, 29, fire_on_reset=False, life_loss_terminal=True, clip_rewards=True),
        # mttga/purejaxql config/alg/pqn_atari.yaml, vwyxzjn/cleanrl pqn_atari_envpool.py, sail-sg/envpool atari_env.h
        # (which plays 0..29 no-ops before FIRE). Deviates: EnvPool fills the first stack of a game with its first
        # screen; after a lost life it plays no-ops and FIRE again and keeps the old stack; a life lost down to zero
        # does not end its episode; in games without FIRE it plays 1..30 no-ops.
        AtariProtocol("pqn", 0.0, 29, fire_on_reset=True, life_loss_terminal=True, clip_rewards=True),
        # BTR main.py and paper table D4. Deviates: 0..30 no-ops instead of 1..30, and Gymnasium's FrameStack repeats
        # the first screen where ours has black ones.
        AtariProtocol("btr", 0.25, 30, fire_on_reset=False, life_loss_terminal=False, clip_rewards=True),
    )
}


def get_protocol(protocol: str | AtariProtocol) -> AtariProtocol:
    """
    Return a protocol by name.

    :param protocol: a key of ``PROTOCOLS``, or a protocol, which is returned as it is
    :return: the protocol for training; see ``AtariProtocol.evaluation`` for the other one
    :raises InvalidValue: unknown name
    :raises InvalidType: neither a string nor a protocol
    """
    if isinstance(protocol, AtariProtocol):
        return protocol
    if not isinstance(protocol, str):
        kind = type(protocol).__name__
        raise InvalidType(f"protocol: got {kind} {protocol!r}, expected an AtariProtocol or {_one_of(PROTOCOLS)}")
    if protocol not in PROTOCOLS:
        raise InvalidValue(f"unknown protocol '{protocol}'{did_you_mean(protocol, PROTOCOLS)}")
    return PROTOCOLS[protocol]


def atari_game(env_id: str) -> str | None:
    """
    The game that a string names.

    :param env_id: ``"Breakout"``, ``"ALE/Breakout-v5"``, ``"BreakoutNoFrameskip-v4"``, ``"BreakoutDeterministic-v4"``,
        ``"Breakout-v4"``, ``"breakout"``, ``"ms_pacman"`` and the like, in any case
    :return: the name as Gymnasium writes it, e.g. ``"MsPacman"``, or ``None`` if the string names no Atari game, such
        as ``"CartPole-v1"``, ``"MinAtar/Breakout-v1"`` or ``"Blackjack-v1"`` (the card game of Gymnasium)
    """
    match = _ATARI_ID.fullmatch(env_id)
    return _games().get(_key(match["game"])) if match else None


def require_atari_game(env_id: str) -> str:
    """
    The game that a string names, for callers that need one.

    :param env_id: see ``atari_game``
    :return: the name as Gymnasium writes it, e.g. ``"MsPacman"``
    :raises InvalidValue: not an Atari game; the message gives the nearest one, spelt the way ``env_id`` is
    :raises InvalidType: not a string
    """
    if not isinstance(env_id, str):
        raise InvalidType(f"game: got {type(env_id).__name__} {env_id!r}, expected a string such as 'ALE/Breakout-v5'")
    game = atari_game(env_id)
    if game is not None:
        return game
    prefix, mode, word = env_id.startswith("ALE/"), "NoFrameskip" in env_id, env_id
    if prefix or mode:
        # Only the game's part is compared: "ALE/…-v5" is so long that it would make any two games look alike.
        word = re.split(r"NoFrameskip|-", env_id.removeprefix("ALE/"))[0]
    near = difflib.get_close_matches(_key(word), _games(), n=1, cutoff=0.6)
    if not near:
        raise InvalidValue(f"unknown game '{env_id}'; expected a name such as 'Breakout' or 'ALE/Breakout-v5'")
    game = _games()[near[0]]
    if prefix:
        spelt = f"ALE/{game}-v5"
    elif mode:
        spelt = f"{game}NoFrameskip-v4"
    else:
        spelt = rom_name(game) if env_id.islower() else game
    raise InvalidValue(f"unknown game '{env_id}'; did you mean '{spelt}'?")


def rom_name(game: str) -> str:
    """
    The name under which ale-py keeps a game.

    :param game: any spelling that ``atari_game`` understands
    :return: e.g. ``"ms_pacman"``
    :raises InvalidValue: not an Atari game
    """
    return _roms()[require_atari_game(game)]


def looks_like_atari(env_id: str) -> bool:
    """
    Whether a string is meant to be an Atari id, well spelt or not, so that the error about it comes from us.

    :param env_id: what the user wrote
    :return: ``True`` if it starts with ``"ALE/"`` or contains ``"NoFrameskip"``
    """
    return env_id.startswith("ALE/") or "NoFrameskip" in env_id


def make_ale_vector(game: str, n_envs: int, protocol: AtariProtocol, num_threads: int) -> Any:
    """
    ale-py's C++ vector environment, set up as a protocol says; it clips no rewards and ends no episodes at lost lives.

    :param game: any spelling that ``atari_game`` understands
    :param n_envs: number of copies, at least 1: the C++ side crashes on 0
    :param protocol: what to set
    :param num_threads: C++ threads (0: one per copy, at most one per core)
    :return: an ``ale_py.vector_env.AtariVectorEnv`` that restarts a finished game within the same step
    """
    from ale_py.vector_env import AtariVectorEnv
    from gymnasium.vector import AutoresetMode

    return AtariVectorEnv(
        rom_name(game),
        n_envs,
        num_threads=num_threads,
        max_num_frames_per_episode=protocol.max_frames,
        repeat_action_probability=protocol.sticky_actions,
        full_action_space=protocol.full_action_space,
        autoreset_mode=AutoresetMode.SAME_STEP,
        img_height=SCREEN_SIZE,
        img_width=SCREEN_SIZE,
        stack_num=protocol.frame_stack,
        frameskip=protocol.frame_skip,
        # ale-py draws from 0..noop_max-1.
        noop_max=protocol.noop_max + 1,
        episodic_life=False,
        life_loss_info=False,
        reward_clipping=False,
        use_fire_reset=protocol.fire_on_reset,
    )


@lru_cache(maxsize=1)
def _roms() -> dict[str, str]:
    """Gymnasium's name -> ale-py's, for every game with a one-player mode."""
    from ale_py.registration import rom_id_to_name
    from ale_py.roms import get_all_rom_ids

    return {rom_id_to_name(rom): rom for rom in get_all_rom_ids() if rom not in _TWO_PLAYER_ROMS}


@lru_cache(maxsize=1)
def _games() -> dict[str, str]:
    """Name without case and underscores -> Gymnasium's name."""
    return {_key(game): game for game in _roms()}


def _key(name: str) -> str:
    return name.lower().replace("_", "")


def _one_of(names: dict[str, AtariProtocol]) -> str:
    return "one of " + ", ".join(repr(name) for name in names)
