"""Beyond The Rainbow."""

from __future__ import annotations

from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.batch.protocol import BatchScaling
from sbbatch.components.bootstrap import Munchausen
from sbbatch.networks.heads import ImplicitQuantileHead
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.network_defaults import NetworkDefaults


class BTR(
    ReplayAgent,
    defaults={
        "head": ImplicitQuantileHead,
        "bootstrap": Munchausen(),
        "buffer_size": 2**20,
        "learning_starts": 200_000,
        "batch_size": 256,
        "gamma": 0.997,
        "train_freq": 1,
        "n_steps": 3,
        "target_update_interval": 32_000,
        "prioritized": True,
        "priority_exponent": 0.2,
        "importance_exponent": 0.2,
        "priority_epsilon": 1e-6,
        "priority_from": "td_error",
        "exploration_decay": "geometric",
        "exploration_decay_steps": 2_000_000,
        "exploration_final_eps": 0.01,
        "exploration_stop": 0.5,
        "random_warmup": False,
    },
):
    """
    Beyond The Rainbow (Clark et al. 2025): Rainbow without double Q-learning and categorical returns, with a wider
    Impala network, adaptive max-pool, spectral normalisation, implicit quantiles, Munchausen targets and 64
    environments side by side.

    An Atari game given by its name is built 64 times. ``train_freq`` counts vector steps, so that with 64 environments
    there is one gradient step per 64 agent steps; with another number of environments keep the samples per agent step
    (4 at 256 samples per 64 steps) rather than the numbers. The target network is copied every 32,000 agent steps,
    which are the paper's 500 gradient steps. Adam's epsilon is 0.005 / 256 whatever the batch size (the paper:
    0.005 / batch size).

    As in the released code and unlike the paper's text: the exploration rate falls geometrically, the Munchausen bonus
    comes from the online network, the importance exponent is 0.2.

    Deviations from the released code: a truncated n-step return is discounted by the steps it has (there: always
    three) and time limits do not end the return; the learner draws noise of its own (there: the last acting
    step's); the power iteration of the spectral norm runs in learning only (there: in every forward); evaluation is
    greedy, without noise and at the midpoint fractions (there: epsilon 0.01 in the first half); an update may draw
    the newest step (there: it runs while the environments step); the layer norm that the authors added after
    publication is not offered; a fraction draw is shared between the action values and the loss of the same
    forward, as in the authors' single-file release.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    scaling_defaults = BatchScaling("batch_size", 128, 512, check_every=102_400, updates=8, quantum=16)
    atari_protocol = "btr"
    atari_envs = 64
    network_defaults = NetworkDefaults(
        head={ImplicitQuantileHead: {"n_taus": 8, "n_target_taus": 8, "n_policy_taus": None, "first_cosine": 0}},
        layers={"dueling": "streams", "noisy_sigma0": 0.5},
        torso={
            "features_extractor_class": ImpalaCNN,
            "features_extractor_kwargs": {"width": 2, "pool": 6, "spectral_norm": True},
        },
        optimizer={"eps": 0.005 / 256},
    )
