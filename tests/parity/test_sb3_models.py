"""Models that SB3 and sb3-contrib have trained are played as they play them, and go on learning."""

import base64
import json
import zipfile
from pathlib import Path

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from gymnasium import spaces
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.dqn.policies import DQNPolicy

from sbbatch import DQN, IQN, PPO, QRDQN
from sbbatch.errors import InvalidType, InvalidValue
from sbbatch.replay import FrameReplayBuffer, ReplayBatch

REPLAY = {"learning_starts": 50, "buffer_size": 400, "batch_size": 8, "target_update_interval": 60, "seed": 1}
ROLLOUTS = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 1}


class DictEnv(gym.Env):
    """A vector and a picture; episodes of seven steps."""

    observation_space = spaces.Dict(
        {"vector": spaces.Box(-1, 1, (3,)), "image": spaces.Box(0, 255, (1, 40, 40), np.uint8)}
    )
    action_space = spaces.Discrete(3)
    steps = 0

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.steps += 1
        return self.observation_space.sample(), float(action), self.steps == 7, False, {}


def images():
    return FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=True)


def four_poles():
    return DummyVecEnv([lambda: gym.make("CartPole-v1")] * 4)


NET = {"policy_kwargs": {"net_arch": [32, 16, 8], "activation_fn": th.nn.Tanh}}
TWO_NETS = {"policy_kwargs": {"net_arch": {"pi": [16], "vf": [32, 8]}, "activation_fn": th.nn.ReLU}}
SMALL_CNN = {"policy_kwargs": {"n_quantiles": 5, "net_arch": [24]}}
SB3_DQN, SB3_PPO, SB3_QRDQN = stable_baselines3.DQN, stable_baselines3.PPO, sb3_contrib.QRDQN
CASES = {
    "dqn": (SB3_DQN, DQN, "MlpPolicy", "CartPole-v1", REPLAY),
    "dqn-net": (SB3_DQN, DQN, "MlpPolicy", "CartPole-v1", REPLAY | {"train_freq": (1, "episode")} | NET),
    "dqn-cnn": (SB3_DQN, DQN, "CnnPolicy", images, REPLAY),
    "dqn-dict": (SB3_DQN, DQN, "MultiInputPolicy", DictEnv, REPLAY),
    "dqn-n-step": (SB3_DQN, DQN, "MlpPolicy", four_poles, REPLAY | {"n_steps": 3, "gradient_steps": 2}),
    "qrdqn": (SB3_QRDQN, QRDQN, "MlpPolicy", "CartPole-v1", REPLAY | {"policy_kwargs": {"n_quantiles": 7}}),
    "qrdqn-cnn": (SB3_QRDQN, QRDQN, "CnnPolicy", images, REPLAY | SMALL_CNN),
    "ppo": (SB3_PPO, PPO, "MlpPolicy", four_poles, ROLLOUTS | {"clip_range_vf": 0.3}),
    "ppo-box": (SB3_PPO, PPO, "MlpPolicy", "Pendulum-v1", ROLLOUTS | TWO_NETS),
    "ppo-sde": (SB3_PPO, PPO, "MlpPolicy", "Pendulum-v1", ROLLOUTS | {"use_sde": True}),
    "ppo-cnn": (SB3_PPO, PPO, "CnnPolicy", images, ROLLOUTS),
}


def made(env):
    return gym.make(env) if isinstance(env, str) else env()


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """SB3's model, the file it wrote, our class, and its environment."""
    peer, ours, policy, env, arguments = CASES[request.param]
    model = peer(policy, made(env), device="cpu", **arguments).learn(300)
    path = tmp_path_factory.mktemp("models") / "sb3_model.zip"
    model.save(path)
    return model, path, ours, env


def observations(model, n=60):
    space = model.observation_space
    space.seed(0)
    drawn = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([one[key] for one in drawn]) for key in space.spaces}
    return (
        np.stack(drawn) if space.is_bounded() else np.random.default_rng(0).normal(size=(n, *space.shape)).astype("f4")
    )


@th.no_grad()
def estimates(model, seen):
    """What the networks say before an action is chosen: values of actions, or state values and distributions."""
    seen, _ = model.policy.obs_to_tensor(seen)
    if isinstance(model.policy, ActorCriticPolicy):
        distribution = model.policy.get_distribution(seen).distribution
        shape = distribution.logits if hasattr(distribution, "logits") else distribution.stddev
        return th.cat([model.policy.predict_values(seen), shape], dim=1)
    if isinstance(model, sb3_contrib.QRDQN):
        return th.cat([net(seen).mean(dim=1) for net in (model.quantile_net, model.quantile_net_target)], dim=1)
    return th.cat([model.q_net(seen), model.q_net_target(seen)], dim=1)


def test_a_model_of_sb3_predicts_the_same(case):
    model, path, ours, _ = case
    loaded = ours.load(path, device="cpu")
    seen = observations(model)
    th.testing.assert_close(estimates(loaded, seen), estimates(model, seen), rtol=1e-5, atol=1e-5)
    actions, expected = (one.predict(seen, deterministic=True)[0] for one in (loaded, model))
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-6)
    assert loaded.observation_space == model.observation_space
    assert loaded.action_space == model.action_space


