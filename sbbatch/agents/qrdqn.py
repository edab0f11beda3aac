"""Quantile-regression DQN."""

from __future__ import annotations

from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.networks.heads import QuantileHead
from sbbatch.networks.network_defaults import NetworkDefaults


class QRDQN(
    ReplayAgent,
    defaults={
        "head": QuantileHead,
        "learning_rate": 5e-5,
        "exploration_fraction": 0.005,
        "exploration_final_eps": 0.01,
        "max_grad_norm": None,
    },
):
    """
    Quantile-regression DQN (Dabney et al. 2018a), drop-in for sb3-contrib's ``QRDQN``: same arguments, defaults and
    logger keys. It is the main agent of the small-batch paper; that protocol (Dopamine's) is in
    ``hyperparams/qrdqn.yml``, and the small batch is ``batch_size=8``.

    The head is :class:`~sbbatch.networks.heads.QuantileHead`; ``policy_kwargs=dict(n_quantiles=50)`` sets the number of
    quantiles, 200 by default.

    Deviation from sb3-contrib: Adam's epsilon is 0.01 / 32 whatever the batch size. There it is 0.01 / ``batch_size``,
    so that a study over batch sizes varies the optimizer as well. At the default batch size of 32 both are equal.

    Deviation from the paper and from Dopamine: weights start as PyTorch's defaults, as in SB3 and sb3-contrib (that
    file has Dopamine's ``initializer``); evaluation is greedy, so that it is deterministic, Dopamine's epsilon there is
    0.001.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """

    network_defaults = NetworkDefaults(optimizer={"eps": 0.01 / 32})

    @property
    def n_quantiles(self) -> int:
        """Number of quantiles."""
        return self.q_net.head.n_quantiles  # type: ignore[return-value]
