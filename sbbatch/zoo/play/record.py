"""Episodes that people see: one as a film, or several in a window."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sbbatch.envs.make import canonical_id
from sbbatch.envs.stuck import STUCK_STEPS
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.play.film import film, film_file
from sbbatch.zoo.play.saved import SavedAgent
from sbbatch.zoo.play.scores import Episode
from sbbatch.zoo.play.screen import RenderedEnv, play_episode

MAX_STEPS = 27_000
_MAX_WINDOW_STEPS = 1_000_000  # of an episode in a window that nothing else ends


def record(
    model: Any,
    env_id: str,
    out: Path,
    *,
    seed: int | None = 0,
    max_steps: int = MAX_STEPS,
    deterministic: bool = True,
    stuck_steps: int = STUCK_STEPS,
    **options: Any,
) -> tuple[float, int]:
    """
    Play one whole episode and write a film of it: an MP4 or a GIF of at most 3 MB, as the file's name says.

    :param model: anything with SB3's ``predict``
    :param env_id: environment
    :param out: the ``.mp4`` or ``.gif``
    :param seed: of the environment
    :param max_steps: agent steps after which the recording ends
    :param deterministic: greedy actions
    :param stuck_steps: see :class:`~sbbatch.envs.stuck.StuckDetector`; -1: never
    :param options: further arguments of :class:`~sbbatch.zoo.play.screen.RenderedEnv`, e.g. ``protocol``
    :return: raw return and agent steps of the episode
    :raises UserError: the environment cannot be drawn, or the file not written
    """
    out = film_file(out)
    env = RenderedEnv(canonical_id(env_id), seed, **options)
    try:
        env.check_fits(model, env_id)
        with film(out, env.steps_per_second) as add:
            return play_episode(model, env, max_steps, deterministic, stuck_steps, lambda: add(env.frame()))
    finally:
        env.env.close()


def play_in_window(
    agent: SavedAgent,
    n_episodes: int | None = None,
    *,
    n_steps: int | None = None,
    max_steps: int | None = None,
    seed: int = 0,
    deterministic: bool = True,
    stuck_steps: int,
    device: str = "auto",
    verbose: int = 1,
) -> list[Episode]:
    """
    Play in a window, one episode after the other, until Ctrl-C at the latest.

    Arguments are those of :meth:`SavedAgent.play`.

    :param verbose: above 0: say the return of every episode
    """
    env = RenderedEnv(agent.env_id, seed, window=True, **agent.rendered_with())
    episodes: list[Episode] = []
    left = n_steps or sys.maxsize
    try:
        player = agent.load(device)
        env.check_fits(player, agent.env_id)
        while n_episodes is None or len(episodes) < n_episodes:
            longest = min(left, max_steps or _MAX_WINDOW_STEPS)
            score, steps = play_episode(player, env, longest, deterministic, stuck_steps)
            left -= steps
            if left <= 0:
                break
            episodes.append(Episode(score, steps))
            if verbose > 0:
                say(f"episode {len(episodes)}: return {score:.1f} in {steps:,} agent steps")
    except KeyboardInterrupt:
        say("")
    finally:
        env.env.close()
    return episodes
