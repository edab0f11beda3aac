"""What SB3 leaves beside its models is read without running it."""

import pickle
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sbbatch import PPO
from sbbatch.errors import InvalidValue
from sbbatch.interop import load_vec_normalize


class DictEnv(gym.Env):
    """A vector and a number; episodes without end."""

    observation_space = spaces.Dict({"vector": spaces.Box(-1, 1, (3,)), "number": spaces.Box(-9, 9, (1,))})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 1.0, False, False, {}


def make_venv(env="CartPole-v1"):
    return DummyVecEnv([lambda: gym.make(env) if isinstance(env, str) else env()])


def test_a_normalized_model_of_sb3_plays_as_before_and_goes_on(tmp_path):
    env = VecNormalize(make_venv("Pendulum-v1"), gamma=0.9, clip_obs=5.0)
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=64, n_epochs=2, device="cpu", seed=0).learn(256)
    model.save(tmp_path / "m")
    env.save(str(tmp_path / "vecnormalize.pkl"))

    found = load_vec_normalize(tmp_path / "vecnormalize.pkl", make_venv("Pendulum-v1"))
    loaded = PPO.load(tmp_path / "m", env=found, device="cpu")
    seen = np.random.default_rng(0).normal(size=(50, 3)).astype("f4") * 8
    np.testing.assert_array_equal(found.normalize_obs(seen), env.normalize_obs(seen))
    np.testing.assert_array_equal(found.normalize_reward(seen[:, 0]), env.normalize_reward(seen[:, 0]))
    actions = [
        one.predict(where.normalize_obs(seen), deterministic=True)[0] for one, where in ((loaded, found), (model, env))
    ]
    np.testing.assert_allclose(*actions, atol=1e-6)
    before = found.obs_rms.count
    loaded.learn(64, reset_num_timesteps=False)
    assert found.obs_rms.count > before


@pytest.mark.parametrize(
    "options", [{"norm_obs": False}, {"norm_reward": False, "training": False}, {"clip_reward": 2.0}]
)
def test_every_option_comes_back(tmp_path, options):
    env = VecNormalize(make_venv(), **options)
    env.reset()
    for _ in range(20):
        env.step(np.array([0]))
    env.save(str(tmp_path / "v.pkl"))
    found, expected = (
        load_vec_normalize(tmp_path / "v.pkl", make_venv()),
        VecNormalize.load(str(tmp_path / "v.pkl"), make_venv()),
    )
    for name in ("norm_obs", "norm_reward", "training", "clip_obs", "clip_reward", "gamma", "epsilon"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.ret_rms.var == expected.ret_rms.var
    if env.norm_obs:
        np.testing.assert_array_equal(found.obs_rms.mean, expected.obs_rms.mean)


def test_dictionaries_are_normalized_by_their_keys(tmp_path):
    env = VecNormalize(make_venv(DictEnv), norm_obs_keys=["vector"])
    env.reset()
    env.step(np.array([0]))
    env.save(str(tmp_path / "v.pkl"))
    found = load_vec_normalize(tmp_path / "v.pkl", make_venv(DictEnv))
    assert found.norm_obs_keys == ["vector"]
    np.testing.assert_array_equal(found.obs_rms["vector"].mean, env.obs_rms["vector"].mean)


class Attack:
    """Leaves a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("inside", [False, True])
def test_a_malicious_file_runs_nothing(tmp_path, inside):
    env, marker = VecNormalize(make_venv()), tmp_path / "ran"
    env.clip_obs = Attack(marker)
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(env if inside else Attack(marker)))
    with pytest.raises(InvalidValue, match=r"touch|getattr"):
        load_vec_normalize(tmp_path / "v.pkl", make_venv())
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"<html>", pickle.dumps({"a": 1})])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "v.pkl").write_bytes(content)
    with pytest.raises(InvalidValue, match=r"v\.pkl: not the statistics"):
        load_vec_normalize(tmp_path / "v", make_venv())


def test_statistics_of_another_environment_are_refused(tmp_path):
    VecNormalize(make_venv()).save(str(tmp_path / "v.pkl"))
    with pytest.raises(InvalidValue, match="other observations"):
        load_vec_normalize(tmp_path / "v.pkl", make_venv("Acrobot-v1"))
