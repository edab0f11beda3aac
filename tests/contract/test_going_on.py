"""Stopping, looking and going on: what happens between two calls of `learn`, and between saving and loading."""

import copy

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from sbbatch import ALGORITHMS, DQN, IQN
from sbbatch.functional.distributions import midpoint_taus, quantile_huber_loss

SMALL = {"buffer_size": 200, "learning_starts": 20, "batch_size": 4, "seed": 0}


class StopAt(BaseCallback):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        return self.num_timesteps < self.step


def stacked_images():
    return VecFrameStack(
        DummyVecEnv([lambda: FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, channel_first=True)]),
        4,
        channels_order="first",
    )


def test_a_callback_stops_after_the_step_is_stored(replay_algorithm):
    model = replay_algorithm("MlpPolicy", "CartPole-v1", **SMALL).learn(100, callback=StopAt(45))
    assert model.num_timesteps == model.replay_buffer.size() == 45


def test_an_agent_that_has_learned_can_be_copied():
    model = DQN("MlpPolicy", "CartPole-v1", **SMALL).learn(40)
    assert copy.deepcopy(model).num_timesteps == 40


def test_frame_stacks_go_on_where_a_callback_stopped():
    model = DQN("CnnPolicy", stacked_images(), **SMALL)
    assert model.frame_stack == 4
    model.learn(100, callback=StopAt(45))
    model.learn(30, reset_num_timesteps=False)
    assert model.replay_buffer.size() == model.num_timesteps >= 75


def test_an_evaluation_in_the_training_environment_closes_the_episode_and_nothing_else():
    model = DQN("CnnPolicy", stacked_images(), **SMALL).learn(40)
    evaluate_policy(model, model.get_env(), n_eval_episodes=1, warn=False)
    model.learn(40, reset_num_timesteps=False)
    assert model.replay_buffer.timeouts[40]
    assert model.replay_buffer.size() == 80


def test_exploration_and_replay_draw_different_numbers():
    model = DQN("MlpPolicy", "CartPole-v1", **SMALL)
    assert not np.array_equal(model.exploration.rng.random(5), model.replay_buffer.rng.random(5))


def test_a_loaded_agent_does_not_repeat_the_coins_of_the_opening(tmp_path):
    model = DQN("MlpPolicy", "CartPole-v1", **SMALL).learn(60)
    model.save(tmp_path / "model")
    loaded = DQN.load(tmp_path / "model", env="CartPole-v1")
    assert np.array_equal(loaded.exploration.rng.random(5), model.exploration.rng.random(5))


def test_a_subclass_that_overrides_predict_is_asked_while_it_learns():
    class Masked(DQN):
        def predict(self, *args, **kwargs):
            actions, state = super().predict(*args, **kwargs)
            return np.zeros_like(actions), state

    model = Masked("MlpPolicy", "CartPole-v1", **SMALL).learn(60)
    assert not model.replay_buffer.actions[20:].any()


def test_a_subclass_is_loaded_by_its_base_and_with_its_own_policy_kwargs(tmp_path):
    class Mine(DQN):
        pass

    kwargs = {"net_arch": [8]}
    Mine("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, **SMALL).save(tmp_path / "model")
    assert DQN.load(tmp_path / "model", policy_kwargs=kwargs).policy.net_arch == [8]


def test_a_subclass_may_have_a_constructor_of_its_own(tmp_path):
    class Mine(IQN):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)

    network = {"net_arch": [8, 8], "n_taus": 4, "n_target_taus": 4, "n_policy_taus": 4}
    model = Mine("MlpPolicy", "CartPole-v1", policy_kwargs=network, **SMALL).learn(40)
    assert model.q_net.head.n_taus == 4
    model.save(tmp_path / "model")
    assert Mine.load(tmp_path / "model").num_timesteps == 40


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e5])
def test_a_quantile_loss_of_zero_is_never_negative(scale):
    values = th.full((64, 200), scale) * (1 + th.rand(64, 1, generator=th.Generator().manual_seed(0)))
    assert (quantile_huber_loss(values, values, midpoint_taus(200)) == 0).all()


def test_prioritized_replay_bears_losses_of_zero():
    model = ALGORITHMS["qrdqn"]("MlpPolicy", "CartPole-v1", prioritized=True, gamma=1.0, **SMALL).learn(30)
    with th.no_grad():
        for network in (model.q_net, model.q_net_target):
            network.head.layers.output.weight.zero_()
            network.head.layers.output.bias.fill_(1000.3)
    model.replay_buffer._rewards[:] = 0
    model.train(5, 4)
    assert np.isfinite(model.replay_buffer.sampler.tree.leaves).all()


class CopyOnce(BaseCallback):
    """Keeps a copy of the agent, and a module, which cannot be copied."""

    def __init__(self):
        super().__init__()
        self.copied, self.module = None, copy

    def _on_step(self):
        self.copied = self.copied or copy.deepcopy(self.model)
        return True


def test_an_agent_can_be_copied_while_it_collects_steps():
    callback = CopyOnce()
    DQN("MlpPolicy", "CartPole-v1", **SMALL).learn(10, callback=callback)
    assert callback.copied.learn(10).num_timesteps >= 10
