"""Replay memory: which transitions are drawn, what is stored, how a batch is built."""

from sbbatch.replay.batch import ReplayBatch
from sbbatch.replay.buffer import FrameReplayBuffer
from sbbatch.replay.samplers import PrioritizedSampler, UniformSampler

__all__ = ["FrameReplayBuffer", "PrioritizedSampler", "ReplayBatch", "UniformSampler"]
