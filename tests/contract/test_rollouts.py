"""Agents that learn from rollouts: what they collect, where they stop, what they are after loading."""

import copy
import inspect

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from contract_tools import KINDS, assert_same_weights, cart_poles, differ, make_agent, observations_of, refusal, weights
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from test_sb3_parts import RecordedLogger

from sbbatch import PPO, PQN
from sbbatch.agents.base.rollout import in_minibatches
from sbbatch.errors import InvalidType, InvalidValue
from sbbatch.functional.schedules import linear_epsilon


class StopAt(BaseCallback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        return self.num_timesteps < self.step


@pytest.mark.parametrize("kind", KINDS)
def test_several_environments_fill_a_rollout_together(rollout_algorithm, kind):
    _, env, _ = KINDS[kind]
    make_env = env if callable(env) else lambda: gym.make(env)
    agent = make_agent(rollout_algorithm, kind, env=DummyVecEnv([make_env] * 4))
    before = weights(agent)
    agent.learn(64)
    assert agent.rollout_buffer.rewards.size == 16
    assert agent.num_timesteps == 64
    assert differ(before, weights(agent))


def test_stacked_images_are_learnt_from(rollout_algorithm):
    env = VecFrameStack(DummyVecEnv([KINDS["image"][1]] * 2), 4)
    assert make_agent(rollout_algorithm, "image", env=env).learn(40).rollout_buffer.observations.shape[-3:] == (
        4,
        36,
        36,
    )


def test_a_normalised_environment_is_learnt_from_with_normalised_samples(rollout_algorithm):
    agent = make_agent(rollout_algorithm, env=VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")])))
    agent.learn(120)
    assert (agent.rollout_buffer.rewards != 1).all()


def test_learning_again_goes_on(rollout_algorithm):
    agent = make_agent(rollout_algorithm).learn(60)
    before = weights(agent)
    assert agent.learn(60).num_timesteps == 60
    assert agent.learn(60, reset_num_timesteps=False).num_timesteps == 120
    assert agent.batch_time == 45
    assert differ(before, weights(agent))


def test_a_stopped_agent_goes_on_from_where_its_environments_are(rollout_algorithm):
    agent = make_agent(rollout_algorithm, env=cart_poles(2))
    agent.learn(100, callback=StopAt(46))
    assert agent.num_timesteps == 46
    envs = agent.get_env().venv if hasattr(agent.get_env(), "venv") else agent.get_env()
    states = np.array([env.unwrapped.state for env in envs.envs], dtype=np.float32)
    np.testing.assert_array_equal(agent._last_obs, states)
    assert agent.learn(50, reset_num_timesteps=False).num_timesteps == 46 + 56


def test_an_agent_can_be_copied_while_it_collects_steps_and_afterwards(rollout_algorithm):
    class CopyOnce(BaseCallback):
        copied, module = None, copy

        def _on_step(self):
            self.copied = self.copied or copy.deepcopy(self.model)
            return True

    callback = CopyOnce()
    agent = make_agent(rollout_algorithm).learn(40, callback=callback)
    assert callback.copied.learn(20).num_timesteps == 20
    other = copy.deepcopy(agent)
    assert_same_weights(weights(agent), weights(other))
    other.learn(40, reset_num_timesteps=False)
    assert differ(weights(agent), weights(other))


def test_a_subclass_may_have_a_constructor_of_its_own(rollout_algorithm, tmp_path):
    class Mine(rollout_algorithm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    agent = make_agent(Mine).learn(40)
    agent.save(tmp_path / "m")
    for algorithm in (Mine, rollout_algorithm):
        assert algorithm.load(tmp_path / "m", device="cpu").num_timesteps == 40


def test_a_subclass_may_have_other_defaults(rollout_algorithm):
    class Shorter(rollout_algorithm, defaults={"n_steps": 128}):
        pass

    assert Shorter("MlpPolicy", "CartPole-v1", device="cpu").n_steps == 128
    assert inspect.signature(Shorter).parameters["n_steps"].default == 128
    assert inspect.signature(rollout_algorithm).parameters["n_steps"].default != 128


def test_a_policy_may_be_a_class(rollout_algorithm):
    base = rollout_algorithm.policy_aliases["MlpPolicy"]

    class Custom(base):
        pass

    assert isinstance(rollout_algorithm(Custom, "CartPole-v1", device="cpu").policy, Custom)


def test_the_logger_sees_the_keys_that_plots_need(rollout_algorithm):
    agent, logger = make_agent(rollout_algorithm), RecordedLogger()
    agent.set_logger(logger)
    agent.learn(200)
    expected = {
        *("train/loss", "train/batch_size", "train/n_steps", "train/n_updates", "train/learning_rate"),
        *("rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "time/total_timesteps", "batch/n_epochs"),
        *("train/gradient_steps", "train/samples"),
    }
    own = {"PQN": {"rollout/exploration_rate"}, "PPO": {"train/approx_kl"}}
    assert expected | own[rollout_algorithm.__name__] <= set(logger.seen)
    assert (logger.seen["train/batch_size"], logger.seen["train/n_steps"], logger.seen["train/n_updates"]) == (
        2,
        4,
        100,
    )


# --------------------------------------------------------------------------------------------------- saved and loaded


def test_what_a_run_is_made_of_can_be_changed_when_loading(rollout_algorithm, tmp_path):
    make_agent(rollout_algorithm, n_steps=8).save(tmp_path / "m")
    loaded = rollout_algorithm.load(tmp_path / "m", "CartPole-v1", device="cpu", n_epochs=3, scale_epochs=False)
    assert (loaded.n_epochs, loaded.epochs_for(16)) == (3, 3)
    loaded = rollout_algorithm.load(tmp_path / "m", "CartPole-v1", device="cpu", n_epochs=3, epoch_reference=None)
    assert (loaded.n_epochs, loaded.epochs_for(16)) == (3, 6)
    loaded = rollout_algorithm.load(tmp_path / "m", cart_poles(4), device="cpu", n_steps=4).learn(32)
    assert loaded.rollout_buffer.rewards.size == 16
    assert loaded.batch_size * loaded.n_minibatches == 16


def test_arguments_of_the_rollout_buffer_are_checked_when_loading(rollout_algorithm, tmp_path):
    make_agent(rollout_algorithm).save(tmp_path / "m")
    assert rollout_algorithm.load(tmp_path / "m", device="cpu", rollout_buffer_kwargs=None).rollout_buffer is not None
    for name, value in (("rollout_buffer_class", int), ("rollout_buffer_kwargs", 5)):
        told = refusal(InvalidType, rollout_algorithm.load, tmp_path / "m", device="cpu", **{name: value})
        assert told.startswith(f"{name}: got ")


def test_a_batch_size_is_changed_where_it_is_an_argument(tmp_path):
    make_agent(PPO, n_steps=8, batch_size=2).save(tmp_path / "ppo")
    loaded = PPO.load(tmp_path / "ppo", "CartPole-v1", device="cpu", batch_size=4)
    loaded.set_n_steps(16)
    loaded.learn(16)
    assert (loaded.n_minibatches, loaded.batch_size) == (2, 8)
    make_agent(PQN).save(tmp_path / "pqn")
    told = refusal(InvalidType, PQN.load, tmp_path / "pqn", device="cpu", batch_size=4)
    assert told.startswith("load: unknown attribute 'batch_size'")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"n_stps": 8}, "unknown attribute 'n_stps'; did you mean 'n_steps'?"),
        ({"n_steps": 0}, "n_steps: got 0"),
        ({"n_epochs": 0}, "n_epochs: got 0"),
        ({"n_epochs": "x"}, "n_epochs: got str 'x'"),
    ],
)
def test_a_wrong_override_is_named(rollout_algorithm, tmp_path, override, message):
    make_agent(rollout_algorithm).save(tmp_path / "m")
    told = refusal((InvalidType, InvalidValue), rollout_algorithm.load, tmp_path / "m", device="cpu", **override)
    assert message in told


