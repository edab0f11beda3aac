"""A run whose batch size adapts is saved in the middle, and goes on as if it had not been."""

import copy

import pytest
from contract_tools import assert_same_weights, differ, make_agent, weights
from stable_baselines3.common.callbacks import BaseCallback

from sbbatch import ABS
from sbbatch.agents.base.replay import ReplayAgent


def adapting(algorithm):
    """On replay a measurement spans eight gradient steps and is interrupted in the middle."""
    on_replay = issubclass(algorithm, ReplayAgent)
    timing = {"check_every": 8, "updates": 8} if on_replay else {"check_every": 2}
    return ABS(16, 64, low=0.001, high=1.0, warmup=2, window=3, ema=0.7, **timing)


def agent_of(algorithm):
    own = {"n_steps": 1} if issubclass(algorithm, ReplayAgent) else {}
    return make_agent(algorithm, batch_size_callback=adapting(algorithm), learning_rate=0.01, **own)


def test_a_saved_run_goes_on_with_the_sizes_and_weights_of_one_that_never_stopped(algorithm, tmp_path):
    agent = agent_of(algorithm).learn(212)
    state = agent.batch_scaling_state["state"]
    if isinstance(agent, ReplayAgent):
        assert state["measuring"][2] in range(1, 8)
    agent.save(tmp_path / "m")
    before, n_measured = weights(agent), len(state["history"])
    env = copy.deepcopy(agent.get_env())
    if isinstance(agent, ReplayAgent):
        agent.save_replay_buffer(tmp_path / "b")
    agent.learn(300, reset_num_timesteps=False)

    loaded = algorithm.load(tmp_path / "m", env=env, force_reset=False, device="cpu")
    if isinstance(loaded, ReplayAgent):
        loaded.load_replay_buffer(tmp_path / "b")
    assert loaded.batch_scaling_state["state"]["scheduler"] == state["scheduler"]
    loaded.learn(300, reset_num_timesteps=False)
    sizes = [[row["size"] for row in one.batch_size_callback.history] for one in (agent, loaded)]
    assert len(sizes[0]) > n_measured
    assert len(set(sizes[0])) > 1
    assert agent.batch_size_callback.history == loaded.batch_size_callback.history
    assert_same_weights(weights(agent), weights(loaded))
    assert differ(before, weights(loaded))


def test_the_window_is_of_one_run_and_not_of_another(algorithm):
    agent = agent_of(algorithm).learn(200)
    assert len(agent.batch_scaling_state["state"]["history"]) > 1
    agent.batch_size_callback = ABS(16, 32)  # other arguments, another window
    agent.learn(60, reset_num_timesteps=False)
    assert all(row["timesteps"] >= 200 for row in agent.batch_size_callback.history)


def test_a_run_that_ended_by_an_error_goes_on_from_where_it_was(algorithm):
    class Fail(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 160:
                raise KeyboardInterrupt
            return True

    agent = agent_of(algorithm)
    with pytest.raises(KeyboardInterrupt):
        agent.learn(400, callback=Fail())
    n_measured = len(agent.batch_size_callback.history)
    assert n_measured > 1
    agent.learn(160, reset_num_timesteps=False)
    assert len(agent.batch_size_callback.history) > n_measured
    assert agent.update_hooks == []


def test_a_copy_made_while_the_agent_learns_goes_on_from_the_same_state(algorithm):
    class CopyOnce(BaseCallback):
        copied = None

        def _on_step(self):
            if self.num_timesteps == 160:
                self.copied = copy.deepcopy(self.model)
            return True

    callback = CopyOnce()
    agent = agent_of(algorithm).learn(200, callback=callback)
    n_measured = len(callback.copied.batch_size_callback.history)
    assert n_measured > 1
    callback.copied.learn(160, reset_num_timesteps=False)
    assert len(callback.copied.batch_size_callback.history) > n_measured
    assert callback.copied.update_hooks == agent.update_hooks == []
