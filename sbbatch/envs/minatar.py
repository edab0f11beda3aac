"""
MinAtar (Young and Tian 2019): five small games for studies that do not need Atari's pixels. The package registers its
games with boolean maps, channels last; SB3 and our torsos want uint8 images, channels first.

``MinAtar/Breakout-v1`` has the game's minimal actions, ``-v0`` all six. Sticky actions (probability 0.1) and rising
difficulty are MinAtar's defaults. A step is one frame.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

CELL = 32  # pixels of a picture for each of the 10 x 10 places
# Okabe and Ito's colours and four more, one for each kind of thing; a game has at most ten.
_HEX = "56B4E9 E69F00 009E73 F0E442 0072B2 D55E00 CC79A7 FFFFFF A6761D 999999"
_COLORS = np.frombuffer(bytes.fromhex(_HEX), np.uint8).reshape(-1, 3)
_GROUND, _LINES = 24, 8  # greys of an empty place and of what is between places

GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")


class MinAtarEnv(gym.Env[np.ndarray, np.integer]):
    """
    One MinAtar game; observations are ``(channels, 10, 10)`` uint8, 0 or 255.

    :param game: MinAtar's own name of the game, e.g. ``"space_invaders"``
    :param minimal_actions: only the actions that do something in this game
    :param render_mode: ``"rgb_array"``: :meth:`render` gives pictures
    :raises DependencyNotInstalled: MinAtar is not installed
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, game: str, minimal_actions: bool = True, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        try:
            from minatar import Environment
        except ImportError:
            raise gym.error.DependencyNotInstalled("MinAtar: pip install 'sbbatch[minatar]'") from None
        self._game = Environment(game)
        self._actions = self._game.minimal_action_set() if minimal_actions else list(range(self._game.num_actions()))
        height, width, n_channels = self._game.state_shape()
        self.observation_space = spaces.Box(0, 255, (n_channels, height, width), np.uint8)
        self.action_space = spaces.Discrete(len(self._actions))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Start a game, whose own generator gets the seed; returns the first image, and nothing."""
        super().reset(seed=seed)
        if seed is not None:
            self._game.seed(seed)
            self._game.last_action = 0  # sticky actions would repeat the last game's, and the seed not its games
        self._game.reset()
        return self._image(), {}

    def step(self, action: np.integer) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Returns image, reward, whether the game is over, False (it has no time limit), and nothing."""
        reward, over = self._game.act(self._actions[int(action)])
        return self._image(), float(reward), bool(over), False, {}

    def render(self) -> np.ndarray | None:
        """A picture ``(320, 320, 3)`` uint8, each kind of thing in its colour; ``None`` if none were asked for."""
        return draw_maps(self._game.state()) if self.render_mode == "rgb_array" else None

    def _image(self) -> np.ndarray:
        return self._game.state().transpose(2, 0, 1).astype(np.uint8) * np.uint8(255)


def draw_maps(maps: np.ndarray) -> np.ndarray:
    """
    A picture of the maps that say where each kind of thing is; the last kind hides the others.

    :param maps: boolean ``(height, width, kinds)``
    :return: ``(CELL * height, CELL * width, 3)`` uint8
    """
    places = np.full((*maps.shape[:2], 3), _GROUND, np.uint8)
    for kind in range(maps.shape[2]):
        places[maps[..., kind]] = _COLORS[kind % len(_COLORS)]
    picture = places.repeat(CELL, axis=0).repeat(CELL, axis=1)
    picture[::CELL] = picture[:, ::CELL] = _LINES
    return picture


def register_minatar() -> None:
    """Make the games known to Gymnasium under MinAtar's own ids."""
    for game in GAMES:
        own_name = "".join(f"_{c.lower()}" if c.isupper() else c for c in game).lstrip("_")
        for version, minimal in (("v0", False), ("v1", True)):
            kwargs = {"game": own_name, "minimal_actions": minimal}
            gym.register(f"MinAtar/{game}-{version}", f"{__name__}:MinAtarEnv", kwargs=kwargs)
