"""Learning and acting: what a run is made of, where it stops and goes on, and what it may not swallow."""

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from contract_tools import (
    KINDS,
    PLAIN_EXPLORATION,
    PLAIN_NETWORK,
    CopyOnce,
    DictEnv,
    RecordedLogger,
    StopAt,
    assert_same_weights,
    cart_poles,
    differ,
    image_env,
    make_agent,
    one_of_each_kind,
    plain_network,
    refusal,
    weights,
)
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sbbatch import DQN, PPO, PQN, QRDQN
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidValue, NumericalError
from sbbatch.functional.distributions import midpoint_taus, quantile_huber_loss


@pytest.mark.parametrize(("algorithm", "kind"), [(DQN, "image"), (PQN, "dict"), (PPO, "image")])
def test_the_same_seed_gives_the_same_weights_whatever_is_observed(algorithm, kind):
    first, second = (make_agent(algorithm, kind, seed=3).learn(60) for _ in range(2))
    assert_same_weights(weights(first), weights(second))


@pytest.mark.parametrize(
    "kwargs",
    [
        {"n_steps": 3, "prioritized": True},
        {"gradient_steps": -1, "train_freq": (1, "episode")},
        {"tau": 0.5, "target_update_interval": 10},
    ],
)
def test_what_a_run_may_vary_learns_and_repeats_itself_too(replay_algorithm, kwargs):
    agents = [make_agent(replay_algorithm, seed=3, **kwargs) for _ in range(2)]
    before = weights(agents[0])
    first, second = (agent.learn(80) for agent in agents)
    assert differ(before, weights(first))
    assert_same_weights(weights(first), weights(second))


@pytest.mark.parametrize("schedule", [lambda p: 1e-3 * p, lambda p: th.tensor(1e-3 * (1 - p))])
@one_of_each_kind
def test_a_learning_rate_may_fall_to_zero_or_rise_from_it(algorithm, schedule):
    assert make_agent(algorithm, learning_rate=schedule).learn(44).num_timesteps == 44


def test_learning_again_counts_from_zero_or_goes_on(algorithm):
    agent = make_agent(algorithm, **{"n_steps": 3} if issubclass(algorithm, ReplayAgent) else {}).learn(60)
    before = weights(agent)
    assert agent.learn(60).num_timesteps == 60
    assert agent.learn(60, reset_num_timesteps=False).num_timesteps == 120
    assert (agent.replay_buffer.size() if isinstance(agent, ReplayAgent) else 2 * agent._n_updates) == 180
    assert differ(before, weights(agent))


@one_of_each_kind
def test_a_run_may_be_as_long_as_a_whole_float_and_callbacks_come_in_several_forms(algorithm):
    class Silent(BaseCallback):
        def _on_step(self):
            return True

    agent = make_agent(algorithm)
    for callback in (None, lambda *_: True, Silent(), [Silent(), Silent()], []):
        assert agent.learn(4e0, callback=callback, log_interval=None).num_timesteps == 4


