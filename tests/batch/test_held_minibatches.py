"""``hold="minibatch_size"``: a longer rollout has more minibatches of the same size, so more gradient steps."""

import pytest
from stable_baselines3.common.env_util import make_vec_env

from sbbatch import ABS, DQN, PPO, PQN, BatchSizeSchedule
from sbbatch.errors import InvalidType, InvalidValue

# Rollouts of 8 steps in 2 environments, 16 samples: two minibatches of 8.
GIVEN = {PQN: {"n_minibatches": 2, "n_epochs": 1}, PPO: {"batch_size": 8, "n_epochs": 1}}
both = pytest.mark.parametrize("algorithm", [PQN, PPO])


def agent_of(algorithm, n_envs=2, **kwargs):
    env = make_vec_env("CartPole-v1", n_envs, seed=0)
    own = {"n_steps": 8, "scale_epochs": False, "seed": 0, "device": "cpu"}
    return algorithm("MlpPolicy", env, **own, **GIVEN[algorithm] | kwargs)


class Record:
    """What each update was made of."""

    def __init__(self, agent):
        self.agent, self.rows, self.n_steps = agent, [], 0
        agent.update_hooks.append(self)

    def before_update(self):
        self.n_steps = self.agent._n_gradient_steps

    def after_update(self):
        agent = self.agent
        n_steps = agent._n_gradient_steps - self.n_steps
        self.rows.append((agent.n_steps, agent.batch_size, agent.n_minibatches, n_steps))


@both
@pytest.mark.parametrize(
    ("hold", "rows"),
    [
        ("n_minibatches", [(4, 4, 2, 2), (8, 8, 2, 2), (16, 16, 2, 2)]),
        ("minibatch_size", [(4, 8, 1, 1), (8, 8, 2, 2), (16, 8, 4, 4)]),
    ],
)
def test_either_the_number_or_the_size_of_minibatches_stays(algorithm, hold, rows):
    agent = agent_of(algorithm, hold=hold, batch_size_callback=BatchSizeSchedule("0:4 0.1:8 0.3:16"))
    record = Record(agent)
    agent.learn(100)  # rollouts of 8, 8, 16, 16 and 32 samples
    assert sorted(set(record.rows)) == rows


@both
def test_a_length_that_does_not_split_into_such_minibatches_is_refused(algorithm):
    agent = agent_of(algorithm, hold="minibatch_size")
    assert agent.size_multiple == 4
    with pytest.raises(InvalidValue, match=r"n_steps: got 6, .* do not split into minibatches of 8; .* that do: 8"):
        agent.set_n_steps(6)
    with pytest.raises(InvalidValue, match="min_size: got 2, expected a multiple of 4"):
        agent_of(algorithm, hold="minibatch_size", batch_size_callback=ABS(2, 16)).learn(1)


@both
def test_a_loaded_agent_holds_the_same_size(algorithm, tmp_path):
    agent_of(algorithm, hold="minibatch_size", batch_size_callback=BatchSizeSchedule("0:32")).learn(64).save(
        tmp_path / "m"
    )
    again = algorithm.load(tmp_path / "m", make_vec_env("CartPole-v1", 4), device="cpu")
    assert (again.n_steps, again.n_minibatches, again.batch_size) == (32, 16, 8)
    short = algorithm.load(tmp_path / "m", device="cpu", n_steps=4, batch_size_callback=None)
    assert (short.n_steps, short.n_minibatches, short.batch_size) == (4, 1, 8)
    other = algorithm.load(tmp_path / "m", device="cpu", hold="n_minibatches", n_steps=4, batch_size_callback=None)
    assert other.n_steps * other.n_envs == other.n_minibatches * other.batch_size
    new = {"n_minibatches": 4} if algorithm is PQN else {"batch_size": 16}
    finer = algorithm.load(tmp_path / "m", make_vec_env("CartPole-v1", 2), device="cpu", **new)
    finer.set_n_steps(8)
    assert finer.learn(80, reset_num_timesteps=False).batch_size == 16


def test_replay_agents_have_nothing_to_hold():
    with pytest.raises(InvalidType, match="hold"):
        DQN("MlpPolicy", "CartPole-v1", hold="minibatch_size")
