"""The gradient noise scale against numbers worked out by hand."""

import pytest
import torch as th

from sbbatch.functional.noise_scale import gradient_noise_scale


def test_four_parts_of_eight_samples():
    # mean [0.975, 0.05]; squared distances 0.003125, 0.053125, 0.073125, 0.008125: sum 0.1375, / 3 = 0.045833
    gradients = th.tensor([[1.0, 0.0], [0.8, 0.2], [1.2, -0.1], [0.9, 0.1]], dtype=th.float64)
    noise, signal = gradient_noise_scale(gradients, 8)
    assert noise == pytest.approx(0.366666667, abs=1e-9)  # 8 * 0.045833
    assert signal == pytest.approx(0.941666667, abs=1e-9)  # 0.950625 + 0.0025 - 0.366667 / 32
    assert noise / signal == pytest.approx(0.389380531, abs=1e-9)


@pytest.mark.parametrize(
    ("parts", "part_size", "noise", "signal"),
    [
        # four samples with gradients [1, 0], [3, 0], [2, 1], [2, -1]
        ([[1, 0], [3, 0], [2, 1], [2, -1]], 1, 4 / 3, 4 - 1 / 3),
        ([[1.5, 0.5], [2.5, -0.5]], 2, 2.0, 3.5),  # means of samples 1 and 3, 2 and 4
        ([[2, 0], [2, 0]], 2, 0.0, 4.0),
    ],
)
def test_the_same_batch_in_other_parts(parts, part_size, noise, signal):
    measured = gradient_noise_scale(th.tensor(parts, dtype=th.float64), part_size)
    assert measured == pytest.approx((noise, signal))


def test_both_estimates_are_unbiased():
    generator = th.Generator().manual_seed(0)
    mean, deviation = th.tensor([0.3, -0.2, 0.1]), 0.5  # |G|^2 = 0.14, tr(Sigma) = 3 * 0.25
    samples = mean + deviation * th.randn(5_000, 8, 4, 3, generator=generator)  # 8 parts of 4 samples
    measured = th.tensor([gradient_noise_scale(parts, 4) for parts in samples.mean(dim=2)])
    assert measured.mean(dim=0).tolist() == pytest.approx([0.75, 0.14], rel=0.03)