def test_the_logger_sees_the_keys_that_plots_need(algorithm):
    on_replay = issubclass(algorithm, ReplayAgent)
    agent, logger = make_agent(algorithm, **{"prioritized": True} if on_replay else {}), RecordedLogger()
    agent.set_logger(logger)
    agent.learn(80)
    expected = {
        *("train/loss", "train/batch_size", "train/samples", "train/gradient_steps", "train/n_updates"),
        *("train/learning_rate", "rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "time/total_timesteps"),
    }
    if on_replay:
        own, counts = {"rollout/exploration_rate"}, {"train/batch_size": 8, "train/gradient_steps": 10}
        assert 0 < logger.seen["train/mean_importance_weight"] <= 1
    else:
        own, counts = {"batch/n_epochs"}, {"train/batch_size": 2, "train/n_steps": 4, "train/n_updates": 40}
        own.add("train/approx_kl" if algorithm is PPO else "rollout/exploration_rate")
    assert expected | own <= set(logger.seen)
    assert {key: logger.seen[key] for key in counts} == counts
    assert logger.seen["train/samples"] == (80 if on_replay else 80 * agent.n_epochs)
    assert math.isfinite(logger.seen["train/loss"])


def test_asking_for_less_memory_as_with_sb3_works_over_two_runs():
    agent = make_agent(DQN, optimize_memory_usage=True)
    with pytest.warns(UserWarning, match="last trajectory"):
        agent.learn(60).learn(60)
    assert agent.replay_buffer.size() == 120


@pytest.mark.parametrize("kind", KINDS)
def test_several_environments_are_learnt_from_together(algorithm, kind):
    _, env, _ = KINDS[kind]
    make_env = env if callable(env) else lambda: gym.make(env)
    on_replay = issubclass(algorithm, ReplayAgent)
    agent = make_agent(algorithm, kind, env=DummyVecEnv([make_env] * 4), **{"train_freq": 2} if on_replay else {})
    before = weights(agent)
    agent.learn(80)
    if on_replay:
        assert agent.replay_buffer.size() == 20  # rows of four
        assert agent._n_updates == 5  # vector steps 11 to 20, every second
    else:
        assert agent.rollout_buffer.rewards.size == 16
        assert agent.num_timesteps == 80
    assert differ(before, weights(agent))


def test_stacked_images_are_recognised_and_stored_frame_by_frame(replay_algorithm):
    env = VecFrameStack(DummyVecEnv([image_env] * 2), 4)
    agent = make_agent(replay_algorithm, "image", env=env, n_steps=3)
    assert agent.observation_space.shape == (4, 36, 36)
    assert agent.frame_stack == agent.replay_buffer.frame_stack == 4
    agent.learn(60)
    # ten steps an episode; the opening stack is empty but for its newest frame
    first = agent.replay_buffer.observations[10, 0]
    assert not first[:3].any()
    assert first[3].any()


def test_other_observations_are_stored_whole():
    assert make_agent(DQN, "dict").frame_stack == 1
    assert make_agent(DQN, env=VecFrameStack(cart_poles(1), 4)).frame_stack == 1


@one_of_each_kind
def test_a_normalised_environment_is_learnt_from_with_normalised_samples(algorithm):
    agent = make_agent(algorithm, env=VecNormalize(cart_poles(1))).learn(80)
    if not isinstance(agent, ReplayAgent):
        assert (agent.rollout_buffer.rewards != 1).all()
        return
    # raw in the memory (the reward of CartPole is 1), normalised in the batch
    assert (agent.replay_buffer.rewards == 1).all()
    assert (agent._sample_replay(8).rewards != 1).all()
    assert agent.replay_buffer.sample(8).observations.abs().max() < 5


# --------------------------------------------------------------------------------------------------- stop and go on


def test_frame_stacks_go_on_where_a_callback_or_an_evaluation_stopped():
    agent = make_agent(DQN, "image", env=VecFrameStack(DummyVecEnv([image_env]), 4))
    agent.learn(100, callback=StopAt(45))
    assert agent.num_timesteps == agent.replay_buffer.size() == 45
    agent.learn(30, reset_num_timesteps=False)
    stopped_at = agent.num_timesteps
    assert agent.replay_buffer.size() == stopped_at >= 75
    evaluate_policy(agent, agent.get_env(), n_eval_episodes=1, warn=False)
    agent.learn(30, reset_num_timesteps=False)
    assert agent.replay_buffer.timeouts[stopped_at]  # closes the episode, and nothing else
    assert agent.replay_buffer.size() == agent.num_timesteps


def test_an_agent_can_be_copied_while_it_collects_steps_and_afterwards(algorithm):
    callback = CopyOnce()
    agent = make_agent(algorithm).learn(48, callback=callback)
    assert callback.copied.learn(8).num_timesteps == 8
    other = copy.deepcopy(agent)
    assert_same_weights(weights(agent), weights(other))
    other.learn(40, reset_num_timesteps=False)
    assert differ(weights(agent), weights(other))


@one_of_each_kind
def test_a_subclass_may_have_a_constructor_and_defaults_of_its_own(algorithm, tmp_path):
    class Mine(algorithm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    class Careful(algorithm, defaults={"gamma": 0.5}):
        pass

    agent = make_agent(Mine).learn(44)
    agent.save(tmp_path / "m")
    for one in (Mine, algorithm):
        assert one.load(tmp_path / "m", device="cpu").num_timesteps == 44
    assert make_agent(Careful).gamma == 0.5 != make_agent(algorithm).gamma


def test_a_subclass_that_overrides_predict_is_asked_while_it_learns():
    class Masked(DQN):
        def predict(self, *args, **kwargs):
            actions, state = super().predict(*args, **kwargs)
            return np.zeros_like(actions), state

    assert not make_agent(Masked).learn(60).replay_buffer.actions[40:].any()


def test_prioritized_replay_bears_losses_of_zero():
    values = th.full((64, 200), 1e5) * (1 + th.rand(64, 1, generator=th.Generator().manual_seed(0)))
    assert (quantile_huber_loss(values, values, midpoint_taus(200)) == 0).all()  # never negative by rounding
    agent = make_agent(QRDQN, prioritized=True, gamma=1.0).learn(40)
    with th.no_grad():
        for network in (agent.q_net, agent.q_net_target):
            network.head.layers.output.weight.zero_()
            network.head.layers.output.bias.fill_(1000.3)
    agent.replay_buffer._rewards[:] = 0
    agent.train(5, 4)
    assert np.isfinite(agent.replay_buffer.sampler.tree.leaves).all()


# ------------------------------------------------------------------------------------------------------------ acting


@pytest.mark.parametrize("deterministic", [True, False])
def test_one_observation_gives_one_action_and_lists_are_observations(value_algorithm, deterministic):
    agent = make_agent(value_algorithm, **plain_network(value_algorithm))
    agent.exploration_rate, one = 0.0, np.zeros(4, dtype=np.float32)
    expected = agent.predict(np.stack([one] * 3), deterministic=True)[0]
    for several in ([one] * 3, [one.tolist()] * 3, th.zeros(3, 4)):
        np.testing.assert_array_equal(agent.predict(several, deterministic=deterministic)[0], expected)
    assert agent.action_space.contains(agent.predict(one, deterministic=deterministic)[0])
    assert agent.predict(one.tolist(), deterministic=deterministic)[0] == expected[0]
    assert "obs, info = env.reset()" in refusal(InvalidValue, agent.predict, (one, {}), deterministic=deterministic)


def test_epsilon_is_a_coin_for_each_observation(value_algorithm):
    agent = make_agent(value_algorithm, **plain_network(value_algorithm))
    observations = np.zeros((400, 4), dtype=np.float32)
    greedy, _ = agent.predict(observations, deterministic=True)
    for epsilon, low, high in ((1.0, 0.4, 0.6), (0.5, 0.66, 0.84), (0.0, 1.0, 1.0)):  # 4 standard deviations
        agent.exploration_rate = epsilon
        assert low <= np.mean(agent.predict(observations)[0] == greedy) <= high
    np.testing.assert_array_equal(agent.predict(observations, deterministic=True)[0], greedy)


def test_every_environment_throws_its_own_coin(replay_algorithm):
    half = {**PLAIN_EXPLORATION, "exploration_initial_eps": 0.5, "exploration_final_eps": 0.5}
    agent = make_agent(replay_algorithm, env=cart_poles(64), learning_starts=0, **half, **PLAIN_NETWORK)
    agent._last_obs = np.zeros((64, 4), dtype=np.float32)
    agent.exploration_rate = 0.5
    greedy = int(agent.predict(np.zeros(4, dtype=np.float32), deterministic=True)[0])
    n_greedy = [int((agent._sample_action(0, n_envs=64)[0] == greedy).sum()) for _ in range(20)]
    # Greedy ones and half of the explorers: 3/4 of 64 = 48 +- 3.5. One coin for all would give 64 or 32.
    assert all(32 < n < 64 for n in n_greedy)
    assert 44 < np.mean(n_greedy) < 52
    assert not np.array_equal(agent.exploration.rng.random(5), agent.replay_buffer.rng.random(5))


# ------------------------------------------------------------------------------------------------------ not a number


class SpoiltEnv(gym.Env):
    """A reward or an observation that is no number at a given step."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, what=None, at=0, value=math.nan):
        self.what, self.at, self.value, self.count = what, at, value, 0

    def reset(self, *, seed=None, options=None):
        return np.full(2, self.value if self.what == "reset" else 0.0, dtype=np.float32), {}

    def step(self, action):
        self.count += 1
        spoilt = self.count == self.at
        reward = self.value if spoilt and self.what == "reward" else 1.0
        observation = np.full(2, 0.01 * self.count, dtype=np.float32)
        if spoilt and self.what in ("observation", "final observation"):
            observation[1] = self.value
        return observation, reward, spoilt and self.what == "final observation", False, {}


@pytest.mark.parametrize(
    ("what", "value"),
    [("reward", math.nan), ("reward", -math.inf), ("observation", math.inf), ("final observation", math.nan)],
)
def test_a_run_stops_at_a_number_that_is_none_and_says_where(algorithm, what, value):
    envs = DummyVecEnv([SpoiltEnv, lambda: SpoiltEnv(what, 30, value), SpoiltEnv])
    agent = make_agent(algorithm, env=envs)
    # the 30th vector step of three environments: step 90
    assert refusal(NumericalError, agent.learn, 600).startswith(f"step 90: the {what} of environment 1 ")
    if isinstance(agent, ReplayAgent):
        assert agent.replay_buffer.size() == 29


@one_of_each_kind
def test_a_spoilt_entry_of_a_dictionary_is_named(algorithm):
    class Spoilt(DictEnv):
        def step(self, action):
            observation, *rest = super().step(action)
            observation["vector"][2] = np.nan
            return (observation, *rest)

    told = refusal(NumericalError, make_agent(algorithm, "dict", env=Spoilt).learn, 100)
    assert told.startswith("step 1: the observation vector of environment 0 ")


def test_a_first_observation_that_is_no_number_stops_a_rollout(rollout_algorithm):
    agent = make_agent(rollout_algorithm, env=lambda: SpoiltEnv("reset", value=math.inf))
    assert refusal(NumericalError, agent.learn, 60).startswith("step 0: the observation of environment 0 contains inf")


def test_weights_that_are_no_numbers_stop_the_run_before_an_update(algorithm):
    agent = make_agent(algorithm).learn(60)
    with th.no_grad():
        next(iter(agent.policy.parameters())).fill_(math.nan)
    before = agent._n_updates
    refusal(NumericalError, agent.train, *((1, 8) if isinstance(agent, ReplayAgent) else ()))
    assert agent._n_updates == before
    refusal(NumericalError, agent.learn, 60)


def test_a_learning_rate_that_spoils_the_weights_stops_the_run(rollout_algorithm):
    agent = make_agent(rollout_algorithm)
    agent.policy.optimizer.param_groups[0]["lr"] = 1e30
    agent._update_learning_rate = lambda _: None
    assert refusal(NumericalError, agent.learn, 600).startswith("step ")


class SpoiltTorso(BaseFeaturesExtractor):
    """Gives numbers until it is spoilt."""

    spoilt = False

    def __init__(self, observation_space):
        super().__init__(observation_space, 4)

    def forward(self, observations):
        return observations * (math.nan if self.spoilt else 1.0)


def test_a_distribution_that_is_none_stops_the_run_by_name():
    agent = make_agent(PPO, policy_kwargs={"features_extractor_class": SpoiltTorso}).learn(8)
    agent.policy.features_extractor.spoilt = True
    told = refusal(NumericalError, agent.learn, 8, reset_num_timesteps=False)
    assert told.startswith("step 8: the distribution of actions became NaN or infinite")