def test_a_wrong_buffer_of_ppo_is_named_by_load(tmp_path):
    make_agent(PPO).save(tmp_path / "m")
    told = refusal(InvalidType, PPO.load, tmp_path / "m", device="cpu", rollout_buffer_kwargs=5)
    assert "rollout_buffer_kwargs: got int 5, expected a dictionary" in told


def test_a_new_seed_starts_every_generator_anew(rollout_algorithm, tmp_path):
    make_agent(rollout_algorithm).learn(40).save(tmp_path / "m")
    runs = []
    for seed in (5, 5, 6):
        loaded = rollout_algorithm.load(tmp_path / "m", env=gym.make("CartPole-v1"), device="cpu", seed=seed)
        runs.append(weights(loaded.learn(40)))
    assert_same_weights(runs[0], runs[1])
    assert differ(runs[0], runs[2])


def test_a_loaded_agent_does_not_repeat_the_actions_of_the_opening(rollout_algorithm, tmp_path):
    agent = make_agent(rollout_algorithm).learn(40)
    agent.save(tmp_path / "m")
    observations = observations_of(agent, 200)
    actions = []
    for kwargs in ({}, {}, {"seed": 0}):
        loaded = rollout_algorithm.load(tmp_path / "m", device="cpu", **kwargs)
        loaded.exploration_rate = 1.0
        actions.append(loaded.predict(observations)[0].tolist())
    assert actions[0] == actions[1] != actions[2]


