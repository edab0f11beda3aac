"""Atari protocols as data, and the names of the games.

A protocol is everything two papers may disagree about before the first pixel reaches an agent: sticky actions, no-ops,
what ends a learning episode, how rewards are clipped. Scores are only comparable under one protocol, hence the names.

ale-py is imported inside functions, so that importing this module stays cheap.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Any

from sbbatch.arguments import Fraction, Within, checked
from sbbatch.errors import InvalidType, InvalidValue, describe, did_you_mean

SCREEN_SIZE = 84
# ROMs that ale-py ships without a one-player mode: Gymnasium has no id for them and neither have we.
_TWO_PLAYER_ROMS = frozenset({"combat", "joust", "maze_craze", "warlords"})

_ATARI_ID = re.compile(
    r"(?P<prefix>ALE/)?(?P<game>\w+?)(?P<mode>NoFrameskip|Deterministic)?(?P<version>-v[045])?", re.ASCII
)


@checked  # the C++ environment hangs or crashes on some values instead of complaining
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
    sticky_actions: Fraction
    noop_max: Annotated[int, Within(0, 1_000)]
    fire_on_reset: bool
    life_loss_terminal: bool
    clip_rewards: bool
    frame_skip: Annotated[int, Within(1, 100)] = 4
    frame_stack: Annotated[int, Within(1, 64)] = 4
    max_frames: Annotated[int, Within(1, 2**31 - 1)] = 108_000
    full_action_space: bool = False

    def evaluation(self) -> AtariProtocol:
        """The protocol that scores are measured under: whole games and raw rewards, everything else equal."""
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
    A protocol by its name in ``PROTOCOLS``; a protocol is returned as it is.

    :raises InvalidValue: unknown name
    :raises InvalidType: neither a string nor a protocol
    """
    if isinstance(protocol, AtariProtocol):
        return protocol
    if not isinstance(protocol, str):
        raise InvalidType(f"protocol: got {describe(protocol)}, expected an AtariProtocol or the name of one")
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
    """
    game = atari_game(env_id)
    if game is not None:
        return game
    # Only the game's part is compared: "ALE/…-v5" is so long that it would make any two games look alike.
    word = re.split(r"NoFrameskip|-", env_id.removeprefix("ALE/"))[0] if looks_like_atari(env_id) else env_id
    near = difflib.get_close_matches(_key(word), _games(), n=1, cutoff=0.6)
    if not near:
        raise InvalidValue(
            f"unknown environment '{env_id}'; expected an id such as 'CartPole-v1' or 'ALE/Breakout-v5', or that of a "
            "package given by --gym-packages (in Python imported)"
        )
    game = _games()[near[0]]
    nearest = f"ALE/{game}-v5" if looks_like_atari(env_id) else rom_name(game) if env_id.islower() else game
    raise InvalidValue(f"unknown environment '{env_id}'; did you mean '{nearest}'?")


def rom_name(game: str) -> str:
    """The name under which ale-py keeps a game, e.g. ``"ms_pacman"``, by any spelling."""
    return _roms()[require_atari_game(game)]


def looks_like_atari(env_id: str) -> bool:
    """Whether a string is meant to be an Atari id, well spelt or not, so that the error about it comes from us."""
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
