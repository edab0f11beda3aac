"""Self-predictive representations."""

from __future__ import annotations

from sbbatch.agents.rainbow import Rainbow
from sbbatch.batch.protocol import BatchScaling
from sbbatch.components.augmentation import ShiftAndIntensity
from sbbatch.networks.auxiliary import SelfPrediction
from sbbatch.networks.initializers import glorot_uniform
from sbbatch.networks.network_defaults import NetworkDefaults


class SPR(
    Rainbow,
    defaults={
        "auxiliary": SelfPrediction(),
        "augmentation": ShiftAndIntensity(),
        "learning_rate": 1e-4,
        "learning_starts": 2_000,
        "train_freq": 1,
        "gradient_steps": 2,
        "n_steps": 10,
        "target_update_interval": 1,
        "exploration_initial_eps": 1.0,
        "exploration_fraction": 0.02,
    },
):
    """
    SPR (Schwarzer et al. 2021): Rainbow for 100,000 agent steps, which learns from augmented images with two gradient
    steps a step, and predicts the features of the next five observations
    (:class:`~sbbatch.networks.auxiliary.SelfPrediction`). Numbers and network are those of Dopamine (google/dopamine:
    labs/atari_100k/configs/SPR.gin): features are scaled to [0, 1], the target network is copied after every step. An
    Atari game given by its name is built with the protocol of Atari 100k.

    Without its auxiliary loss (``auxiliary=NoAuxiliary()``, or a weight of 0) it is a Rainbow.

    Deviations from Dopamine: n-step returns are the papers' (there: one reward, and the discount of ten); epsilon
    falls over the first 2 % of the run, 2,000 of 100,000 steps, as in the authors' code (there: from step 2,000 to
    4,001); shifts reach -4 to 4 pixels (there: -4 to 3); the mask of the predictions leaves out what an episode ends
    with, not the step before as well; the prediction head starts from Glorot's weights; and those of Rainbow.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    scaling_defaults = BatchScaling("batch_size", 16, 64, check_every=2_000, updates=8)  # 50 times in 100,000 steps
    atari_protocol = "atari100k"
    network_defaults = NetworkDefaults(
        layers={"dueling": "output", "noisy_sigma0": 0.5, "initializer": glorot_uniform},
        torso={"features_extractor_kwargs": {"padding": "same", "renormalize": True}},
        optimizer={"eps": 1.5e-4},
    )