def test_an_agent_knows_the_environment_it_was_made_with(rollout_algorithm):
    assert make_agent(rollout_algorithm).env_id == "CartPole-v1"


# ----------------------------------------------------------------------------------------------------------- SB3's PPO

PPO_SETTINGS = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 3, "device": "cpu"}


@pytest.mark.parametrize("env", ["Pendulum-v1", "CartPole-v1"])
@pytest.mark.parametrize("kwargs", [{}, {"clip_range_vf": 0.2, "target_kl": 0.01, "ent_coef": 0.01}])
def test_ppo_has_the_weights_of_sb3s(env, kwargs):
    ours, theirs = (
        agent("MlpPolicy", env, **PPO_SETTINGS, **kwargs).learn(160) for agent in (PPO, stable_baselines3.PPO)
    )
    assert_same_weights(weights(ours), weights(theirs))
    assert (ours.num_timesteps, ours._n_updates) == (160, theirs._n_updates)


def test_ppo_with_state_dependent_noise_has_the_weights_of_sb3s():
    settings = PPO_SETTINGS | {"use_sde": True, "sde_sample_freq": 4}
    ours, theirs = (agent("MlpPolicy", "Pendulum-v1", **settings).learn(96) for agent in (PPO, stable_baselines3.PPO))
    assert_same_weights(weights(ours), weights(theirs))


def test_the_arguments_of_ppo_are_sb3s_and_what_is_new_is_keyword_only():
    ours, theirs = (list(inspect.signature(cls).parameters.values()) for cls in (PPO, stable_baselines3.PPO))
    shared = ours[: len(theirs)]
    assert [(one.name, one.default) for one in shared] == [(one.name, one.default) for one in theirs]
    assert all(one.kind is inspect.Parameter.KEYWORD_ONLY for one in ours[len(theirs) :])


# ---------------------------------------------------------------------------------------------------------------- PQN

REWARDS = [1.0, 0.0, 0.5, -1.0, 2.0]
NEXT_VALUES = [0.8, 0.6, 0.9, 1.2, 0.7]


class Script(gym.Env):
    """Shows the number of steps; rewards are written down, and where an episode ends."""

    observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, terminated=None, truncated=None):
        self.terminated, self.truncated, self.count = terminated, truncated, 0

    def reset(self, *, seed=None, options=None):
        return np.array([self.count], dtype=np.float32), {}

    def step(self, action):
        now, self.count = self.count, self.count + 1
        final = 50 if now == self.truncated else self.count  # the real final observation is not the first of the next
        observation = np.array([final], dtype=np.float32)
        return observation, REWARDS[now], now == self.terminated, now == self.truncated, {}


def targets_of(q_lambda, **script):
    agent = make_agent(PQN, env=lambda: Script(**script), n_steps=5, n_minibatches=1, q_lambda=q_lambda, gamma=0.99)
    values = {0: 0.3, **{step + 1: value for step, value in enumerate(NEXT_VALUES)}, 50: 0.4}
    table = th.zeros(51)
    table[list(values)] = th.tensor(list(values.values()))
    agent.q_net.forward = lambda obs: table[obs[:, 0].long()].unsqueeze(1) - th.tensor([[0.0, 5.0]])
    agent.train = lambda: None
    agent.learn(5)
    np.testing.assert_allclose(agent.rollout_buffer.returns[:, 0], agent._samples()[2].numpy())
    return agent._samples()[2].tolist()


@pytest.mark.parametrize(
    ("q_lambda", "terminated", "expected"),
    [
        (0.65, 2, [1.61802978, 0.52965, 0.5, 1.1487455, 2.693]),
        (0.65, None, [2.05326878, 1.20601208, 1.55106773, 1.1487455, 2.693]),
        (0.0, 2, [1.792, 0.594, 0.5, 0.188, 2.693]),
        (1.0, 2, [1.49005, 0.495, 0.5, 1.66607, 2.693]),
    ],
)
def test_the_targets_of_pqn_are_those_worked_by_hand(q_lambda, terminated, expected):
    assert targets_of(q_lambda, terminated=terminated) == pytest.approx(expected, abs=1e-6)