def test_it_has_the_hyperparameters_and_the_progress(case):
    model, path, ours, _ = case
    loaded = ours.load(path, device="cpu")
    names = "learning_rate gamma batch_size n_steps seed num_timesteps _n_updates n_envs max_grad_norm "
    if ours is PPO:
        names += "n_epochs gae_lambda ent_coef vf_coef use_sde normalize_advantage target_kl"
    else:
        names += "buffer_size train_freq exploration_rate exploration_final_eps tau gradient_steps _n_calls"
    names = names.split()
    assert {name: getattr(loaded, name) for name in names} == {name: getattr(model, name) for name in names}
    if ours is PPO:
        assert loaded.clip_range(0.5) == model.clip_range(0.5)
    else:
        assert isinstance(loaded.replay_buffer, FrameReplayBuffer)


def test_learning_goes_on_and_it_is_saved_as_ours(case, tmp_path):
    model, path, ours, env = case
    loaded = ours.load(path, env=made(env), device="cpu")
    before = [parameter.clone() for parameter in loaded.policy.parameters()]
    loaded.learn(200, reset_num_timesteps=False)
    assert loaded.num_timesteps >= model.num_timesteps + 200
    assert loaded._n_updates > model._n_updates
    assert not all(map(th.equal, before, loaded.policy.parameters()))
    loaded.save(tmp_path / "ours")
    again = ours.load(tmp_path / "ours", device="cpu")
    seen = observations(model)
    np.testing.assert_array_equal(
        again.predict(seen, deterministic=True)[0], loaded.predict(seen, deterministic=True)[0]
    )


@pytest.mark.parametrize("name", ["dqn-cnn", "qrdqn-cnn", "ppo-box"])
def test_parameters_alone_are_taken_over(name, tmp_path):
    peer, ours, policy, env, arguments = CASES[name]
    theirs = peer(policy, made(env), device="cpu", **arguments).learn(100)
    theirs.save(tmp_path / "m")
    fresh = ours(policy, made(env), device="cpu", **{**arguments, "seed": 2})
    fresh.set_parameters(tmp_path / "m", device="cpu")
    seen = observations(theirs)
    th.testing.assert_close(estimates(fresh, seen), estimates(theirs, seen), rtol=1e-5, atol=1e-5)


def samples_for(model):
    seen = th.from_numpy(observations(model, 16))
    rng = np.random.default_rng(1)
    column = lambda values: th.from_numpy(np.asarray(values, np.float32).reshape(-1, 1))  # noqa: E731
    return ReplayBufferSamples(
        observations=seen,
        actions=th.from_numpy(rng.integers(0, model.action_space.n, (16, 1))),
        next_observations=seen.flip(0),
        dones=column(rng.random(16) < 0.25),
        rewards=column(rng.normal(size=16) * 3),
        discounts=column(np.full(16, 0.99)),
    )


@pytest.mark.parametrize("name", ["dqn", "dqn-net", "dqn-cnn", "qrdqn", "qrdqn-cnn"])
def test_the_next_gradient_steps_are_those_of_sb3_with_its_moments(name, tmp_path):
    peer, ours, policy, env, arguments = CASES[name]
    theirs = peer(policy, made(env), device="cpu", **arguments).learn(300)
    theirs.save(tmp_path / "m")
    loaded = ours.load(tmp_path / "m", device="cpu")
    samples = samples_for(theirs)
    theirs.replay_buffer.sample = lambda *_, **__: samples
    theirs.train(gradient_steps=3, batch_size=16)
    loaded.policy.set_training_mode(True)
    loaded._update_learning_rate = lambda optimizer: None
    for _ in range(3):
        loaded._train_step(ReplayBatch.from_sb3(samples, gamma=0.99))
    theirs.save(tmp_path / "after")
    after = ours.load(tmp_path / "after", device="cpu")
    for mine, other in zip(loaded.q_net.parameters(), after.q_net.parameters(), strict=True):
        th.testing.assert_close(mine, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["ppo", "ppo-box", "ppo-sde"])
def test_ppo_goes_on_as_sb3s_does_to_the_bit(name, tmp_path):
    peer, ours, policy, env, arguments = CASES[name]
    peer(policy, made(env), device="cpu", **arguments).learn(300).save(tmp_path / "m")
    after = [cls.load(tmp_path / "m", env=made(env), device="cpu") for cls in (peer, ours)]
    for model in after:
        model.set_random_seed(7)
        model.learn(300, reset_num_timesteps=False)
    for theirs, mine in zip(*(model.policy.parameters() for model in after), strict=True):
        assert th.equal(theirs, mine)


# ------------------------------------------------------------------------------------------------------- refusals


@pytest.fixture
def saved(tmp_path):
    def save(model):
        model.save(tmp_path / "m.zip")
        return tmp_path / "m.zip"

    return save


def refusal(cls, path, **kwargs):
    with pytest.raises((InvalidType, InvalidValue)) as caught:
        cls.load(path, device="cpu", **kwargs)
    told = str(caught.value)
    assert "\n" not in told
    return told


