"""How agents act: greedily when asked, else with a coin for each environment."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from contract_tools import KINDS, PLAIN_EXPLORATION, PLAIN_NETWORK, make_agent, observations_of, plain_network, refusal
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from sbbatch.errors import InvalidValue


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_deterministic(algorithm, kind):
    agent = make_agent(algorithm, kind)
    observations = observations_of(agent)
    agent.exploration_rate = 1.0
    first, _ = agent.predict(observations, deterministic=True)
    second, _ = agent.predict(observations, deterministic=True)
    np.testing.assert_array_equal(first, second)


def test_the_same_episodes_give_the_same_score(algorithm):
    agent = make_agent(algorithm).learn(60)
    scores = []
    for _ in range(2):
        env = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))])
        env.seed(5)
        scores.append(evaluate_policy(agent, env, n_eval_episodes=3, return_episode_rewards=True))
    assert scores[0] == scores[1]


def test_one_observation_gives_one_action(algorithm):
    agent = make_agent(algorithm)
    for deterministic in (True, False):
        action, state = agent.predict(np.zeros(4, dtype=np.float32), deterministic=deterministic)
        assert agent.action_space.contains(action)
        assert state is None


@pytest.mark.parametrize("deterministic", [True, False])
def test_lists_are_observations_and_what_reset_returns_is_told_to_be_none(value_algorithm, deterministic):
    agent = make_agent(value_algorithm, **plain_network(value_algorithm))
    agent.exploration_rate, one = 0.0, np.zeros(4, dtype=np.float32)
    expected = agent.predict(np.stack([one] * 3), deterministic=True)[0]
    for several in ([one] * 3, [one.tolist()] * 3, th.zeros(3, 4)):
        np.testing.assert_array_equal(agent.predict(several, deterministic=deterministic)[0], expected)
    assert agent.predict(one.tolist(), deterministic=deterministic)[0] == expected[0]
    told = refusal(InvalidValue, agent.predict, (one, {}), deterministic=deterministic)
    assert "expected the observation alone" in told
    assert "obs, info = env.reset()" in told


def test_with_epsilon_one_actions_are_random_and_with_deterministic_greedy(value_algorithm):
    agent = make_agent(value_algorithm, **plain_network(value_algorithm))
    observation = np.zeros((400, 4), dtype=np.float32)
    agent.exploration_rate = 1.0
    greedy, _ = agent.predict(observation, deterministic=True)
    assert len(set(greedy)) == 1
    random, _ = agent.predict(observation)
    # 400 fair coins: 200 +- 4 * 10
    assert 160 < random.sum() < 240
    agent.exploration_rate = 0.0
    np.testing.assert_array_equal(agent.predict(observation)[0], greedy)


def test_every_environment_throws_its_own_coin(replay_algorithm):
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")] * 64)
    half = {**PLAIN_EXPLORATION, "exploration_initial_eps": 0.5, "exploration_final_eps": 0.5}
    agent = make_agent(replay_algorithm, env=env, learning_starts=0, **half, **PLAIN_NETWORK)
    agent._last_obs = np.zeros((64, 4), dtype=np.float32)
    agent.exploration_rate = 0.5
    greedy = int(agent.predict(np.zeros(4, dtype=np.float32), deterministic=True)[0])
    n_greedy = []
    for _ in range(20):
        actions, _ = agent._sample_action(0, n_envs=64)
        n_greedy.append(int((actions == greedy).sum()))
    # Greedy ones and half of the explorers: 3/4 of 64 = 48 +- 3.5. One coin for all would give 64 or 32.
    assert all(32 < n < 64 for n in n_greedy)
    assert 44 < np.mean(n_greedy) < 52


def test_the_coin_of_predict_is_thrown_for_each_observation_too(value_algorithm):
    agent = make_agent(value_algorithm, **plain_network(value_algorithm))
    agent.exploration_rate = 0.5
    observations = np.zeros((400, 4), dtype=np.float32)
    greedy, _ = agent.predict(observations, deterministic=True)
    share = np.mean(agent.predict(observations)[0] == greedy)
    assert 0.66 < share < 0.84  # 3/4 +- 4 standard deviations
