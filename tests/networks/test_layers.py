"""Noisy layers, dueling and first weights."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from torch import nn

from sbbatch.networks.action_layers import LayerSpec
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.initializers import INITIALIZERS
from sbbatch.networks.layers import ROWS_WORTH_A_WEIGHT, NoisyLinear, PatchConv2d, SameConv2d, members, stochastic


@pytest.mark.parametrize(("sigma0", "expected"), [(0.5, -0.001471863), (0.1, -0.200294373)])
def test_noisy_layer_worked_by_hand(sigma0, expected):
    layer = NoisyLinear(2, 1, sigma0)
    with th.no_grad():
        layer.weight.copy_(th.tensor([[0.1, -0.2]]))
        layer.bias.copy_(th.tensor([0.05]))
    inputs = th.tensor([[1.0, 2.0]])
    # f(-2) = -sqrt 2, f(0.25) = 0.5, f(1.44) = 1.2; sigma = sigma0 / sqrt 2 for weights and bias
    layer.set_noise(np.array([-2.0, 0.25]), np.array([1.44]))
    assert layer(inputs).item() == pytest.approx(expected, abs=1e-6)
    layer.still()
    assert layer(inputs).item() == pytest.approx(0.1 - 0.4 + 0.05, abs=1e-6)


@pytest.mark.parametrize(
    ("fan_in", "sigma0", "sigma"),
    [(7_744, 0.5, 0.005681818), (7_744, 0.1, 0.001136364), (3_136, 0.5, 0.008928571), (2_304, 0.5, 0.010416667)],
)
def test_noise_starts_at_sigma0_over_the_root_of_the_inputs(fan_in, sigma0, sigma):
    layer = NoisyLinear(fan_in, 3, sigma0)
    for sigmas in (layer.weight_sigma, layer.bias_sigma):
        assert sigmas.unique().tolist() == pytest.approx([sigma], abs=1e-9)
    assert layer.weight.abs().max() <= fan_in**-0.5


@pytest.mark.parametrize("rows", [ROWS_WORTH_A_WEIGHT - 1, ROWS_WORTH_A_WEIGHT])
def test_gradient_of_the_noisy_layer_is_that_of_the_plain_formula(rows):
    th.manual_seed(0)
    layer, inputs = NoisyLinear(5, 3).double(), th.randn(rows, 5, dtype=th.double)
    rng = np.random.default_rng(0)
    raw_in, raw_out = rng.normal(size=5), rng.normal(size=3)
    layer.set_noise(raw_in, raw_out)
    noise_in, noise_out = (
        th.tensor(np.sign(raw) * np.sqrt(np.abs(raw)), dtype=th.float32) for raw in (raw_in, raw_out)
    )
    weight = layer.weight + layer.weight_sigma * th.outer(noise_out, noise_in)
    plain = nn.functional.linear(inputs, weight, layer.bias + layer.bias_sigma * noise_out)
    th.testing.assert_close(layer(inputs), plain)
    parameters = list(layer.parameters())
    ours = th.autograd.grad(layer(inputs).square().sum(), parameters)
    for mine, other in zip(ours, th.autograd.grad(plain.square().sum(), parameters), strict=True):
        th.testing.assert_close(mine, other)


def test_noise_is_there_inside_the_switch_only_and_differs_between_layers_and_draws():
    network = nn.Sequential(NoisyLinear(6, 6), NoisyLinear(6, 6))
    inputs, rng = th.randn(2, 6), np.random.default_rng(0)
    quiet = network(inputs)
    with stochastic(network, rng):
        first = network(inputs)
        assert th.equal(network(inputs), first), "one draw holds for all forwards inside"
        assert not th.equal(network[0]._noise[0], network[1]._noise[0])
    with stochastic(network, rng):
        assert not th.equal(network(inputs), first)
    assert th.equal(network(inputs), quiet)


def test_noise_is_off_again_after_an_error():
    network = NoisyLinear(3, 3)
    with pytest.raises(RuntimeError), stochastic(network, np.random.default_rng(0)):
        network(th.zeros(1, 4))
    inputs = th.ones(1, 3)
    assert th.equal(network(inputs), nn.functional.linear(inputs, network.weight, network.bias))


@pytest.mark.parametrize("dueling", ["output", "streams"])
def test_dueling_takes_the_mean_advantage_away_for_each_atom(dueling):
    th.manual_seed(0)
    layers = LayerSpec(5, 4, [8], dueling=dueling).build(3)
    features = th.randn(6, 5)
    outputs = layers(features)
    assert outputs.shape == (6, 4, 3)
    hidden = layers.hidden(features)
    value = layers.value_output(hidden if dueling == "output" else layers.value_hidden(features))
    th.testing.assert_close(outputs.mean(dim=1), value)
    advantages = layers.output(hidden).reshape(6, 4, 3)
    th.testing.assert_close(outputs - outputs[:, :1], advantages - advantages[:, :1])


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        # 3 x 8 x 8 inputs per channel, 32 channels out: fan_in 192, fan_out 32 * 64
        ("glorot_uniform", (6 / (192 + 2_048)) ** 0.5),
        ("variance_scaling", 1.316074 / 192**0.5),
    ],
)
def test_uniform_first_weights_fill_their_interval(name, bound):
    th.manual_seed(0)
    conv = SameConv2d(3, 32, 8, 4)
    INITIALIZERS[name](nn.Sequential(conv))
    assert bound * 0.99 < conv.weight.abs().max().item() <= bound * (1 + 1e-6)
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert not conv.bias.any()


def test_orthogonal_first_weights_have_gain_root_two():
    layer = nn.Linear(16, 8)
    INITIALIZERS["orthogonal"](layer)
    th.testing.assert_close(layer.weight @ layer.weight.T, 2 * th.eye(8), rtol=0, atol=1e-5)
    assert not layer.bias.any()


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_impala_starts_with_lecun_in_the_residual_blocks_and_glorot_elsewhere(spectral_norm):
    th.manual_seed(0)
    torso = ImpalaCNN(spaces.Box(0, 255, (4, 42, 42), np.uint8), width=2, spectral_norm=spectral_norm)
    INITIALIZERS["impala"](torso)
    first, block = torso.cnn[4], torso.cnn[6].first  # second stack: 32 -> 64 channels
    assert first.weight.std().item() == pytest.approx((2 / (32 * 9 + 64 * 9)) ** 0.5, rel=0.03)
    weight = block.parametrizations.weight.original if spectral_norm else block.weight
    deviation = (64 * 9) ** -0.5  # as Glorot's, since as many channels go out; but normal up to 2 / 0.8796, not uniform
    assert weight.std().item() == pytest.approx(deviation, rel=0.03)
    assert 2.2 * deviation < weight.abs().max().item() < 2.28 * deviation  # Glorot: 1.73


def test_noisy_layers_keep_their_own_first_weights():
    layer = NoisyLinear(8, 8)
    before = layer.weight.clone()
    INITIALIZERS["glorot_uniform"](nn.Sequential(layer))
    assert th.equal(layer.weight, before)


@pytest.mark.parametrize("memory_format", [th.channels_last, th.contiguous_format])
@pytest.mark.parametrize(("size", "kernel", "stride"), [((10, 10), 3, 1), ((7, 9), (2, 3), 2), ((5, 8), 5, (1, 3))])
def test_a_product_with_patches_is_the_convolution_with_its_gradients(size, kernel, stride, memory_format):
    th.manual_seed(0)
    plain = nn.Conv2d(4, 16, kernel, stride).to(memory_format=memory_format)
    patches = PatchConv2d(4, 16, kernel, stride).to(memory_format=memory_format)
    patches.load_state_dict(plain.state_dict())
    for n in (1, 8):
        images = th.rand(n, 4, *size).to(memory_format=memory_format)
        results = []
        for layer in (plain, patches):
            layer.zero_grad()
            own = images.clone().requires_grad_()
            maps = layer(own)
            maps.square().mean().backward()
            results.append([maps, own.grad, layer.weight.grad, layer.bias.grad])
        for one, other in zip(*results, strict=True):
            th.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert patches.weight.grad.stride() == patches.weight.stride()  # fused Adam reads memory in order


def test_members_are_pytorchs_modules_each_once_and_in_its_order():
    shared = nn.Linear(2, 2)
    network = nn.Sequential(shared, nn.Sequential(nn.ReLU(), shared), nn.ModuleDict({"one": nn.Identity()}))
    network.register_module("nothing", None)
    assert members(network) == list(network.modules())
