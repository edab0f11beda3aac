"""What an environment may be: checked where it comes in, before SB3 stumbles over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.errors import InvalidType, InvalidValue, describe, describe_space

SIMPLE_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_environment(env: object) -> None:
    """
    What an agent can observe: SB3's own complaints are of several kinds, and some come with the first step.

    :raises InvalidType: no environment
    :raises InvalidValue: observations no policy can be built for
    """
    if isinstance(env, type) or not hasattr(env, "step"):
        hint = "; call the class to make one" if isinstance(env, type) and issubclass(env, (gym.Env, VecEnv)) else ""
        raise InvalidType(f"env: got {describe(env)}, expected an environment, a vector environment or an id{hint}")
    if not isinstance(env, (gym.Env, VecEnv)):
        return  # perhaps one of the old gym, which SB3 converts
    space = getattr(env, "observation_space", None)
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    actions = getattr(env, "action_space", None)
    if isinstance(actions, spaces.Box) and not actions.is_bounded():  # SB3 refuses it before we could say more
        raise InvalidValue(
            f"action space: got {describe_space(actions)} without bounds, expected finite ones; change it with a "
            "wrapper"
        )
    for key, part in parts.items():
        _check_observations(f"observation space{f' {key}' if key else ''}", part)
    if not parts:
        raise InvalidValue("observation space: got an empty Dict, expected something to observe")


def _check_observations(where: str, space: spaces.Space | None) -> None:
    got = f"{where}: got {describe_space(space)}"
    if not isinstance(space, SIMPLE_SPACES):
        raise InvalidValue(
            f"{got}, expected Box, Discrete, MultiDiscrete or MultiBinary, or a Dict of them; change it with a wrapper "
            "such as gymnasium.wrappers.FlattenObservation"
        )
    if isinstance(space, spaces.Box) and not (space.shape and all(space.shape)):
        raise InvalidValue(f"{got}, expected at least one dimension and one number; reshape it with a wrapper")


def check_same_spaces(where: str, trained: Mapping[str, Any], env: VecEnv) -> None:
    """Refuse an environment that the agent with these attributes was not trained in; ``where`` is the method."""
    for what in ("observation", "action"):
        ours, theirs = trained[f"{what}_space"], getattr(env, f"{what}_space")
        if ours != theirs:
            texts = describe_space(ours), describe_space(theirs)
            given = texts[1] if texts[0] != texts[1] else "the same with other bounds"
            raise InvalidValue(
                f"{where}: the agent was trained with {what}s {texts[0]}, the environment has {given}; give it the "
                "environment it was trained in"
            )
