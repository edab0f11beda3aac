"""Torsos: parameter counts of the published networks, and equality with SB3's."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from torch import nn
from torch.nn.utils import parametrize

from sbbatch.networks.heads import CategoricalHead, ExpectedHead, ImplicitQuantileHead, QuantileHead
from sbbatch.networks.impala import ImpalaCNN, ResidualBlock
from sbbatch.networks.layers import SameConv2d
from sbbatch.networks.torsos import MinAtarCNN, NatureCNN
from sbbatch.networks.value_policy import CnnPolicy

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)


SAME = {"features_extractor_kwargs": {"padding": "same"}}
CNN_X4 = {"features_extractor_kwargs": {"padding": "same", "width": 4}}
IMPALA = {"features_extractor_class": ImpalaCNN}
BTR_NETWORK = {
    "dueling": "streams",
    "noisy_sigma0": 0.5,
    "features_extractor_class": ImpalaCNN,
    "features_extractor_kwargs": {"width": 2, "pool": 6, "spectral_norm": True},
}


def q_net_of(head_class, n_actions, **policy_kwargs):
    return CnnPolicy(ATARI, spaces.Discrete(n_actions), lambda _: 1e-4, head_class=head_class, **policy_kwargs).q_net


def n_parameters(network, means_only=False):
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not (means_only and name.endswith("_sigma"))
    )


@pytest.mark.parametrize(
    ("head_class", "policy_kwargs", "counts"),
    [
        (ExpectedHead, SAME, (4_045_476, 4_052_658)),
        (ExpectedHead, {}, (1_686_180, 1_693_362)),
        (CategoricalHead, SAME, (4_148_076, 4_514_358)),
        (QuantileHead, SAME, (4_453_824, 5_890_224)),
        (ImplicitQuantileHead, SAME, (4_548_836, 4_556_018)),
        (CategoricalHead, SAME | {"dueling": "output", "noisy_sigma0": 0.1}, (8_270_494, 9_003_058)),
        (CategoricalHead, {"dueling": "streams", "noisy_sigma0": 0.5}, (6_764_190, 7_496_754)),
        (ExpectedHead, SAME | {"dueling": "output"}, (4_045_989, 4_053_171)),  # DrQ
        (QuantileHead, CNN_X4, (17_418_144, 18_854_544)),
        (QuantileHead, IMPALA, (2_491_120, 3_927_520)),
        (ImplicitQuantileHead, BTR_NETWORK, (5_264_554, 5_278_918)),
    ],
)
def test_parameter_counts_are_the_published_ones(head_class, policy_kwargs, counts):
    for n_actions, count in zip((4, 18), counts, strict=True):
        assert n_parameters(q_net_of(head_class, n_actions, **policy_kwargs)) == count


@pytest.mark.parametrize(("n_actions", "count"), [(4, 2_901_669), (18, 2_908_851)])
def test_btr_has_the_papers_parameters_and_twelve_normalised_layers(n_actions, count):
    network = q_net_of(ImplicitQuantileHead, n_actions, **BTR_NETWORK)
    assert n_parameters(network, means_only=True) == count
    normalised = [module for module in network.modules() if parametrize.is_parametrized(module)]
    assert len(normalised) == 12
    assert all(isinstance(module, nn.Conv2d) for module in normalised)


def test_btrs_maps_have_the_papers_sizes():
    torso = ImpalaCNN(ATARI, width=2, pool=6)
    sizes, maps = [], th.zeros(1, 4, 84, 84)
    for module in torso.cnn:
        maps = module(maps)
        if isinstance(module, nn.MaxPool2d):
            sizes.append(tuple(maps.shape[1:]))
    assert sizes == [(32, 42, 42), (64, 21, 21), (64, 11, 11)]
    assert torso.features_dim == 2_304


def test_impala_is_the_published_formula():
    torso, images = ImpalaCNN(ATARI, width=1), th.rand(2, 4, 84, 84)
    convs = (module for module in torso.modules() if isinstance(module, nn.Conv2d))
    maps = images
    for _ in range(3):
        maps = nn.functional.max_pool2d(next(convs)(maps), 3, 2, 1)
        for _ in range(2):
            first, second = next(convs), next(convs)
            maps = maps + second(first(maps.relu()).relu())
    th.testing.assert_close(torso(images), maps.relu().flatten(1), rtol=1e-4, atol=1e-5)


def test_power_iteration_runs_in_training_mode_only():
    torso = ImpalaCNN(ATARI, width=1, spectral_norm=True)
    images = th.rand(2, 4, 84, 84)
    torso.eval()
    before = {name: buffer.clone() for name, buffer in torso.named_buffers()}
    first = torso(images)
    th.testing.assert_close(torso(images), first, rtol=0, atol=0)
    assert all(th.equal(buffer, before[name]) for name, buffer in torso.named_buffers())
    torso.train()
    torso(images)
    assert not all(th.equal(buffer, before[name]) for name, buffer in torso.named_buffers())


def test_normalised_kernels_have_a_largest_singular_value_of_one():
    torso = ImpalaCNN(ATARI, width=1, spectral_norm=True)
    with th.no_grad():
        for _ in range(50):
            torso(th.zeros(1, 4, 84, 84))
    block = next(module for module in torso.modules() if isinstance(module, ResidualBlock))
    assert th.linalg.matrix_norm(block.first.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("policy_kwargs", "features_dim", "hidden"),
    [
        ({}, 512, []),
        ({"dueling": "output"}, 512, []),
        ({"dueling": "streams"}, 3_136, [512]),
        ({"noisy_sigma0": 0.5}, 3_136, [512]),
        ({"noisy_sigma0": 0.5, "net_arch": [64]}, 512, [64]),
        ({"noisy_sigma0": 0.5, "features_extractor_kwargs": {"features_dim": 256}}, 256, []),
        ({"features_extractor_kwargs": {"features_dim": None}}, 3_136, [512]),
    ],
)
def test_the_hidden_layer_belongs_to_the_head_where_the_head_needs_it(policy_kwargs, features_dim, hidden):
    network = q_net_of(ExpectedHead, 4, **policy_kwargs)
    assert network.features_extractor.features_dim == features_dim
    layers = [module for module in network.head.layers.hidden if not isinstance(module, nn.ReLU)]
    assert [module.bias.shape[0] for module in layers] == hidden


def test_minatar_network_has_sixteen_channels_and_128_features():
    torso = MinAtarCNN(spaces.Box(0, 255, (4, 10, 10), np.uint8))
    assert torso(th.zeros(2, 4, 10, 10)).shape == (2, 128)
    assert n_parameters(torso) == (4 * 9 + 1) * 16 + (16 * 64 + 1) * 128


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


@pytest.mark.parametrize("torso", [MinAtarCNN, NatureCNN, ImpalaCNN])
def test_sb3s_orthogonal_start_reaches_the_convolutions_and_leaves_them_channels_last(torso):
    images = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    policy = ActorCriticPolicy(images, spaces.Discrete(3), lambda _: 1e-3, features_extractor_class=torso, net_arch=[])
    first = next(module for module in policy.features_extractor.cnn.modules() if isinstance(module, nn.Conv2d))
    rows = first.weight.detach().contiguous().flatten(1)
    # Rows of length sqrt(2), at right angles: W Wᵀ = 2 I (of 16 and 32 rows of 36 and more weights).
    assert th.allclose(rows @ rows.T, 2 * th.eye(len(rows)), atol=1e-5)
    assert first.weight.is_contiguous(memory_format=th.channels_last)


SMALL = {"features_extractor_class": MinAtarCNN}


class Frozen(nn.BatchNorm1d):
    """Always in evaluation mode, as people freeze their batch norms."""

    def train(self, mode=True):
        return super().train(False)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, Frozen])
def test_the_mode_reaches_every_module_as_it_wants(norm):
    policy = CnnPolicy(spaces.Box(0, 255, (4, 10, 10), np.uint8), spaces.Discrete(3), lambda _: 1e-3, **SMALL)
    policy.q_net.head.layers.hidden.append(norm(128))
    for mode in (True, False, True):
        policy.set_training_mode(mode)
        modes = [module.training for module in policy.q_net.modules() if not isinstance(module, Frozen)]
        assert set(modes) == {mode}
        assert policy.training is mode
        assert policy.q_net.head.layers.hidden[-1].training is (mode and norm is not Frozen)
        assert not any(module.training for module in policy.q_net_target.modules())
