"""Every agent learns, from every kind of observation, and its batch size may change meanwhile."""

import gymnasium as gym
import pytest
from contract_tools import KINDS, assert_same_weights, differ, image_env, make_agent, observations_of, refusal, weights
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize

from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidType, InvalidValue


@pytest.mark.parametrize("kind", KINDS)
def test_two_hundred_steps_change_the_weights_and_leave_them_finite(algorithm, kind):
    agent = make_agent(algorithm, kind)
    before = weights(agent)
    agent.learn(200)
    assert agent.num_timesteps == 200
    # 40 steps to start with, then one update every 4 steps: (200 - 40) / 4. Rollouts of 4 steps: 50, 2 updates on each.
    assert agent._n_updates == (40 if isinstance(agent, ReplayAgent) else 100)
    after = weights(agent)
    assert differ(before, after)
    assert all(value.isfinite().all() for value in after.values())
    actions, _ = agent.predict(observations_of(agent), deterministic=True)
    assert actions.shape == (16,)
    assert all(agent.action_space.contains(action) for action in actions)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(algorithm, kind):
    first, second, other = (make_agent(algorithm, kind, seed=seed).learn(80) for seed in (3, 3, 4))
    assert_same_weights(weights(first), weights(second))
    assert differ(weights(first), weights(other))


@pytest.mark.parametrize("kind", ["vector", "dict"])
@pytest.mark.parametrize(
    "kwargs", [{"n_steps": 3, "prioritized": True}, {"gradient_steps": -1, "train_freq": (1, "episode")}]
)
def test_a_seed_is_for_what_a_run_may_vary_as_well(replay_algorithm, kind, kwargs):
    first, second, other = (make_agent(replay_algorithm, kind, seed=seed, **kwargs).learn(80) for seed in (3, 3, 4))
    assert_same_weights(weights(first), weights(second))
    assert differ(weights(first), weights(other))


@pytest.mark.parametrize("kwargs", [{"n_steps": 3}, {"prioritized": True}, {"tau": 0.5, "target_update_interval": 10}])
def test_what_a_run_may_vary_learns_as_well(replay_algorithm, kwargs):
    agent = make_agent(replay_algorithm, **kwargs)
    before = weights(agent)
    agent.learn(200)
    assert differ(before, weights(agent))


def test_learning_again_goes_on_although_the_environment_was_reset(replay_algorithm):
    agent = make_agent(replay_algorithm, n_steps=3)
    agent.learn(60)
    before = weights(agent)
    agent.learn(60)
    assert agent.num_timesteps == 60
    agent.learn(60, reset_num_timesteps=False)
    assert agent.num_timesteps == 120
    assert agent.replay_buffer.size() == 180
    assert differ(before, weights(agent))


def test_asking_for_less_memory_as_with_sb3_works_over_two_runs(replay_algorithm):
    agent = make_agent(replay_algorithm, optimize_memory_usage=True)
    with pytest.warns(UserWarning, match="last trajectory"):
        agent.learn(60).learn(60)
    assert agent.replay_buffer.size() == 120


@pytest.mark.parametrize("kind", KINDS)
def test_several_environments_fill_the_buffer_together(replay_algorithm, kind):
    _, env, _ = KINDS[kind]
    make_env = env if callable(env) else lambda: gym.make(env)
    agent = make_agent(replay_algorithm, kind, env=DummyVecEnv([make_env] * 4), train_freq=2)
    agent.learn(200)
    assert agent.replay_buffer.size() == 50  # rows of four
    assert agent._n_updates == 20  # vector steps 11 to 50, every second


def test_stacked_images_are_recognised_and_stored_frame_by_frame(replay_algorithm):
    env = VecFrameStack(DummyVecEnv([image_env] * 2), 4)
    agent = make_agent(replay_algorithm, "image", env=env, n_steps=3)
    assert agent.observation_space.shape == (4, 36, 36)
    assert agent.frame_stack == agent.replay_buffer.frame_stack == 4
    agent.learn(80)
    # ten steps an episode; the opening stack is empty but for its newest frame
    first = agent.replay_buffer.observations[10, 0]
    assert not first[:3].any()
    assert first[3].any()


@pytest.mark.parametrize("kind", ["vector", "dict"])
def test_other_observations_are_stored_whole(replay_algorithm, kind):
    assert make_agent(replay_algorithm, kind).frame_stack == 1
    stacked = VecFrameStack(DummyVecEnv([lambda: gym.make("CartPole-v1")]), 4)
    assert make_agent(replay_algorithm, env=stacked).frame_stack == 1


def test_a_normalised_environment_is_learnt_from_with_normalised_samples(replay_algorithm):
    env = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    agent = make_agent(replay_algorithm, env=env)
    agent.learn(120)
    # raw in the memory (the reward of CartPole is 1), normalised in the batch
    assert (agent.replay_buffer.rewards == 1).all()
    batch = agent._sample_replay(8)
    assert (batch.rewards != 1).all()
    raw = agent.replay_buffer.sample(8).observations
    assert raw.abs().max() < 5


# ---------------------------------------------------------------------------------------------------------- batch size


def test_the_batch_size_can_be_doubled_and_halved_during_a_run(replay_algorithm):
    agent = make_agent(replay_algorithm)
    used = []
    original = agent.replay_buffer.sample

    def sample(batch_size, env=None):
        used.append(batch_size)
        return original(batch_size, env=env)

    agent.replay_buffer.sample = sample

    class Scheduler(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 100:
                assert self.model.set_batch_size(16) == 16
            if self.num_timesteps == 160:
                assert self.model.set_batch_size(4) == 4
            return True

    agent.learn(200, callback=Scheduler())
    # updates after steps 44, 48, ..., 200; the callback at step 100 comes before the update of that step
    assert used == [8] * 14 + [16] * 15 + [4] * 11
    assert agent._n_samples == 14 * 8 + 15 * 16 + 11 * 4
    assert agent.batch_size == 4


@pytest.mark.parametrize(
    ("batch_size", "error"), [(0, InvalidValue), (-4, InvalidValue), (8.0, InvalidType), (501, InvalidValue)]
)
def test_a_batch_size_that_cannot_be_is_refused_and_the_old_one_kept(replay_algorithm, batch_size, error):
    agent = make_agent(replay_algorithm)
    assert refusal(error, agent.set_batch_size, batch_size).startswith("batch_size: got ")
    assert agent.batch_size == 8
