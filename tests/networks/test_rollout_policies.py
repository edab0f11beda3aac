"""Policies for rollouts: what SB3's on-policy loop gets from them, and the published networks."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import nn

from sbbatch.errors import InvalidType
from sbbatch.networks.heads import QuantileHead
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.initializers import orthogonal
from sbbatch.networks.layer_norm import ImageLayerNorm
from sbbatch.networks.layers import NoisyLinear
from sbbatch.networks.multi_skip import MultiSkipCNN
from sbbatch.networks.rollout_policy import (
    RolloutCnnPolicy,
    RolloutCnnPolicyL,
    RolloutCnnPolicyXL,
    RolloutMlpPolicy,
    RolloutMultiInputPolicy,
    RolloutPolicy,
)
from sbbatch.networks.torsos import MinAtarCNN, NatureCNN

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
ATARI = spaces.Box(0, 255, (4, 84, 84), np.uint8)
MINATAR = spaces.Box(0, 255, (4, 10, 10), np.uint8)
DICT = spaces.Dict({"a": VECTOR, "b": spaces.Box(-1, 1, (2,), np.float32)})
PRESETS = [
    (RolloutPolicy, VECTOR),
    (RolloutMlpPolicy, VECTOR),
    (RolloutCnnPolicy, ATARI),
    (RolloutCnnPolicyL, ATARI),
    (RolloutMultiInputPolicy, DICT),
]


def make_policy(policy, space, n_actions=6, **kwargs):
    return policy(space, spaces.Discrete(n_actions), lambda _: 1e-3, use_sde=False, **kwargs)


def observations(policy, n):
    space = policy.observation_space
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: th.as_tensor(np.stack([sample[key] for sample in samples])) for key in space}
    return th.as_tensor(np.stack(samples))


def n_parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def norms_of(network):
    return [module for module in network.modules() if isinstance(module, nn.LayerNorm)]


@pytest.mark.parametrize(
    ("policy", "kwargs", "counts"),
    [
        (RolloutCnnPolicy, {}, (1_729_444, 1_736_626)),
        (
            RolloutCnnPolicy,
            {"features_extractor_kwargs": {"layer_norm": "channel"}},
            (1_687_524, 1_694_706),
        ),
        (RolloutCnnPolicyL, {}, (6_231_372, 6_238_582)),
        (RolloutCnnPolicyXL, {}, (8_868_172, 8_875_382)),
    ],
)
def test_parameter_counts_are_the_published_ones(policy, kwargs, counts):
    for n_actions, count in zip((4, 18), counts, strict=True):
        assert n_parameters(make_policy(policy, ATARI, n_actions, initializer=None, **kwargs).q_net) == count


def test_fresh_pqn_l_gives_every_state_values_of_mean_0_and_deviation_1():
    policy = make_policy(RolloutCnnPolicyL, ATARI)
    q_values = policy.q_net(observations(policy, 4))
    th.testing.assert_close(q_values.mean(dim=1), th.zeros(4), rtol=0, atol=1e-5)
    th.testing.assert_close(q_values.std(dim=1, correction=0), th.ones(4), rtol=0, atol=1e-3)
    free = make_policy(RolloutCnnPolicyL, ATARI, output_layernorm=False)
    assert n_parameters(free.q_net) == 6_232_402 - 12


@pytest.mark.parametrize(("preset", "space"), PRESETS)
def test_rollouts_get_actions_values_and_no_log_probabilities(preset, space):
    policy = make_policy(preset, space)
    obs = observations(policy, 5)
    with th.no_grad():
        q_values = policy.q_net(obs)
        actions, values, log_probs = policy(obs)
        th.testing.assert_close(policy.predict_values(obs), values)
    assert actions.dtype == th.int64
    assert actions.tolist() == q_values.argmax(1).tolist()
    assert values.shape == (5, 1)
    assert values[:, 0].tolist() == q_values.amax(1).tolist()
    assert log_probs.tolist() == [0.0] * 5
    numpy_obs = {key: value.numpy() for key, value in obs.items()} if isinstance(obs, dict) else obs.numpy()
    assert policy.predict(numpy_obs)[0].tolist() == actions.tolist()


def test_exploration_changes_the_actions_and_not_the_values():
    policy = make_policy(RolloutMlpPolicy, VECTOR)
    obs = observations(policy, 5)
    greedy, values, _ = policy(obs)
    policy.explore = lambda actions: (actions + 1) % 6
    explored, same_values, _ = policy(obs)
    assert explored.dtype == th.int64
    assert explored.tolist() == ((greedy + 1) % 6).tolist()
    assert th.equal(same_values, values)
    assert th.equal(policy(obs, deterministic=True)[0], greedy)
    assert policy.predict(obs.numpy(), deterministic=False)[0].tolist() == greedy.tolist()
    assert RolloutMlpPolicy.explore is None


def test_there_is_no_target_network():
    policy = make_policy(RolloutMlpPolicy, VECTOR, head_class=QuantileHead)
    assert not hasattr(policy, "q_net_target")
    assert not any("target" in name for name in policy.state_dict())
    assert policy.quantile_net is policy.q_net
    with pytest.raises(AttributeError):
        _ = policy.quantile_net_target
    policy.set_training_mode(True)
    assert policy.q_net.training


class OnlyCollects(OnPolicyAlgorithm):
    policy_aliases = {"MlpPolicy": RolloutMlpPolicy}

    def train(self):
        self.seen = next(self.rollout_buffer.get())


def test_sb3s_own_loop_collects_with_it():
    settings = {"learning_rate": 1e-3, "n_steps": 40, "gamma": 0.99, "gae_lambda": 0.65, "ent_coef": 0.0}
    settings |= {"vf_coef": 0.5, "max_grad_norm": 10.0, "use_sde": False, "sde_sample_freq": -1, "device": "cpu"}
    agent = OnlyCollects("MlpPolicy", make_vec_env("CartPole-v1", 3, seed=0), **settings)
    agent.policy.explore = lambda actions: np.arange(3) % 2
    agent.learn(120)
    assert agent.seen.actions.shape == (120, 1)
    assert agent.seen.actions.sum() == 40
    assert agent.seen.old_values.shape == agent.seen.returns.shape == (120,)
    assert not agent.seen.old_log_prob.any()


@pytest.mark.parametrize(("preset", "space"), PRESETS)
def test_defaults_are_radam_in_its_fastest_form_and_orthogonal_weights(preset, space):
    policy = make_policy(preset, space)
    assert type(policy.optimizer) is th.optim.RAdam
    assert policy.optimizer.defaults["foreach"] is True
    assert n_parameters(policy) == sum(p.numel() for g in policy.optimizer.param_groups for p in g["params"])
    rows = policy.q_net.head.layers.output.weight
    th.testing.assert_close(rows @ rows.T, 2 * th.eye(6), rtol=0, atol=1e-4)


def test_cartpole_network_is_two_normalised_layers_of_256():
    policy = make_policy(RolloutMlpPolicy, VECTOR)
    hidden = policy.q_net.head.layers.hidden
    assert [type(layer).__name__ for layer in hidden] == ["Linear", "LayerNorm", "ReLU"] * 2
    assert [norm.normalized_shape for norm in norms_of(hidden)] == [(256,), (256,)]


def test_torsos_that_know_layer_norm_get_it():
    policy = make_policy(RolloutCnnPolicy, MINATAR, features_extractor_class=MinAtarCNN, features_extractor_kwargs={})
    torso = policy.q_net.features_extractor
    assert isinstance(torso, MinAtarCNN)
    assert isinstance(torso.cnn[1], ImageLayerNorm)
    assert len(torso.cnn[1].normalized_shape) == 3
    other = make_policy(
        RolloutCnnPolicy,
        MINATAR,
        features_extractor_class=MinAtarCNN,
        features_extractor_kwargs={"layer_norm": None, "features_dim": 8},
    )
    assert not norms_of(other)


def test_torsos_that_do_not_know_an_argument_do_without():
    policy = make_policy(RolloutCnnPolicy, ATARI, features_extractor_class=ImpalaCNN)
    assert not norms_of(policy.q_net.features_extractor)
    assert len(norms_of(policy.q_net.head)) == 1  # its hidden layer is in the head
    large = make_policy(RolloutCnnPolicyL, ATARI, features_extractor_class=NatureCNN)
    assert len(norms_of(large.q_net.features_extractor)) == 4
    assert len(norms_of(large.q_net.head)) == 1  # of the action values
    quantiles = make_policy(RolloutCnnPolicyL, ATARI, head_class=QuantileHead, n_quantiles=3)
    assert not norms_of(quantiles.q_net.head)
    with pytest.raises(InvalidType, match="unknown key 'layer_norms'; did you mean 'layer_norm'"):
        make_policy(RolloutCnnPolicy, ATARI, features_extractor_kwargs={"layer_norms": "chw"})


def test_large_presets_keep_their_blocks_when_another_argument_is_given():
    policy = make_policy(RolloutCnnPolicyXL, ATARI, features_extractor_kwargs={"features_dim": 16})
    torso = policy.q_net.features_extractor
    assert (torso.features_dim, len(torso.linear.blocks)) == (16, 10)


def test_noise_moves_natures_hidden_layer_with_its_norm_and_leaves_multi_skip_whole():
    nature = make_policy(RolloutCnnPolicy, ATARI, noisy_sigma0=0.5).q_net
    assert nature.features_extractor.features_dim == 3_136
    assert [type(layer).__name__ for layer in nature.head.layers.hidden] == ["NoisyLinear", "LayerNorm", "ReLU"]
    large = make_policy(RolloutCnnPolicyL, ATARI, noisy_sigma0=0.5).q_net
    assert isinstance(large.features_extractor, MultiSkipCNN)
    assert large.features_extractor.features_dim == 512
    assert sum(isinstance(module, NoisyLinear) for module in large.modules()) == 1


@pytest.mark.parametrize(("preset", "space"), [PRESETS[1], PRESETS[2], PRESETS[4]])
def test_a_saved_policy_comes_back(preset, space, tmp_path):
    policy = make_policy(preset, space)
    policy.save(tmp_path / "policy.pt")
    loaded = preset.load(tmp_path / "policy.pt")
    obs = observations(policy, 3)
    assert th.equal(loaded.q_net(obs), policy.q_net(obs))
    assert loaded.layer_norm is True
    assert loaded.initializer is orthogonal
