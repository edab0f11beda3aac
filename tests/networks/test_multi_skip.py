"""The torso of PQN-L and PQN-XL."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn
from torch.nn.functional import layer_norm

from sbbatch.networks.initializers import orthogonal
from sbbatch.networks.layer_norm import ImageLayerNorm
from sbbatch.networks.multi_skip import MultiSkip, MultiSkipCNN

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("n_blocks", [0, 1, 3])
def test_blocks_are_the_published_formula(n_blocks):
    th.manual_seed(0)
    network, inputs = MultiSkip(9, 6, n_blocks), th.randn(4, 9)
    first = hidden = layer_norm(network.first[0](inputs), (6,))  # no activation
    for block in network.blocks:
        one, two = (layer for layer in block.layers if isinstance(layer, nn.Linear))
        hidden = th.relu(hidden + layer_norm(two(layer_norm(one(hidden), (6,)).relu()), (6,))) + first
    th.testing.assert_close(network(inputs), hidden)


def test_convolutions_are_twice_natures_with_norms():
    torso = MultiSkipCNN(ATARI)
    assert n_parameters(torso.cnn) == 379_712
    norms = [layer.normalized_shape for layer in torso.cnn if isinstance(layer, ImageLayerNorm)]
    assert norms == [(20, 20, 64), (9, 9, 128), (7, 7, 128)]
    assert torso.linear.first[0].in_features == 6_272
    assert torso(th.rand(2, 4, 84, 84)).shape == (2, torso.features_dim) == (2, 512)


def test_maps_stay_channels_last_up_to_the_flattening():
    torso = MultiSkipCNN(ATARI, n_blocks=0)
    maps = th.rand(2, 4, 84, 84).to(memory_format=th.channels_last)
    for layer in torso.cnn[:-1]:
        maps = layer(maps)
        assert maps.is_contiguous(memory_format=th.channels_last), layer


def test_every_linear_map_starts_orthogonal():
    torso = MultiSkipCNN(ATARI, features_dim=32, n_blocks=2)
    orthogonal(torso)
    for layer in torso.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            rows = layer.weight.flatten(1)
            th.testing.assert_close(rows @ rows.T, 2 * th.eye(len(rows)), rtol=0, atol=1e-4)
            assert not layer.bias.any()
