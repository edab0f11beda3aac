"""Rainbow, full and compact."""

from __future__ import annotations

from typing import Any

from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.components.bootstrap import Double
from sbbatch.networks.heads import CategoricalHead
from sbbatch.networks.initializers import glorot_uniform, variance_scaling
from sbbatch.networks.network_defaults import NetworkDefaults

_SAME_PADDING = {"features_extractor_kwargs": {"padding": "same"}}
_COMMON: dict[str, Any] = {
    "head": CategoricalHead,
    "learning_rate": 6.25e-5,
    "n_steps": 3,
    "prioritized": True,
    "learning_starts": 20_000,
    "target_update_interval": 8_000,
    "max_grad_norm": None,
}


class Rainbow(
    ReplayAgent,
    defaults=_COMMON
    | {
        "bootstrap": Double(),
        "exploration_initial_eps": 0.0,
        "exploration_final_eps": 0.0,
        "random_warmup": False,
    },
):
    """
    Rainbow (Hessel et al. 2018): categorical returns, double Q-learning, dueling, noisy layers, 3-step returns and
    prioritized replay. Numbers and network are those of Dopamine (google/dopamine: full_rainbow.gin): padding "same",
    values and advantages part at the last layer, noise of scale 0.1, importance exponent fixed at 0.5. For the paper's
    own: ``policy_kwargs=dict(dueling="streams", noisy_sigma0=0.5, features_extractor_kwargs=dict(padding="valid"))``
    and an ``importance_exponent`` that rises from 0.4 to 1.

    Exploration is by noise alone, from the first step on; evaluation has neither noise nor epsilon.

    Every part can be taken away by its neutral value: ``bootstrap=Greedy()``, ``head=ExpectedHead``, ``n_steps=1``,
    ``prioritized=False``, ``policy_kwargs=dict(dueling=None)``, ``policy_kwargs=dict(noisy_sigma0=0)``. Without noise
    give it epsilon instead, e.g. ``exploration_initial_eps=1.0, exploration_decay_steps=250_000,
    exploration_final_eps=0.01, random_warmup=True``: its own first epsilon is 0. The compact form that the small-batch
    paper calls Rainbow is :class:`CompactRainbow`.

    Deviation from Dopamine: each noisy layer has noise of its own, Dopamine's layers share it; evaluation is greedy,
    Dopamine's epsilon there is 0.001; draws from the replay are stratified, as in the paper.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    network_defaults = NetworkDefaults(
        layers={"dueling": "output", "noisy_sigma0": 0.1, "initializer": glorot_uniform},
        torso=_SAME_PADDING,
        optimizer={"eps": 1.5e-4},
    )


class CompactRainbow(
    ReplayAgent,
    defaults=_COMMON
    | {
        "exploration_decay_steps": 250_000,
        "exploration_final_eps": 0.01,
    },
):
    """
    Dopamine's Rainbow, which the small-batch paper ran: categorical returns, 3-step returns and prioritized replay,
    without double Q-learning, dueling and noise (google/dopamine: rainbow.gin). The small batch is ``batch_size=8``.

    Deviation from Dopamine: evaluation is greedy, Dopamine's epsilon there is 0.001; draws from the replay are
    stratified.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    network_defaults = NetworkDefaults(
        layers={"initializer": variance_scaling},
        torso=_SAME_PADDING,
        optimizer={"eps": 1.5e-4},
    )
