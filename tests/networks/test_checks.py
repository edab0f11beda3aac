"""A policy refuses arguments it cannot be built with, before it builds anything."""

import functools

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sbbatch.errors import InvalidType, InvalidValue
from sbbatch.networks.heads import ExpectedHead, QuantileHead
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.value_policy import CnnPolicy, MlpPolicy

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
IMAGES = spaces.Box(0, 255, (1, 36, 36), np.uint8)
DICT = spaces.Dict({"a": VECTOR})


def make_policy(policy=MlpPolicy, space=VECTOR, **kwargs):
    return policy(space, spaces.Discrete(2), lambda _: 1e-3, **kwargs)


def refusal(error, **kwargs):
    with pytest.raises(error) as caught:
        make_policy(**kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


class Mine(BaseFeaturesExtractor):
    """A user's torso, which insists on a positive size."""

    def __init__(self, observation_space, size=3):
        super().__init__(observation_space, size)
        self.linear = nn.Linear(4, size)

    def forward(self, observations):
        return self.linear(observations)


BAD = [
    ({"net_arch": [8, 0]}, InvalidValue, "net_arch[1]"),
    ({"net_arch": [64.0]}, InvalidType, "did you mean 64?"),
    ({"net_arch": {"pi": [3]}}, InvalidType, "net_arch"),
    ({"activation_fn": "ReLU"}, InvalidType, "activation_fn"),
    ({"activation_fn": nn.Linear}, InvalidType, "activation_fn"),
    ({"optimizer_class": int}, InvalidType, "optimizer_class"),
    ({"optimizer_kwargs": {"ep": 1e-4}}, InvalidType, "did you mean 'eps'?"),
    ({"optimizer_kwargs": {"lr": 1e-4}}, InvalidType, "'lr' is set by the agent"),
    ({"optimizer_kwargs": {"eps": -1}}, InvalidValue, "Invalid epsilon value: -1"),
    ({"features_extractor_class": nn.ReLU}, InvalidType, "features_extractor_class"),
    ({"features_extractor_class": Mine, "features_extractor_kwargs": {"sise": 3}}, InvalidType, "did you mean 'size'?"),
    ({"features_extractor_class": Mine, "features_extractor_kwargs": {"size": -3}}, InvalidValue, "Mine"),
    ({"normalize_images": "no"}, InvalidType, "normalize_images"),
    ({"head_class": "quantile"}, InvalidType, "head_class"),
    ({"initializer": "orthogonl"}, InvalidType, "initializer"),
    ({"noisy_sigma0": -0.5}, InvalidValue, "noisy_sigma0"),
    ({"net_ach": [64]}, InvalidType, "did you mean 'net_arch'?"),
    ({"head_class": QuantileHead, "n_quantils": 5}, InvalidType, "did you mean 'n_quantiles'?"),
]


@pytest.mark.parametrize(("kwargs", "error", "named"), BAD)
def test_what_no_network_can_be_built_from_is_refused_by_name(kwargs, error, named):
    told = refusal(error, **kwargs)
    assert told.startswith("policy_kwargs: ")
    assert named in told


@pytest.mark.parametrize("name", ["padding", "features_dim", "width"])
def test_the_torso_of_a_policy_decides_which_arguments_it_has(name):
    told = refusal(InvalidType, policy=CnnPolicy, space=IMAGES, features_extractor_kwargs={f"{name}s": 1})
    assert f"features_extractor_kwargs: unknown key '{name}s'; did you mean '{name}'?" in told


@pytest.mark.parametrize(
    "kwargs",
    [
        {"net_arch": []},
        {"net_arch": (8, np.int64(8))},
        {"activation_fn": lambda: nn.LeakyReLU(0.2)},
        {"activation_fn": functools.partial(nn.LeakyReLU, 0.2)},
        {"optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}},
        {"features_extractor_class": Mine, "features_extractor_kwargs": {"size": 5}},
        {"features_extractor_kwargs": None, "optimizer_kwargs": None},
    ],
)
def test_what_can_be_built_is_let_through(kwargs):
    policy = make_policy(**kwargs)
    assert policy.q_net(th.zeros(3, 4)).shape == (3, 2)


@pytest.mark.parametrize("torso", [None, ImpalaCNN])
def test_float_images_are_taken_where_the_sentence_about_them_is_followed(torso):
    space, kwargs = spaces.Box(0, 1, (1, 36, 36), np.float32), {"features_extractor_class": torso} if torso else {}
    advice = refusal(InvalidValue, policy=CnnPolicy, space=space, **kwargs)
    assert "for float images in [0, 1] pass policy_kwargs=dict(normalize_images=False)" in advice
    policy = make_policy(CnnPolicy, space, normalize_images=False, **kwargs)
    assert policy.q_net(th.zeros(3, 1, 36, 36)).shape == (3, 2)


def test_a_subclass_may_choose_its_torso_and_keeps_the_torsos_arguments():
    class Custom(MlpPolicy):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, features_extractor_class=Mine, **kwargs)

    assert make_policy(Custom, features_extractor_kwargs={"size": 7}).q_net.features_extractor.features_dim == 7
    assert "did you mean 'size'?" in refusal(InvalidType, policy=Custom, features_extractor_kwargs={"sizes": 7})


def test_a_flattened_tuple_can_be_learned_from():
    # What the sentence about Tuple observations advises.
    env = gym.wrappers.FlattenObservation(gym.make("Blackjack-v1"))
    policy = make_policy(space=env.observation_space, head_class=ExpectedHead)
    assert policy.predict(env.reset(seed=0)[0])[0] in (0, 1)
