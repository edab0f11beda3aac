"""The games that studies play, and the scales that make their returns comparable."""

from __future__ import annotations

from sbbatch.analysis.scores import Scale, Scaled
from sbbatch.errors import InvalidValue
from sbbatch.settings.games import find_game, game_set

MINATAR_PAIR = ("MinAtar/Breakout-v1", "MinAtar/Asterix-v1")
# The games of the small-batch paper, of Atari 100k, and those with a human score that most papers average over.
ATARI_20, ATARI_26, ATARI_57, ATARI_60 = (
    tuple(f"ALE/{name}-v5" for name in game_set(f"atari{size}")) for size in (20, 26, 57, 60)
)
# Those whose training the small-batch paper looks into (Figure 11).
ATARI_THREE = ("ALE/Asteroids-v5", "ALE/DemonAttack-v5", "ALE/SpaceInvaders-v5")
MUJOCO_PAIR = ("Hopper-v5", "HalfCheetah-v5")
# From a random policy (ours, 300 to 1,000 episodes; HalfCheetah 20) to PPO after 20 M steps (Pgx; read off its plots),
# on MuJoCo to CleanRL's PPO after 1 M steps (its table, for v4): a fixed scale of our own, so that games can be
# averaged.
_SCALES = {
    "MinAtar/Asterix-v1": (0.49, 22.0),
    "MinAtar/Breakout-v1": (0.38, 50.0),
    "CartPole-v1": (22.0, 500.0),
    "Hopper-v5": (18.0, 2383.0),
    "HalfCheetah-v5": (-261.0, 1443.0),
}


def scale_of(game: str) -> Scaled:
    """
    What 0 and 1 are on a game's scale: a random policy, and a human (Atari) or a strong agent (the others).

    :param game: environment
    :raises InvalidValue: none is known
    """
    if game.startswith("ALE/"):
        return find_game(game)
    if game not in _SCALES:
        raise InvalidValue(f"{game} has no scale; give it one in sbbatch/studies/games.py")
    return Scale(game, *_SCALES[game])
