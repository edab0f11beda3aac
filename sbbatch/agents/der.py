"""Data-efficient Rainbow."""

from __future__ import annotations

from sbbatch.agents.rainbow import Rainbow
from sbbatch.batch.protocol import BatchScaling


class DER(
    Rainbow,
    defaults={
        "learning_rate": 1e-4,
        "learning_starts": 1_600,
        "train_freq": 1,
        "n_steps": 10,
        "target_update_interval": 2_000,
    },
):
    """
    Data-efficient Rainbow (van Hasselt et al. 2019): :class:`~sbbatch.agents.rainbow.Rainbow` for 100,000 agent steps,
    with an update at every step and longer returns. Numbers and network are those of Dopamine (google/dopamine:
    labs/atari_100k/configs/DER.gin). The paper's returns are of 20 steps and its network is smaller:
    ``n_steps=20, policy_kwargs=dict(features_extractor_class=DataEfficientCNN, dueling="streams")``, with an
    ``importance_exponent`` that rises from 0.4 to 1.

    An Atari game given by its name is built with the protocol of Atari 100k. Exploration is by noise alone, from the
    first step on (Dopamine's file has numbers for epsilon, which its noisy agent does not use).

    Deviations from Dopamine: those of Rainbow; n-step returns end at a time limit with the discount of the steps they
    have.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    scaling_defaults = BatchScaling("batch_size", 16, 64, check_every=2_000, updates=8)  # 50 times in 100,000 steps
    atari_protocol = "atari100k"
