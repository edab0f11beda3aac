"""Implicit quantile networks."""

from __future__ import annotations

from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.networks.heads import ImplicitQuantileHead
from sbbatch.networks.initializers import variance_scaling
from sbbatch.networks.network_defaults import NetworkDefaults


class IQN(
    ReplayAgent,
    defaults={
        "head": ImplicitQuantileHead,
        "learning_rate": 5e-5,
        "n_steps": 3,
        "learning_starts": 20_000,
        "target_update_interval": 8_000,
        "exploration_decay_steps": 250_000,
        "exploration_final_eps": 0.01,
        "max_grad_norm": None,
    },
):
    """
    Implicit quantile networks (Dabney et al. 2018b) as Dopamine configures them, one of the four agents of the
    small-batch paper: 64 fractions in the loss and in the target, 32 behind action values, 3-step returns, uniform
    replay, no double Q-learning (google/dopamine: implicit_quantile.gin). The small batch is ``batch_size=8``.

    The head is :class:`~sbbatch.networks.heads.ImplicitQuantileHead`; ``policy_kwargs=dict(n_taus=8)`` sets its
    arguments.

    Deviation from the paper: 3-step returns (the paper: 1), cosines from ``i = 1`` (the paper: 0), both as in Dopamine.

    Deviation from Dopamine: evaluation is greedy and takes the midpoint fractions instead of random ones, so that it is
    deterministic; Dopamine evaluates at epsilon 0.001.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    network_defaults = NetworkDefaults(
        layers={"initializer": variance_scaling},
        torso={"features_extractor_kwargs": {"padding": "same"}},
        optimizer={"eps": 0.01 / 32},
    )
