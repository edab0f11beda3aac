"""Environments an agent can go on in, and one sentence for all others, wherever they are given."""

import gymnasium as gym
import numpy as np
import pytest
from contract_tools import (
    DictEnv,
    SpaceEnv,
    assert_same_weights,
    cart_poles,
    image_env,
    make_agent,
    refusal,
    weights,
)
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch.errors import InvalidType, InvalidValue

VECTOR = spaces.Box(-1, 1, (4,), np.float32)
OBSERVATIONS = [
    (
        spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)]),
        "observation space: got Tuple(Discrete(3), Discrete(2))",
    ),
    (
        spaces.Dict({"a": spaces.Dict({"b": VECTOR})}),
        "observation space a: got Dict(b: Box(4,) of float32)",
    ),
    (spaces.Dict({"a": spaces.Tuple([VECTOR])}), "observation space a: got Tuple("),
    (spaces.Dict({}), "observation space: got an empty Dict"),
    (
        spaces.Box(-1, 1, (0,)),
        "got Box(0,) of float32, expected at least one dimension and one number",
    ),
    (spaces.Box(-1, 1, (3, 0)), "observation space: got Box(3, 0)"),
    (spaces.Box(-1, 1, ()), "observation space: got Box() of float32"),
    (spaces.Dict({"a": spaces.Box(-1, 1, (0,))}), "observation space a: got Box(0,)"),
    (spaces.Discrete(4, start=2), "observation space: got Discrete(4, start=2), expected numbers that start at 0"),
    (spaces.Text(4), "observation space: got Text("),
    (spaces.Sequence(VECTOR), "observation space: got Sequence("),
]


@pytest.fixture(scope="module")
def agent(algorithm):
    return make_agent(algorithm)


