"""Torsos: parameter counts of the published networks, and equality with SB3's."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN

from sbbatch.errors import InvalidValue
from sbbatch.networks.heads import ExpectedHead, QuantileHead
from sbbatch.networks.layers import SameConv2d
from sbbatch.networks.torsos import NatureCNN
from sbbatch.policies import CnnPolicy

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)


@pytest.mark.parametrize(
    ("head_class", "padding", "n_actions", "n_parameters"),
    [
        (ExpectedHead, "same", 4, 4_045_476),
        (ExpectedHead, "same", 6, 4_046_502),
        (ExpectedHead, "same", 18, 4_052_658),
        (ExpectedHead, "valid", 4, 1_686_180),
        (ExpectedHead, "valid", 6, 1_687_206),
        (ExpectedHead, "valid", 18, 1_693_362),
        (QuantileHead, "same", 4, 4_453_824),
        (QuantileHead, "same", 6, 4_659_024),
        (QuantileHead, "same", 18, 5_890_224),
    ],
)
def test_parameter_counts_are_the_published_ones(head_class, padding, n_actions, n_parameters):
    policy = CnnPolicy(
        ATARI,
        spaces.Discrete(n_actions),
        lambda _: 1e-4,
        head_class=head_class,
        features_extractor_kwargs={"padding": padding},
    )
    assert sum(p.numel() for p in policy.q_net.parameters()) == n_parameters


def test_valid_padding_is_sb3s_network():
    ours, theirs = NatureCNN(ATARI), SB3NatureCNN(ATARI)
    ours.load_state_dict(theirs.state_dict())
    images = th.rand(3, 4, 84, 84)
    th.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-6)


def test_same_padding_keeps_the_map_sizes_of_flax():
    torso = NatureCNN(ATARI, padding="same")
    sizes, maps = [], th.zeros(1, 4, 84, 84)
    for module in torso.cnn:
        maps = module(maps)
        if isinstance(module, SameConv2d):
            sizes.append(tuple(maps.shape[1:]))
    assert sizes == [(32, 21, 21), (64, 11, 11), (64, 11, 11)]
    assert maps.shape == (1, 7_744)


def test_odd_padding_goes_right_and_below():
    # 21 pixels, kernel 4, stride 2: ceil(21 / 2) = 11 outputs need (11 - 1) * 2 + 4 = 24 pixels,
    # 3 more than there are: 1 before, 2 after
    conv = SameConv2d(1, 1, 4, 2, bias=False)
    th.nn.init.ones_(conv.weight)
    column = th.zeros(1, 1, 21, 21)
    column[..., 0, 0] = 1.0  # seen by windows that start at -1 (rows -1..2) only
    assert conv(column).nonzero().tolist() == [[0, 0, 0, 0]]
    column = th.zeros(1, 1, 21, 21)
    column[..., 20, 20] = 1.0  # windows start at -1, 1, ..., 17, 19: rows 17..20 and 19..22 see it
    assert conv(column).nonzero()[:, 2:].tolist() == [[9, 9], [9, 10], [10, 9], [10, 10]]


def test_vectors_and_misspelt_paddings_are_refused():
    with pytest.raises(InvalidValue, match="use MlpPolicy"):
        NatureCNN(spaces.Box(-1, 1, (4,), np.float32))
    with pytest.raises(InvalidValue, match="did you mean 'same'"):
        NatureCNN(ATARI, padding="sane")
