"""DrQ(eps): Q-learning from augmented images."""

from __future__ import annotations

from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.batch.protocol import BatchScaling
from sbbatch.components.augmentation import ShiftAndIntensity
from sbbatch.components.bootstrap import Double
from sbbatch.networks.initializers import glorot_uniform
from sbbatch.networks.network_defaults import NetworkDefaults


class DrQ(
    ReplayAgent,
    defaults={
        "augmentation": ShiftAndIntensity(),
        "bootstrap": Double(),
        "learning_starts": 1_600,
        "train_freq": 1,
        "n_steps": 10,
        "target_update_interval": 1,
        "exploration_decay_steps": 5_000,
        "exploration_final_eps": 0.01,
        "max_grad_norm": None,
    },
):
    """
    DrQ(eps) (Kostrikov et al. 2021; the epsilon is Agarwal et al.'s of 2021): a dueling DQN with double Q-learning and
    10-step returns for 100,000 agent steps, which learns from images that are shifted by up to 4 pixels and changed in
    their intensity. Numbers and network are those of Dopamine (google/dopamine: labs/atari_100k/configs/DrQ_eps.gin);
    its DrQ.gin differs in ``exploration_final_eps=0.1``. An Atari game given by its name is built with the protocol of
    Atari 100k.

    Every part can be taken away by its neutral value; without its augmentation (``augmentation=Identity()``) it is a
    DQN. Only images are augmented: from vectors it learns as that DQN.

    The target network is copied after every update, so that it is the online network without gradients, and double
    Q-learning changes nothing, until ``target_update_interval`` is larger.

    Deviations from Dopamine: shifts reach -4 to 4 pixels, as in the paper (there: -4 to 3,
    ``augmentation=ShiftAndIntensity(last=False)``); evaluation is greedy (there: epsilon 0.001); n-step returns end at
    a time limit with the discount of the steps they have.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    scaling_defaults = BatchScaling("batch_size", 16, 64, check_every=2_000, updates=8)  # 50 times in 100,000 steps
    atari_protocol = "atari100k"
    network_defaults = NetworkDefaults(
        layers={"dueling": "output", "initializer": glorot_uniform},
        torso={"features_extractor_kwargs": {"padding": "same"}},
        optimizer={"eps": 1.5e-4},
    )
