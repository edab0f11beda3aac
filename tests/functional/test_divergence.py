"""Signals of policy change, worked by hand."""

import pytest
import torch as th

from sbbatch.functional.divergence import behavioral_divergence, categorical_kl, gaussian_kl


def test_behavioral_divergence_counts_changed_greedy_actions():
    before = th.tensor([[1, 2, 3], [3, 2, 1], [0, 5, 1], [2, 1.9, 1]]).argmax(1)  # 2, 0, 1, 0
    after = th.tensor([[1, 2.5, 2], [3, 2, 1], [0, 5, 6], [2, 2.1, 1]]).argmax(1)  # 1, 0, 2, 1
    assert behavioral_divergence(before, after) == 0.75


def test_gaussian_divergence_is_that_of_the_new_policy_from_the_old():
    new_mean, new_std = th.tensor([[0.1, -0.2]]), th.tensor([-0.5, 0.1]).exp()
    old_mean, old_std = th.zeros(1, 2), th.ones(2)
    # 0.5 + (e^-1 + 0.01) / 2 - 0.5 = 0.18893972 and -0.1 + (e^0.2 + 0.04) / 2 - 0.5 = 0.03070138
    assert gaussian_kl(new_mean, new_std, old_mean, old_std).item() == pytest.approx(0.2196411, abs=1e-6)
    assert gaussian_kl(old_mean, old_std, new_mean, new_std).item() == pytest.approx(0.398472315, abs=1e-6)


def test_categorical_divergence_is_pytorchs():
    th.manual_seed(0)
    new, old = th.randn(5, 4), th.randn(5, 4)
    distributions = (th.distributions.Categorical(logits=logits) for logits in (new, old))
    th.testing.assert_close(categorical_kl(new, old), th.distributions.kl_divergence(*distributions))
    assert categorical_kl(new, new).abs().max() < 1e-6
