"""A model file in which somebody has edited a value by hand is refused in one sentence, or learns on."""

import io
import json
import zipfile

import pytest
from contract_tools import make_agent, refusal

from sbbatch import ABS
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidType, InvalidValue


@pytest.fixture(scope="module")
def members(algorithm):
    check_every = 1000 if issubclass(algorithm, ReplayAgent) else 1
    callback = ABS(8, 16, check_every=check_every, warmup=1, quantum=1)
    file = io.BytesIO()
    make_agent(algorithm, batch_size_callback=callback).learn(48).save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def edited(members, value, *keys):
    """The file, with another value under these keys of its member 'data'."""
    data = json.loads(members["data"])
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    assert keys[-1] in inner
    inner[keys[-1]] = value
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(data) if name == "data" else content)
    file.seek(0)
    return file


def load(algorithm, file, **kwargs):
    return algorithm.load(file, env="CartPole-v1", device="cpu", **kwargs)


@pytest.mark.parametrize("value", [None, "x", [], {"a": 1}])
@pytest.mark.parametrize("key", ["num_timesteps", "_n_updates", "_episode_num", "_total_timesteps"])
def test_a_counter_that_is_no_number_is_named(algorithm, members, key, value):
    told = refusal(InvalidValue, load, algorithm, edited(members, value, key))
    assert told == f"the model file: not a complete model file, its member 'data' has no usable '{key}'"


def test_the_counters_of_one_kind_of_agent_are_checked_as_well(algorithm, members):
    key = "_n_samples" if issubclass(algorithm, ReplayAgent) else "_n_rollouts"
    assert f"no usable '{key}'" in refusal(InvalidValue, load, algorithm, edited(members, "x", key))


@pytest.mark.parametrize("value", ["x", True, [1, 2]])
@pytest.mark.parametrize(
    "key",
    [
        "_generator_states",
        "batch_scaling_state",
        "ep_info_buffer",
        "ep_success_buffer",
        "_last_obs",
        "_last_episode_starts",
        "action_noise",
    ],
)
def test_a_state_of_another_form_is_named(algorithm, members, key, value):
    told = refusal(InvalidValue, load, algorithm, edited(members, value, key))
    assert f"no usable '{key}'" in told


def test_a_counter_given_to_load_is_not_the_fault_of_the_file(algorithm, members):
    file = edited(members, 48, "num_timesteps")
    told = refusal(InvalidValue, load, algorithm, file, num_timesteps="x")
    assert told == "load: num_timesteps: got str 'x', which no agent can have"
    assert load(algorithm, file, num_timesteps=7).num_timesteps == 7


@pytest.mark.parametrize("value", [0, -1, True])
def test_the_number_of_environments_is_one_at_least(algorithm, members, value):
    assert "no usable 'n_envs'" in refusal(InvalidValue, algorithm.load, edited(members, value, "n_envs"))


def test_noise_of_a_kind_the_agent_has_not_is_named(value_algorithm):
    file = io.BytesIO()
    make_agent(value_algorithm).save(file)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert "no usable 'use_sde'" in refusal(InvalidValue, load, value_algorithm, edited(members, True, "use_sde"))


@pytest.mark.parametrize("value", [{}, {"a": 1}])
def test_states_of_generators_that_cannot_be_taken_over_come_with_a_remedy(algorithm, members, value):
    told = refusal(InvalidValue, load, algorithm, edited(members, value, "_generator_states"))
    assert told.startswith("random generators: the saved state cannot be taken over (KeyError: ")
    assert told.endswith("load(path, seed=...) starts them anew")
    agent = load(algorithm, edited(members, value, "_generator_states"), seed=3)
    assert agent.learn(16, reset_num_timesteps=False).num_timesteps >= 64


@pytest.mark.parametrize("value", ["x", -1, {}])
@pytest.mark.parametrize("key", ["scheduler", "next_check", "measuring", "rng", "size"])
def test_the_state_of_a_callback_that_cannot_be_taken_over_comes_with_a_remedy(algorithm, members, key, value):
    file = edited(members, value, "batch_scaling_state", "state", key)
    agent = load(algorithm, file)
    told = refusal(InvalidValue, agent.learn, 16, reset_num_timesteps=False)
    assert told.startswith("ABS: the saved state cannot be taken over (")
    assert told.endswith("; agent.batch_scaling_state = None forgets it")
    agent.batch_scaling_state = None
    assert agent.learn(16, reset_num_timesteps=False).num_timesteps >= 64


@pytest.mark.parametrize("value", ["x", -1, [], {"a": 1}])
@pytest.mark.parametrize("key", ["gamma", "seed", "learning_rate", "_stats_window_size"])
def test_an_argument_is_checked_as_the_constructor_checks_it(algorithm, members, key, value):
    told = refusal((InvalidType, InvalidValue), load, algorithm, edited(members, value, key))
    assert told.startswith(f"{key.removeprefix('_')}: got ")


def test_windows_of_statistics_that_were_left_out_begin_anew(algorithm, tmp_path):
    make_agent(algorithm).learn(60).save(tmp_path / "m", exclude=["ep_success_buffer"])
    agent = load(algorithm, tmp_path / "m").learn(60, reset_num_timesteps=False)
    assert len(agent.ep_info_buffer) > 0
    assert agent.ep_success_buffer is not None
