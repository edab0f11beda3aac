"""What would have failed in the middle of a run, or with the words of a library, is refused when it is asked for."""

import numpy as np
import pytest
from contract_tools import SpaceEnv, make_agent, refusal
from gymnasium import spaces

from sbbatch import ABS, DQN, PPO, PQN, BatchSizeSchedule, GradientNoiseScale
from sbbatch.errors import InvalidType, InvalidValue

VECTOR = spaces.Box(-1, 1, (3,))


def test_actions_without_bounds_are_refused_by_every_agent(algorithm):
    env = SpaceEnv(VECTOR, spaces.Box(-np.inf, np.inf, (2,)))
    assert "action space: got Box(2,) of float32 without bounds" in refusal(
        InvalidValue, make_agent, algorithm, env=env
    )


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (spaces.MultiDiscrete([[2, 3], [2, 2]]), "expected one dimension"),
        (spaces.Box(-1, 1, (0,)), "expected at least one number"),
    ],
)
def test_actions_that_no_distribution_is_for_are_refused_by_ppo(actions, message):
    assert message in refusal(InvalidValue, make_agent, PPO, env=SpaceEnv(VECTOR, actions))


def test_images_that_are_too_small_for_ppo_are_told_a_torso():
    pytest.importorskip("minatar", reason="MinAtar's games are an extra")
    told = refusal(InvalidValue, PPO, "CnnPolicy", "MinAtar/Breakout-v1", n_steps=8, batch_size=4)
    assert told.startswith("policy: images of Box(4, 10, 10) of uint8 are too small for its convolutions")


@pytest.mark.parametrize(
    ("algorithm_class", "argument", "value", "error"),
    [
        (PPO, "rollout_buffer_class", 0, InvalidType),
        (PPO, "rollout_buffer_class", np.array([1, 2]), InvalidType),
        (PPO, "ent_coef", 10**30, InvalidValue),
        (PPO, "vf_coef", 10**30, InvalidValue),
        (DQN, "samples_per_step", 1e12, InvalidValue),
    ],
)
def test_numbers_beyond_all_sense_are_refused(algorithm_class, argument, value, error):
    assert refusal(error, make_agent, algorithm_class, **{argument: value}).startswith(f"{argument}: got ")


def test_a_schedule_is_looked_at_where_it_jumps():
    callback = BatchSizeSchedule.piecewise({0: 8, 0.301: 5_000, 0.305: 8})
    agent = make_agent(DQN, batch_size_callback=callback)
    assert refusal(InvalidValue, agent.learn, 100).startswith("BatchSizeSchedule: size: got 5000")


def test_two_schedules_are_told_apart_where_they_differ(tmp_path):
    first = BatchSizeSchedule.piecewise({0: 8, 0.3: 64, 0.4: 8})
    make_agent(DQN, batch_size_callback=first).learn(100).save(tmp_path / "m")
    second = BatchSizeSchedule.piecewise({0: 8})
    agent = DQN.load(tmp_path / "m", env="CartPole-v1", batch_size_callback=second)
    agent.learn(10, reset_num_timesteps=False)
    assert [row["size"] for row in second.history] == [8]


@pytest.mark.parametrize(
    ("algorithm_class", "own"), [(DQN, {"batch_size": 4}), (PQN, {"n_steps": 2}), (PQN, {"n_steps": 512})]
)
def test_a_noise_scale_has_enough_samples_from_the_start(algorithm_class, own):
    callback = GradientNoiseScale(16, 64, check_every=1)
    agent = make_agent(algorithm_class, batch_size_callback=callback, **own).learn(100)
    assert len(callback.history) > 1
    assert {row["size"] for row in callback.history} <= set(range(16, 65))
    assert 16 <= getattr(agent, agent.batch_scaling.size_name) <= 64


def test_a_threshold_that_crosses_the_agents_other_one_is_told_so():
    agent = make_agent(DQN, batch_size_callback=ABS(low=0.96))
    assert "ABS: low 0.96 is not below high 0.95; give both" in refusal(InvalidValue, agent.learn, 50)
