"""Environments: Atari protocols as data, and ALE's C++ vector environment behind SB3's interface."""

from sbbatch.envs.ale import AleVecEnv, make_ale_vec_env
from sbbatch.envs.atari import PROTOCOLS, AtariProtocol

__all__ = ["PROTOCOLS", "AleVecEnv", "AtariProtocol", "make_ale_vec_env"]