def test_a_time_limit_goes_on_with_the_value_of_the_final_observation_and_cuts_the_trace():
    # From the end: 2.693 and 1.1487455 as above; 0.5 + 0.99 * 0.4 with V(final) = 0.4;
    # 0.99 * (0.65 * 0.896 + 0.35 * 0.6) = 0.784476; 1 + 0.99 * (0.65 * 0.784476 + 0.35 * 0.8) = 1.782010306
    expected = [1.782010306, 0.784476, 0.896, 1.1487455, 2.693]
    assert targets_of(0.65, truncated=2) == pytest.approx(expected, abs=1e-6)


def test_the_samples_of_pqn_belong_together_and_stand_in_the_order_of_time():
    agent = make_agent(PQN, env=cart_poles(3)).learn(12)
    rollout, (observations, actions, targets) = agent.rollout_buffer, agent._samples()
    assert len(np.unique(rollout.returns)) > 6
    for step in range(4):
        for env in range(3):
            sample = 3 * step + env
            np.testing.assert_array_equal(observations[sample], rollout.observations[step, env])
            assert actions[sample] == rollout.actions[step, env]
            assert targets[sample] == rollout.returns[step, env]


def test_every_epoch_has_each_sample_once_in_an_order_of_its_own():
    rng = np.random.default_rng(0)
    epochs = [[part.tolist() for part in in_minibatches(24, 4, rng)] for _ in range(2)]
    assert [len(part) for part in epochs[0]] == [6] * 4
    orders = [[index for part in epoch for index in part] for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(24))
    assert orders[0] != orders[1] != list(range(24)) != orders[0]


def test_pqn_learns_towards_its_targets():
    agent = make_agent(PQN, n_steps=64, n_epochs=20, learning_rate=1e-3, max_grad_norm=None)
    errors = []
    original = agent.train

    def train():
        observations, actions, targets = agent._samples()
        for step in (original, lambda: None):
            errors.append(agent._loss(observations, actions, targets).item())
            step()

    agent.train = train
    agent.learn(64)
    assert errors[1] < 0.5 * errors[0]


def test_every_environment_throws_its_own_coin_at_every_step():
    half = {"exploration_initial_eps": 0.5, "exploration_final_eps": 0.5}
    agent = make_agent(PQN, env=cart_poles(64), **half)
    agent.q_net.forward = lambda obs: th.tensor([[1.0, 0.0]]).repeat(len(obs), 1)
    agent.train = lambda: None
    agent.learn(64 * 4)
    greedy = (agent.rollout_buffer.actions == 0).reshape(4, 64)
    # Greedy ones and half of the explorers: 3/4 of 64 = 48 +- 3.5. One coin for all would give 64 or 32.
    assert all(36 < n < 60 for n in greedy.sum(axis=1))
    assert len({tuple(row) for row in greedy.tolist()}) == 4


def test_epsilon_follows_the_environment_steps():
    seen = []

    class Look(BaseCallback):
        def _on_step(self):
            seen.append(self.model.exploration_rate)
            return True

    kwargs = {"exploration_fraction": 0.5, "exploration_initial_eps": 0.8, "exploration_final_eps": 0.2}
    make_agent(PQN, env=cart_poles(2), **kwargs).learn(80, callback=Look())
    assert seen == pytest.approx([linear_epsilon(2 * step / 80, 0.5, 0.8, 0.2) for step in range(40)])
    assert seen[0] == 0.8
    assert seen[-1] == pytest.approx(0.2)


# Rollouts of 10 samples in minibatches of 4, 4 and 2: three gradient steps an epoch.
def test_gradient_steps_and_samples_are_counted_also_in_short_minibatches():
    agent = PPO("MlpPolicy", "CartPole-v1", n_steps=10, batch_size=4, n_epochs=3, device="cpu")
    logger = RecordedLogger()
    agent.set_logger(logger)
    agent.learn(20)
    assert (logger.seen["train/gradient_steps"], logger.seen["train/samples"]) == (2 * 9, 2 * 30)


def test_gradient_steps_that_an_early_stop_leaves_out_are_not_counted():
    kwargs = {"n_steps": 10, "batch_size": 4, "n_epochs": 50, "target_kl": 1e-3, "learning_rate": 0.05, "seed": 0}
    agent, made = PPO("MlpPolicy", "CartPole-v1", device="cpu", **kwargs), []
    agent.policy.optimizer.register_step_post_hook(lambda *_: made.append(1))
    agent.learn(10)
    assert 0 < len(made) < 3, "it is to stop within the first epoch"
    assert (agent._n_gradient_steps, agent._n_samples) == (len(made), 4 * len(made))