@pytest.fixture(scope="module")
def model(agent, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.zip"
    agent.save(path)
    return path


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", "MultiInputPolicy"])
@pytest.mark.parametrize(("space", "message"), OBSERVATIONS)
def test_observations_that_no_policy_is_for_are_refused(algorithm, policy, space, message):
    assert message in refusal(InvalidValue, algorithm, policy, SpaceEnv(space))


def test_blackjack_is_told_how_to_be_wrapped(algorithm):
    told = refusal(InvalidValue, algorithm, "MlpPolicy", "Blackjack-v1")
    assert "got Tuple(Discrete(32), Discrete(11), Discrete(2))" in told
    assert "FlattenObservation" in told


@pytest.mark.parametrize(
    ("policy", "env", "message"),
    [
        ("MlpPolicy", DictEnv, "use MultiInputPolicy"),
        ("CnnPolicy", DictEnv, "for dictionaries MultiInputPolicy"),
        ("CnnPolicy", lambda: gym.make("CartPole-v1"), "for vectors use MlpPolicy"),
        ("MultiInputPolicy", lambda: gym.make("CartPole-v1"), "use CnnPolicy for images, MlpPolicy otherwise"),
        ("MultiInputPolicy", image_env, "use CnnPolicy for images, MlpPolicy otherwise"),
    ],
)
def test_a_policy_for_other_observations_names_the_right_one(algorithm, policy, env, message):
    assert message in refusal(InvalidValue, algorithm, policy, env())


@pytest.mark.parametrize("env", [5, [], object(), gym.Env, DummyVecEnv, lambda: gym.make("CartPole-v1")])
@pytest.mark.parametrize("place", ["constructor", "set_env", "load"])
def test_something_else_than_an_environment_is_refused_everywhere(algorithm, agent, model, env, place):
    calls = {
        "constructor": lambda: algorithm("MlpPolicy", env),
        "set_env": lambda: agent.set_env(env),
        "load": lambda: algorithm.load(model, env=env, device="cpu"),
    }
    told = refusal(InvalidType, calls[place])
    assert told.startswith("env: got ")
    assert ("call the class to make one" in told) == isinstance(env, type)


def test_no_environment_is_refused_with_the_way_to_load_an_agent(algorithm):
    assert f"{algorithm.__name__}.load(path)" in refusal(InvalidType, algorithm, "MlpPolicy", None)


def test_an_agent_that_only_plays_does_not_learn(algorithm, model):
    told = refusal(InvalidValue, algorithm.load(model, device="cpu").learn, 20)
    assert told.startswith("learn: the agent has no environment; call set_env(env)")


OURS = "observations Box(4,) of float32, the environment has"
OTHERS = [
    (lambda: gym.make("Acrobot-v1"), f"{OURS} Box(6,) of float32"),
    (lambda: "Acrobot-v1", f"{OURS} Box(6,) of float32"),
    (DictEnv, f"{OURS} Dict(number: Discrete(4), vector: Box(3,) of float32)"),
    (lambda: SpaceEnv(VECTOR), f"{OURS} the same with other bounds"),
    (
        lambda: SpaceEnv(gym.make("CartPole-v1").observation_space, spaces.Discrete(3)),
        "actions Discrete(2), the environment has Discrete(3)",
    ),
]


@pytest.mark.parametrize(("env", "message"), OTHERS)
def test_another_environment_is_refused_alike_by_set_env_and_load(algorithm, agent, model, env, message):
    before = agent.env
    for where, call in (("set_env", agent.set_env), ("load", lambda env: algorithm.load(model, env, device="cpu"))):
        told = refusal(InvalidValue, call, env())
        assert told.startswith(f"{where}: the agent was trained with {message}; give it the environment it was trained")
    assert agent.env is before


def test_another_number_of_environments_is_for_load(algorithm, agent, model):
    told = refusal(InvalidValue, agent.set_env, cart_poles(2))
    assert told.startswith(f"set_env: got 2 environments, the agent has 1; {algorithm.__name__}.load(path, env=env)")
    assert algorithm.load(model, env=cart_poles(2), device="cpu").n_envs == 2


def test_episodes_cannot_be_counted_in_several_environments_after_loading_either(replay_algorithm, tmp_path):
    make_agent(replay_algorithm, train_freq=(1, "episode")).save(tmp_path / "m")
    told = refusal(InvalidValue, replay_algorithm.load, tmp_path / "m", env=cart_poles(2), device="cpu")
    assert told.startswith("train_freq: got episodes with 2 environments")


@pytest.mark.parametrize("env", ["CartPole-v1", lambda: gym.make("CartPole-v1"), lambda: cart_poles(1)])
def test_an_equal_environment_can_be_set_also_by_its_id(algorithm, env):
    agent = make_agent(algorithm)
    agent.learn(20)
    agent.set_env(env() if callable(env) else env)
    assert agent.learn(20, reset_num_timesteps=False).num_timesteps == 40


def test_images_are_compared_as_the_agent_sees_them(algorithm):
    agent = make_agent(algorithm, "image")
    agent.set_env(image_env())
    channels_last = DummyVecEnv([lambda: SpaceEnv(spaces.Box(0, 255, (36, 36, 3), np.uint8), spaces.Discrete(6))])
    assert "the environment has Box(3, 36, 36) of uint8" in refusal(InvalidValue, agent.set_env, channels_last)


def test_a_loaded_agent_can_be_given_its_environment_afterwards(algorithm, model):
    agent = algorithm.load(model, device="cpu")
    before = weights(agent)
    agent.set_env("CartPole-v1")
    assert agent.learn(44).num_timesteps == 44
    assert before.keys() == weights(agent).keys()


class Meddle(BaseCallback):
    """Calls something in the middle of a run."""

    def __init__(self, call):
        super().__init__()
        self.call, self.told = call, None

    def _on_step(self):
        if self.n_calls == 43:
            self.told = refusal(InvalidValue, self.call, self.model)
        return True


@pytest.mark.parametrize("method", ["set_env", "learn"])
def test_what_only_an_agent_at_rest_can_do_is_refused_while_it_learns_and_leaves_no_trace(algorithm, method):
    argument = {"set_env": "CartPole-v1", "learn": 8}[method]
    callback = Meddle(lambda agent: getattr(agent, method)(argument))
    agent, undisturbed = (make_agent(algorithm).learn(64, callback=one) for one in (callback, None))
    assert callback.told == f"{method}: the agent is learning; call it when its learn() has returned"
    assert_same_weights(weights(agent), weights(undisturbed))
    agent.set_env("CartPole-v1")
    assert agent.learn(8).num_timesteps == 8
