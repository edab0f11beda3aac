"""Environments an agent can go on in, and one sentence for all others, wherever they are given."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from contract_tools import (
    DictEnv,
    SpaceEnv,
    cart_poles,
    image_env,
    make_agent,
    one_of_each_kind,
    refusal,
)
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TimeAwareObservation
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

from sbbatch import DQN, PPO
from sbbatch.errors import InvalidType, InvalidValue, NumericalError
from sbbatch.zoo.run.build import make_env

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
UNREADABLE = [
    spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)]),
    spaces.Dict({"a": spaces.Dict({"b": VECTOR})}),
    spaces.Dict({}),
    spaces.Dict({"a": spaces.Box(-1, 1, (0,))}),
    spaces.Box(-1, 1, (3, 0)),
    spaces.Box(-1, 1, ()),
    spaces.Text(4),
    spaces.Dict({"a": VECTOR, "b": spaces.Sequence(spaces.Discrete(2))}),
]


@pytest.mark.parametrize("policy", ["MlpPolicy", "MultiInputPolicy"])
@pytest.mark.parametrize("algorithm", [DQN, PPO])
@pytest.mark.parametrize("space", UNREADABLE)
def test_observations_that_no_policy_is_for_are_refused(algorithm, policy, space):
    assert "observation space" in refusal(InvalidValue, algorithm, policy, SpaceEnv(space))


@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
@pytest.mark.parametrize("space", UNREADABLE)
def test_they_are_refused_from_the_command_line_before_sb3_sees_them(space, vec_env):
    gym.register("Unreadable-v0", lambda: SpaceEnv(space), disable_env_checker=True)
    try:
        assert "observation space" in refusal(InvalidValue, make_env, "Unreadable-v0", vec_env=vec_env)
    finally:
        del gym.registry["Unreadable-v0"]


@pytest.mark.parametrize(
    ("policy", "env", "right"),
    [
        ("MlpPolicy", lambda: "Blackjack-v1", "FlattenObservation"),
        ("MlpPolicy", DictEnv, "use MultiInputPolicy"),
        ("CnnPolicy", DictEnv, "MultiInputPolicy"),
        ("CnnPolicy", lambda: gym.make("CartPole-v1"), "use MlpPolicy"),
        ("MultiInputPolicy", image_env, "use CnnPolicy for images"),
    ],
)
def test_a_policy_for_other_observations_names_the_right_one(algorithm, policy, env, right):
    assert right in refusal(InvalidValue, algorithm, policy, env())


@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_images_that_are_too_small_for_the_convolutions_are_refused(algorithm):
    env = SpaceEnv(spaces.Box(0, 255, (4, 10, 10), np.uint8))
    assert "too small for its convolutions" in refusal(InvalidValue, algorithm, "CnnPolicy", env)


@pytest.fixture(scope="module")
def agent(algorithm):
    return make_agent(algorithm)


@pytest.fixture(scope="module")
def model(agent, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.zip"
    agent.save(path)
    return path


@pytest.mark.parametrize("env", [5, gym.Env, lambda: gym.make("CartPole-v1")])
def test_something_else_than_an_environment_is_refused_everywhere(algorithm, agent, model, env):
    for call in (
        lambda: algorithm("MlpPolicy", env),
        lambda: agent.set_env(env),
        lambda: algorithm.load(model, env=env, device="cpu"),
    ):
        told = refusal(InvalidType, call)
        assert told.startswith("env: got ")
        assert ("call the class to make one" in told) == isinstance(env, type)


def test_an_agent_needs_an_environment_to_be_made_and_to_learn(algorithm, model):
    assert f"{algorithm.__name__}.load(path)" in refusal(InvalidType, algorithm, "MlpPolicy", None)
    agent = algorithm.load(model, device="cpu")
    assert "call set_env(env)" in refusal(InvalidValue, agent.learn, 20)
    agent.set_env("CartPole-v1")
    assert agent.learn(44).num_timesteps == 44


@pytest.mark.parametrize(
    ("env", "both"),
    [
        (lambda: "Acrobot-v1", ("Box(4,)", "Box(6,)")),
        (DictEnv, ("Box(4,)", "Dict(number: Discrete(4), vector: Box(3,) of float32)")),
        (lambda: SpaceEnv(VECTOR), ("Box(4,)", "the same with other bounds")),
        (
            lambda: SpaceEnv(gym.make("CartPole-v1").observation_space, spaces.Discrete(3)),
            ("Discrete(2)", "Discrete(3)"),
        ),
    ],
)
def test_another_environment_is_refused_alike_by_set_env_and_load(algorithm, agent, model, env, both):
    before = agent.env
    for where, call in (("set_env", agent.set_env), ("load", lambda env: algorithm.load(model, env, device="cpu"))):
        told = refusal(InvalidValue, call, env())
        assert told.startswith(f"{where}: ")
        assert all(one in told for one in both)
    assert agent.env is before


def test_another_number_of_environments_is_for_load(algorithm, agent, model):
    with pytest.raises(AssertionError, match="number of environments"):
        agent.set_env(cart_poles(2))
    assert algorithm.load(model, env=cart_poles(2), device="cpu").n_envs == 2


def test_episodes_cannot_be_counted_in_several_environments_after_loading_either(tmp_path):
    make_agent(DQN, train_freq=(1, "episode")).save(tmp_path / "m")
    told = refusal(InvalidValue, DQN.load, tmp_path / "m", env=cart_poles(2), device="cpu")
    assert told.startswith("train_freq: got ")


@one_of_each_kind
@pytest.mark.parametrize("env", ["CartPole-v1", lambda: gym.make("CartPole-v1"), lambda: cart_poles(1)])
def test_an_equal_environment_can_be_set_also_by_its_id(algorithm, env):
    agent = make_agent(algorithm).learn(20)
    assert agent.env_id == "CartPole-v1"
    agent.set_env(env() if callable(env) else env)
    assert agent.learn(20, reset_num_timesteps=False).num_timesteps == 40


@one_of_each_kind
def test_images_are_compared_as_the_agent_sees_them(algorithm):
    agent = make_agent(algorithm, "image")
    agent.set_env(image_env())
    channels_last = DummyVecEnv([lambda: SpaceEnv(spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(6))])
    assert "Box(3, 36, 36)" in refusal(InvalidValue, agent.set_env, channels_last)


def test_an_evaluation_environment_is_wrapped_as_that_to_learn_in_or_refused_before_anything_is_learned(algorithm):
    agent = make_agent(algorithm)
    agent.set_env(VecNormalize(cart_poles(1)))
    told = refusal(InvalidValue, agent.learn, 64, [EvalCallback(cart_poles(1), eval_freq=8, verbose=0)])
    assert told.startswith("EvalCallback: wrap eval_env")
    assert agent.num_timesteps == 0
    same = EvalCallback(VecNormalize(cart_poles(1), training=False), eval_freq=8, n_eval_episodes=1, verbose=0)
    assert agent.learn(64, same).num_timesteps >= 64


@one_of_each_kind
@pytest.mark.parametrize("wraps", [TimeAwareObservation, lambda env: FrameStackObservation(env, 2)])
def test_an_evaluation_environment_shows_what_that_to_learn_in_shows(algorithm, wraps):
    plain = gym.make("CartPole-v1")
    for learned, evaluated in ((plain, wraps(plain)), (wraps(plain), plain)):
        agent = make_agent(algorithm, env=lambda learned=learned: learned)
        told = refusal(InvalidValue, agent.learn, 64, [EvalCallback(evaluated, eval_freq=8, verbose=0)])
        assert told.startswith("EvalCallback: wrap eval_env")


class OneStep(SpaceEnv):
    def step(self, action):
        return self.observation_space.sample(), 1.0, True, False, {}


def hwc_image():
    return OneStep(spaces.Box(0, 255, (36, 36, 3), np.uint8))


def grid():
    return OneStep(spaces.MultiDiscrete([[3, 4], [2, 2]]))


@one_of_each_kind
@pytest.mark.parametrize(
    ("kind", "make", "made"),
    [
        ("image", hwc_image, hwc_image),
        ("vector", grid, grid),
        ("vector", lambda: VecMonitor(cart_poles(1)), lambda: gym.make("CartPole-v1")),
        ("vector", lambda: gym.make_vec("CartPole-v1", 1, "sync"), lambda: gym.make("CartPole-v1")),
        ("vector", lambda: VecFrameStack(cart_poles(1), 2), lambda: VecFrameStack(cart_poles(1), 2)),
    ],
)
@pytest.mark.filterwarnings("ignore:Training and eval env", "ignore:Evaluation environment is not wrapped")
def test_without_a_normalization_an_evaluation_environment_is_wrapped_as_sb3_lets_it(algorithm, kind, make, made):
    agent = make_agent(algorithm, kind, env=make)
    evaluation = EvalCallback(made(), eval_freq=8, n_eval_episodes=1, verbose=0)
    agent.learn(16, evaluation)
    assert np.isfinite(evaluation.last_mean_reward)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_there_is_no_action_for_what_is_no_number(algorithm, value):
    agent, observation = make_agent(algorithm), np.zeros(4, np.float32)
    observation[2] = value
    for given in (observation, np.stack([observation] * 3)):
        with pytest.raises(NumericalError, match="predict: the observation contains"):
            agent.predict(given)


@pytest.mark.skipif(th.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_and_the_cpu_taken(algorithm, tmp_path):
    make_agent(algorithm).save(tmp_path / "m.zip")
    for device in ("cuda", "cuda:0", th.device("cuda", 1)):
        with pytest.warns(UserWarning, match="no GPU here"):
            assert make_agent(algorithm, device=device).device.type == "cpu"
        with pytest.warns(UserWarning, match="no GPU here"):
            assert algorithm.load(tmp_path / "m.zip", device=device).device.type == "cpu"
