"""Pytest plugin: sbbatch's classes stand in for SB3's and sb3-contrib's, so that their own tests run on ours."""

from __future__ import annotations

import sb3_contrib
import stable_baselines3

import sbbatch

stable_baselines3.DQN, stable_baselines3.PPO = sbbatch.DQN, sbbatch.PPO
sb3_contrib.QRDQN = sbbatch.QRDQN
