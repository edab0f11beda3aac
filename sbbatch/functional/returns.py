"""Terms of return targets."""

from __future__ import annotations

import torch as th
import torch.nn.functional as F


def scaled_log_policy(q_values: th.Tensor, temperature: float) -> th.Tensor:
    """
    ``t log softmax(q / t)``, the log-probabilities of the soft-greedy policy in units of the return (Vieillard et al.
    2020, Eq. 4 and appendix B.1, where the stable form is given)::

        q - max q - t logsumexp((q - max q) / t)

    :param q_values: ``(batch, actions)``
    :param temperature: t > 0
    :return: ``(batch, actions)``, at most 0
    """
    return temperature * F.log_softmax(q_values / temperature, dim=1)  # PyTorch subtracts the maximum itself
