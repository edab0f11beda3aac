"""The games that studies play, and the scales that make their returns comparable."""

from __future__ import annotations

from sbbatch.analysis.scores import Scale, Scaled
from sbbatch.errors import InvalidValue

MINATAR_PAIR = ("MinAtar/Breakout-v1", "MinAtar/Asterix-v1")
# The 20 games of the small-batch paper.
# fmt: off
_ATARI_20 = (
    "AirRaid", "Asterix", "Asteroids", "Bowling", "Breakout", "DemonAttack", "Freeway", "Gravitar", "Jamesbond",
    "MontezumaRevenge", "MsPacman", "Pong", "PrivateEye", "Qbert", "Seaquest", "SpaceInvaders", "Venture",
    "WizardOfWor", "YarsRevenge", "Zaxxon",
)
# fmt: on
ATARI_20 = tuple(f"ALE/{name}-v5" for name in _ATARI_20)
# From a random policy (ours, 300 to 1,000 episodes) to PPO after 20 M steps (Pgx; read off its plots): a fixed scale of
# our own, so that games can be averaged.
_SCALES = {
    "MinAtar/Asterix-v1": (0.49, 22.0),
    "MinAtar/Breakout-v1": (0.38, 50.0),
    "CartPole-v1": (22.0, 500.0),
}


def scale_of(game: str) -> Scaled:
    """
    What 0 and 1 are on a game's scale: a random policy, and a human (Atari) or a strong agent (the others).

    :param game: environment
    :raises InvalidValue: none is known
    """
    if game.startswith("ALE/"):
        from sbbatch.settings.games import find_game  # reads 62 files

        return find_game(game)
    if game not in _SCALES:
        raise InvalidValue(f"{game} has no scale; give it one in sbbatch/studies/games.py")
    return Scale(game, *_SCALES[game])
