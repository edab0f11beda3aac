"""What an environment must not return is told in one sentence, with step, environment and quantity."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper

from sbbatch import DQN, PPO
from sbbatch.errors import InvalidValue

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
FINE = np.zeros(3, np.float32)


class Returning(gym.Env):
    """Returns something of the test's choice from the third step on, or from its reset."""

    def __init__(self, step=(FINE, 1.0, False, False, {}), reset=(FINE, {}), space=VECTOR):
        self.observation_space, self.action_space = space, spaces.Discrete(2)
        self.of_step, self.of_reset, self.steps = step, reset, 0
        self.fine = FINE if space is VECTOR else space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.of_reset if self.of_reset[0] is not FINE else (self.fine, {})

    def step(self, action):
        self.steps += 1
        return (self.fine, 1.0, False, False, {}) if self.steps < 3 else self.of_step


def agent_in(algorithm, env):
    policy = "MultiInputPolicy" if isinstance(env.observation_space, spaces.Dict) else "MlpPolicy"
    own = {"learning_starts": 100, "buffer_size": 100} if algorithm is DQN else {"n_steps": 8, "batch_size": 4}
    return algorithm(policy, env, device="cpu", **own)


def refused(algorithm, env, steps=8):
    agent = agent_in(algorithm, env)
    with pytest.raises(InvalidValue) as caught:
        agent.learn(steps)
    assert "\n" not in str(caught.value)
    return str(caught.value)


BAD_REWARDS = [
    10**400,
    -(10**309),
    None,
    [1.0, 2.0],
    np.ones(2),
    np.ones((1, 2)),
    "1",
    {"r": 1.0},
    1j,
    np.array(None),
    [],
]
TAKEN = [np.array([1.5]), [1.5], np.array(1.5), np.float32(1.5), np.array([[1.5]]), th.tensor([1.5]), (1.5,)]
ways = pytest.mark.parametrize(
    "way",
    [
        lambda make: make(),
        lambda make: Monitor(make()),
        lambda make: DummyVecEnv([make]),
        lambda make: make_vec_env(make, 1),
        lambda make: make_vec_env(
            make, 1, wrapper_class=gym.wrappers.TimeLimit, wrapper_kwargs={"max_episode_steps": 9}
        ),
    ],
    ids=["env", "monitor", "vector", "vector with monitor", "wrapped"],
)


@ways
@pytest.mark.parametrize("algorithm", [DQN, PPO])
def test_a_bad_reward_is_told_however_the_environment_comes(algorithm, way):
    told = refused(algorithm, way(lambda: Returning((FINE, None, False, False, {}))))
    assert told.startswith("step 3: the reward of environment 0 is NoneType None")


@pytest.mark.parametrize("reward", BAD_REWARDS, ids=repr)
def test_rewards_that_are_no_number_are_refused(reward):
    assert "step 3: the reward of environment 0" in refused(PPO, Returning((FINE, reward, False, False, {})))


@ways
@pytest.mark.parametrize("reward", TAKEN, ids=repr)
def test_a_reward_of_one_element_is_taken(reward, way):
    agent = agent_in(PPO, way(lambda: Returning((FINE, reward, False, False, {})))).learn(8)
    assert agent.rollout_buffer.rewards[2:].ravel().tolist() == [1.5] * 6


def test_the_environment_is_named_by_its_number():
    envs = DummyVecEnv([Returning, Returning, lambda: Returning((np.zeros(1, np.float32), 1.0, False, False, {}))])
    assert refused(DQN, envs, 30).startswith("step 9: the observation of environment 2 has the shape (1,)")


