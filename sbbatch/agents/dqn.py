"""Deep Q-Network."""

from __future__ import annotations

from sbbatch.agents.base.replay import ReplayAgent


class DQN(ReplayAgent, defaults={}):
    """
    Deep Q-Network (Mnih et al. 2015), drop-in for SB3's ``DQN``: same arguments, defaults and logger keys.

    The head is :class:`~sbbatch.networks.heads.ExpectedHead`; ``policy_kwargs=dict(loss="mse")`` takes Dopamine's
    squared error instead of SB3's Huber loss. The small-batch paper's DQN (Dopamine's) is in ``hyperparams/dqn.yml``;
    a small batch helps it only with ``n_steps`` above 1 (Obando-Ceron et al. 2023, Fig. 7 and 10).

    Deviation from the papers: weights start as PyTorch's defaults, as in SB3 (that file has Dopamine's
    ``initializer``); evaluation is greedy, so that it is deterministic, Dopamine's epsilon there is 0.001.

    Arguments: see :class:`~sbbatch.agents.base.replay.ReplayAgent`.
    """
