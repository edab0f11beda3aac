"""Layer normalisation of images and of hidden layers: equal to PyTorch's, and the two forms worked by hand."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sbbatch.errors import InvalidValue
from sbbatch.networks.action_layers import LayerSpec
from sbbatch.networks.heads import ExpectedHead, ImplicitQuantileHead
from sbbatch.networks.initializers import INITIALIZERS
from sbbatch.networks.layer_norm import ImageLayerNorm
from sbbatch.networks.layers import NoisyLinear, mlp, stochastic
from sbbatch.networks.torsos import MinAtarCNN, NatureCNN

ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)
MINATAR = spaces.Box(0, 255, (4, 10, 10), np.uint8)


def kinds(network):
    return [type(module).__name__ for module in network]


def test_jointly_normalised_maps_worked_by_hand():
    # 0..7: mean 3.5, variance 5.25; (0 - 3.5) / sqrt(5.25 + 1e-5) = -1.52752376
    maps = ImageLayerNorm((2, 2, 2), "chw")(th.arange(8.0).reshape(1, 2, 2, 2))
    half = [0.21821769, 0.65465307, 1.09108841, 1.52752376]
    assert maps.flatten().tolist() == pytest.approx([-x for x in half[::-1]] + half, abs=1e-6)


def test_channels_normalised_at_each_pixel_worked_by_hand():
    # two channels 4 apart: mean in the middle, variance 4; 2 / sqrt(4 + 1e-6) = 0.99999988
    maps = ImageLayerNorm((2, 2, 2), "channel")(th.arange(8.0).reshape(1, 2, 2, 2))
    assert maps.flatten().tolist() == pytest.approx([-0.99999988] * 4 + [0.99999988] * 4, abs=1e-7)


@pytest.mark.parametrize("memory_format", [th.channels_last, th.contiguous_format])
def test_joint_normalisation_is_pytorchs_with_its_weights_in_another_order(memory_format):
    th.manual_seed(0)
    shape = (5, 4, 3)
    ours, theirs = ImageLayerNorm(shape, "chw"), nn.LayerNorm(shape)
    with th.no_grad():
        for name in ("weight", "bias"):
            getattr(theirs, name).normal_()
            getattr(ours, name).copy_(getattr(theirs, name).permute(1, 2, 0))
    maps = th.randn(6, *shape)
    inputs = [maps.clone().to(memory_format=memory_format).requires_grad_(), maps.clone().requires_grad_()]
    outputs = [ours(inputs[0]), theirs(inputs[1])]
    th.testing.assert_close(outputs[0], outputs[1])
    for output in outputs:
        output.sin().sum().backward()
    th.testing.assert_close(inputs[0].grad, inputs[1].grad)
    th.testing.assert_close(ours.weight.grad.permute(2, 0, 1), theirs.weight.grad)
    th.testing.assert_close(ours.bias.grad.permute(2, 0, 1), theirs.bias.grad)


def test_channels_last_maps_are_not_copied():
    maps = th.randn(2, 5, 4, 3).to(memory_format=th.channels_last)
    assert maps.permute(0, 2, 3, 1).is_contiguous()
    for mode in ("chw", "channel"):
        assert ImageLayerNorm((5, 4, 3), mode)(maps).is_contiguous(memory_format=th.channels_last)


@pytest.mark.parametrize(("mode", "count", "eps"), [("chw", 43_264, 1e-5), ("channel", 1_344, 1e-6)])
def test_nature_network_has_a_norm_before_every_relu(mode, count, eps):
    torso = NatureCNN(ATARI, layer_norm=mode)
    assert kinds(torso.cnn) == ["Conv2d", "ImageLayerNorm", "ReLU"] * 3 + ["Flatten"]
    assert kinds(torso.linear) == ["Linear", "LayerNorm", "ReLU"]
    norms = [module for module in torso.modules() if isinstance(module, nn.LayerNorm)]
    assert sum(parameter.numel() for norm in norms for parameter in norm.parameters()) == count
    assert {norm.eps for norm in norms} == {eps}
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


def test_nature_network_normalises_like_layers_of_pytorch():
    th.manual_seed(0)
    torso, images = NatureCNN(ATARI, layer_norm="chw"), th.rand(3, 4, 84, 84)
    maps = images
    for layer in torso.cnn:  # fresh norms have weight 1 and bias 0
        maps = nn.functional.layer_norm(maps, maps.shape[1:]) if isinstance(layer, ImageLayerNorm) else layer(maps)
    features = nn.functional.layer_norm(torso.linear[0](maps), (512,)).relu()
    th.testing.assert_close(torso(images), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("torso", "space"), [(NatureCNN, ATARI), (MinAtarCNN, MINATAR)])
def test_an_unknown_norm_is_refused(torso, space):
    with pytest.raises(InvalidValue, match="layer_norm: got 'chanel'; did you mean 'channel'"):
        torso(space, layer_norm="chanel")


def test_hidden_layers_are_normalised_before_their_activation():
    layers = mlp([3, 5, 4], nn.Tanh, layer_norm=True)
    assert kinds(layers) == ["Linear", "LayerNorm", "Tanh"] * 2
    inputs = th.randn(2, 3)
    hidden = nn.functional.layer_norm(layers[0](inputs), (5,)).tanh()
    th.testing.assert_close(layers(inputs), nn.functional.layer_norm(layers[3](hidden), (4,)).tanh())


@pytest.mark.parametrize("head", [ExpectedHead, ImplicitQuantileHead])
@pytest.mark.parametrize("dueling", [None, "output", "streams"])
def test_norms_noise_and_dueling_go_together(head, dueling):
    network = head(LayerSpec(7, 3, [16, 12], dueling=dueling, noisy_sigma0=0.5, layer_norm=True))
    assert [norm.normalized_shape for norm in network.modules() if isinstance(norm, nn.LayerNorm)].count((12,)) == (
        2 if dueling == "streams" else 1
    )
    assert any(isinstance(module, NoisyLinear) for module in network.modules())
    features = th.randn(4, 7)
    quiet = network(features).q_values
    with stochastic(network, np.random.default_rng(0)):
        assert not th.equal(network(features).q_values, quiet)


def test_the_norm_of_action_values_has_a_weight_for_each_action():
    head = ExpectedHead(LayerSpec(7, 3, [16]), output_layernorm=True)
    with th.no_grad():
        head.norm.weight.copy_(th.tensor([1.0, 2.0, 3.0]))
        head.norm.bias.copy_(th.tensor([0.5, 0.0, -0.5]))
    features = th.randn(4, 7)
    plain = head.layers(features).squeeze(2)
    normal = (plain - plain.mean(1, keepdim=True)) / (plain.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = normal * th.tensor([1.0, 2.0, 3.0]) + th.tensor([0.5, 0.0, -0.5])
    th.testing.assert_close(head(features).q_values, expected)


@pytest.mark.parametrize("name", sorted(INITIALIZERS))
def test_every_initializer_takes_channels_last_convolutions_and_leaves_norms_alone(name):
    th.manual_seed(0)
    torso = NatureCNN(ATARI, layer_norm="chw")
    INITIALIZERS[name](torso)
    norms = [module for module in torso.modules() if isinstance(module, nn.LayerNorm)]
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)
    assert not torso.cnn[0].bias.any()
    assert torso.cnn[0].weight.is_contiguous(memory_format=th.channels_last)
