"""How noisy a gradient is: the signal of the batch size's oldest theory."""

from __future__ import annotations

import torch as th


def gradient_noise_scale(gradients: th.Tensor, part_size: int) -> tuple[float, float]:
    """
    The two halves of the simple noise scale ``tr(Sigma) / |G|^2`` (McCandlish et al. 2018), each without bias, from the
    gradients ``g_k`` of ``K`` equal parts of one batch::

        noise  = m * sum_k |g_k - mean|^2 / (K - 1)         estimates tr(Sigma)
        signal = |mean|^2 - noise / (K * m)                 estimates |G|^2, and may be negative

    :param gradients: ``(K, parameters)``, at least two
    :param part_size: samples in each part, ``m``
    :return: noise and signal
    """
    n_parts = len(gradients)
    mean = gradients.mean(dim=0)
    noise = part_size * (gradients - mean).square().sum().item() / (n_parts - 1)
    return noise, mean.square().sum().item() - noise / (n_parts * part_size)