def test_another_class_than_the_one_of_the_same_name_is_refused(case):
    _, path, ours, _ = case
    for cls in {DQN, QRDQN, IQN, PPO} - {ours}:
        assert refusal(cls, path) == (
            f"{path}: holds a {ours.__name__} of Stable-Baselines3, but {cls.__name__} was asked to load it"
        )


@pytest.mark.parametrize("peer", [stable_baselines3.A2C, sb3_contrib.TRPO, stable_baselines3.SAC])
def test_agents_that_are_not_here_are_refused(saved, peer):
    path = saved(peer("MlpPolicy", "Pendulum-v1", device="cpu"))
    for cls in (DQN, PPO):
        assert "nor by SB3's DQN, QRDQN or PPO" in refusal(cls, path)


class OwnTorso(FlattenExtractor):
    """Not one of SB3's."""


class OwnPolicy(DQNPolicy):
    """Might have any network."""


def test_a_torso_of_ones_own_needs_trust(saved):
    model = stable_baselines3.DQN("MlpPolicy", "CartPole-v1", policy_kwargs={"features_extractor_class": OwnTorso})
    path = saved(model)
    told = refusal(DQN, path)
    assert "'policy_kwargs'" in told
    assert "OwnTorso, which is not one of SB3's own classes" in told
    assert "trust=True" in told
    seen = observations(model)
    for kwargs in ({"trust": True}, {"custom_objects": {"policy_kwargs": {}}}):
        loaded = DQN.load(path, device="cpu", **kwargs)
        np.testing.assert_array_equal(loaded.predict(seen, True)[0], model.predict(seen, True)[0])


def test_a_schedule_of_ones_own_needs_trust_or_another_value(saved):
    path = saved(
        stable_baselines3.PPO("MlpPolicy", "CartPole-v1", learning_rate=lambda left: 1e-3 * left, device="cpu")
    )
    assert "'learning_rate' in its member 'data' needs cloudpickle" in refusal(PPO, path)
    assert PPO.load(path, device="cpu", trust=True).learning_rate(0.5) == 5e-4
    assert PPO.load(path, device="cpu", learning_rate=2e-4).learning_rate == 2e-4
    assert PPO.load(path, device="cpu", custom_objects={"learning_rate": 3e-4}).learning_rate == 3e-4


def test_a_policy_of_ones_own_is_refused_even_with_trust(saved):
    path = saved(stable_baselines3.DQN(OwnPolicy, "CartPole-v1"))
    assert "OwnPolicy, which is not one of SB3's own" in refusal(DQN, path)
    assert "whose network may differ from those of DQN" in refusal(DQN, path, trust=True)


def test_a_network_that_does_not_agree_is_refused(saved):
    path = saved(stable_baselines3.DQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]}))
    for policy_kwargs, found in (({"net_arch": [9]}, "has shape"), ({"net_arch": [8, 8]}, "lacks")):
        assert found in refusal(DQN, path, custom_objects={"policy_kwargs": policy_kwargs})


def test_another_environment_is_refused(saved):
    path = saved(stable_baselines3.DQN("MlpPolicy", "CartPole-v1"))
    assert "Box(4,) of float32, the environment has Box(6,)" in refusal(DQN, path, env="Acrobot-v1")


def rewritten(path, change):
    """The file with its attributes changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(members["data"])
    change(data)
    members["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class Attack:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def test_a_malicious_file_runs_nothing(saved, tmp_path):
    marker = tmp_path / "ran"
    clean = stable_baselines3.DQN("MlpPolicy", "CartPole-v1").learn(120)
    serialized = {":type:": "x", ":serialized:": base64.b64encode(cloudpickle.dumps(Attack(marker))).decode()}
    keys = list(json.loads(zipfile.ZipFile(saved(clean)).read("data")))
    refused = 0
    for key in [*keys, "something_else"]:
        path = rewritten(saved(clean), lambda data, key=key: data.update({key: serialized}))
        try:
            DQN.load(path, device="cpu")
        except InvalidValue as error:
            refused += f"'{key}' in its member 'data' needs" in str(error)
        assert not marker.exists(), key
    assert 15 < refused < len(keys)  # what an agent of ours does not have is not looked at
    with pytest.raises(InvalidValue):  # the file is as dangerous as it looks: whoever trusts it runs it
        DQN.load(rewritten(saved(clean), lambda data: data.update(policy_class=serialized)), trust=True)
    assert marker.exists()


def test_a_schedule_of_the_zoo_is_read_without_the_zoo(saved):
    path = saved(stable_baselines3.PPO("MlpPolicy", "CartPole-v1", device="cpu"))
    zoo = b"\x80\x04crl_zoo3.utils\nSimpleLinearSchedule\n)\x81}X\r\x00\x00\x00initial_valueG?PbM\xd2\xf1\xa9\xfcsb."
    item = {":serialized:": base64.b64encode(zoo).decode()}
    schedule = PPO.load(rewritten(path, lambda data: data.update(learning_rate=item)), device="cpu").learning_rate
    assert [schedule(left) for left in (1.0, 0.5, 0.0)] == [1e-3, 5e-4, 0.0]