DICT = spaces.Dict(a=VECTOR, b=spaces.Discrete(3, start=1))
IMAGE = spaces.Box(0, 255, (3,), np.uint8)
BAD_OBSERVATIONS = [
    (VECTOR, np.zeros(1, np.float32), "(1,)"),  # SB3 would spread it
    (VECTOR, np.zeros((1, 3), np.float32), "(1, 3)"),
    (VECTOR, 0.0, "()"),
    (VECTOR, [0.0, 0.0], "(2,)"),
    (VECTOR, [[0.0], [0.0, 1.0]], "list"),
    (VECTOR, None, "None"),
    (VECTOR, np.array(["a", "b", "c"]), "ndarray"),
    (VECTOR, np.zeros(3, np.complex64), "ndarray"),
    (VECTOR, {"a": FINE}, "dict"),
    (IMAGE, np.full(3, 0.5, np.float32), "float32 0.5"),
    (IMAGE, np.full(3, 300), "int64 300"),
    (IMAGE, np.full(3, np.nan), "float64 nan"),
    (spaces.Discrete(3), 3, "3"),
    (spaces.Discrete(3, start=1), 0, "0"),
    (spaces.Discrete(3), np.array([2]), "(1,)"),
    (spaces.MultiDiscrete([2, 3], start=[1, 0]), np.array([0, 0]), "[0, 0]"),
    (spaces.MultiBinary(3), np.array([0, 2, 0], np.int8), "[0, 2, 0]"),
    (spaces.MultiBinary(3), np.array([-1, 0, 1]), "[-1, 0, 1]"),
    (DICT, np.zeros(3), "expected one of a, b"),
    (DICT, {"a": FINE}, "dictionary of a"),
    (DICT, {"a": np.zeros(2, np.float32), "b": 1}, "observation a"),
    (DICT, {"a": FINE, "b": 0}, "observation b"),
]


@pytest.mark.parametrize(("space", "observation", "named"), BAD_OBSERVATIONS)
def test_observations_beside_their_space_are_refused(space, observation, named):
    told = refused(DQN, Returning((observation, 1.0, False, False, {}), space=space))
    assert told.startswith("step 3: the observation")
    assert "environment 0" in told
    assert named in told
    assert "step 0: " in refused(DQN, Returning(reset=(observation, {}), space=space))


@pytest.mark.parametrize(
    ("space", "observation"),
    [
        (VECTOR, [0.0, 0.0, 0.0]),
        (VECTOR, np.zeros(3)),
        (VECTOR, np.zeros(3, np.int64)),
        (IMAGE, np.full(3, 7)),
        (IMAGE, np.full(3, 7.0)),
        (DICT, {"a": FINE, "b": 1, "more": None}),
    ],
)
def test_observations_that_lose_nothing_are_taken_as_sb3_takes_them(space, observation):
    agent = agent_in(DQN, Returning((observation, 1.0, False, False, {}), space=space)).learn(8)
    for key in space.spaces if isinstance(space, spaces.Dict) else [None]:
        seen, returned = (agent._last_obs, observation) if key is None else (agent._last_obs[key], observation[key])
        np.testing.assert_array_equal(np.ravel(seen), np.ravel(returned))


@pytest.mark.parametrize("step", [(FINE, 1.0, False, {}), FINE, None, (FINE, 1.0, False, False, {}, 0), [FINE]])
def test_a_step_of_another_form_is_refused(step):
    told = refused(PPO, Returning(step))
    assert told.startswith("step 3: step of environment 0 returned")
    assert told.endswith("(observation, reward, terminated, truncated, info)")


@pytest.mark.parametrize(
    "reset", [np.ones(3, np.float32), np.ones(2, np.float32), (np.ones(3), None), (np.ones(3), [])]
)
def test_a_reset_without_info_is_refused(reset):
    assert refused(DQN, Returning(reset=reset)).startswith("step 0: reset of environment 0 returned")


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ((FINE, 1.0, None, False, {}), "terminated"),
        ((FINE, 1.0, 2.5, False, {}), "terminated"),
        ((FINE, 1.0, False, np.nan, {}), "truncated"),
        ((FINE, 1.0, False, [True, False], {}), "truncated"),
        ((FINE, 1.0, False, False, None), "info"),
    ],
)
def test_flags_and_infos_are_judged_as_well(step, named):
    assert named in refused(PPO, Returning(step))


@pytest.mark.parametrize(
    ("env", "at"),
    [
        (Returning((FINE, 1.0, False, {})), "step 3"),
        (Returning(reset=np.ones(5)), "step 0"),
        (Returning(reset=FINE), "step 0"),
    ],
)
def test_environments_that_gymnasium_has_made_are_judged_too(env, at):
    gym.register("Returning-v0", lambda: env, max_episode_steps=50)
    try:
        told = refused(DQN, gym.make("Returning-v0"))
    finally:
        del gym.registry["Returning-v0"]
    assert told.startswith(f"{at}: ")
    assert "of environment 0" in told


@ways
def test_an_environment_whose_reset_takes_no_seed_is_refused(way):
    class Seedless(Returning):
        def reset(self):
            return FINE, {}

    assert refused(DQN, way(Seedless)).startswith("step 0: reset of environment 0 fails (TypeError: ")


def test_the_environments_own_mistakes_keep_their_traceback():
    class Broken(Returning):
        def step(self, action):
            a, b = 1, 2, 3  # noqa: F841

    with pytest.raises(ValueError, match="too many values") as caught:
        agent_in(PPO, Broken()).learn(8)
    assert not isinstance(caught.value, InvalidValue)


def test_a_judged_environment_is_still_the_users_own():
    class Own(Returning):
        difficulty = 1

        def harder(self):
            self.difficulty += 1

    envs = DummyVecEnv([Own, Own])
    agent = agent_in(PPO, envs)
    agent.set_env(envs)  # judged once
    envs.set_attr("difficulty", 5)
    envs.env_method("harder", indices=[1])
    assert envs.get_attr("difficulty") == [5, 6]
    assert [env.unwrapped.difficulty for env in envs.envs] == [env.difficulty for env in envs.envs] == [5, 6]


@pytest.mark.parametrize("algorithm", [DQN, PPO])
@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda obs, rewards: (obs[:, :1], rewards), "observation"),
        (lambda obs, rewards: (obs, rewards[:1]), "rewards"),
        (lambda obs, rewards: (obs, [None, None]), "rewards"),
        (lambda obs, rewards: (obs + 0.5, rewards), "observation"),
        (lambda obs, rewards: (obs + 256, rewards), "observation"),
    ],
)
def test_vector_environments_of_the_users_own_are_judged_as_a_whole(algorithm, spoil, named):
    class Spoilt(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            obs, rewards, dones, infos = self.venv.step_wait()
            return *spoil(obs.astype(np.int64), rewards), dones, infos

    def made():
        return Returning((np.zeros(3, np.uint8), 1.0, False, False, {}), space=IMAGE)

    assert refused(algorithm, Spoilt(DummyVecEnv([made, made]))).startswith(f"step 2: the {named} of the env")


def test_rewards_in_a_column_are_taken():
    class Column(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            obs, rewards, dones, infos = self.venv.step_wait()
            return obs, rewards[:, None].tolist(), dones, infos

    for algorithm in (DQN, PPO):
        agent = agent_in(algorithm, Column(DummyVecEnv([Returning, Returning]))).learn(16)
        stored = agent.replay_buffer.sample(8).rewards.numpy() if algorithm is DQN else agent.rollout_buffer.rewards
        assert (stored == 1.0).all()


def test_an_environment_whose_reset_takes_no_options_is_trained_in():
    class Plain(gym.Env):
        observation_space = gym.spaces.Box(0, 1, (2,), np.float32)
        action_space = gym.spaces.Discrete(2)

        def reset(self, seed=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            return np.zeros(2, np.float32), 1.0, bool(action), False, {}

    assert DQN("MlpPolicy", Plain(), learning_starts=10, device="cpu").learn(30).num_timesteps >= 30
