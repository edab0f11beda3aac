"""A model file that lacks something, or holds something else, is refused with the file and the member named."""

import io
import json
import zipfile

import pytest
import torch as th
from contract_tools import assert_same_weights, make_agent, refusal, weights

import sbbatch
from sbbatch import ABS
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidType, InvalidValue

DELETED = object()


@pytest.fixture(params=["dqn", "pqn", "ppo"], scope="module")
def name(request):
    """One agent of each kind: the files are read by the same functions."""
    return request.param


@pytest.fixture(scope="module")
def agent(algorithm):
    check_every = 1000 if issubclass(algorithm, ReplayAgent) else 1
    callback = ABS(8, 16, check_every=check_every, warmup=1, quantum=1)
    return make_agent(algorithm, batch_size_callback=callback).learn(48)


@pytest.fixture(scope="module")
def members(agent):
    file = io.BytesIO()
    agent.save(file)
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not DELETED:
                archive.writestr(name, content)
    return path


def with_data(members, value, *keys):
    """The members, with another value under these keys of 'data'."""
    data = inner = json.loads(members["data"])
    for key in keys[:-1]:
        inner = inner[key]
    assert keys[-1] in inner
    inner[keys[-1]] = value
    if value is DELETED:
        del inner[keys[-1]]
    return {**members, "data": json.dumps(data).encode()}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("member", ["data", "policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"])
@pytest.mark.parametrize("content", [DELETED, b"\x80garbage\xff", b"half"])
def test_a_member_that_is_missing_or_garbled_is_named(algorithm, members, tmp_path, member, content):
    broken = members[member][: len(members[member]) // 2] if content == b"half" else content
    path = write(tmp_path / "m.zip", {**members, member: broken})
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert told.startswith(f"{path}: ")
    assert member.removesuffix(".pth") in told


@pytest.mark.parametrize("content", [DELETED, b"\xff\xfe"])
def test_what_only_people_read_may_be_missing_or_garbled(algorithm, agent, members, tmp_path, content, capsys):
    path = write(tmp_path / "m.zip", {**members, "system_info.txt": content, "_stable_baselines3_version": content})
    assert algorithm.load(path, device="cpu", print_system_info=True).num_timesteps == agent.num_timesteps
    assert "SAVED MODEL" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["policy_class", "policy_kwargs", "observation_space", "action_space", "n_envs"])
@pytest.mark.parametrize("value", [DELETED, "x"])
def test_an_attribute_that_every_agent_needs_is_named(algorithm, members, tmp_path, key, value):
    path = write(tmp_path / "m.zip", with_data(members, value, key))
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert told == f"{path}: not a complete model file, its member 'data' has no usable '{key}'"


@pytest.mark.parametrize("key", ["policy_class", "_last_obs"])
def test_a_damaged_pickle_is_named_and_can_be_replaced(algorithm, members, agent, tmp_path, key):
    path = write(tmp_path / "m.zip", with_data(members, {":type:": "x", ":serialized:": "gASV"}, key))
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert f"'{key}' in its member 'data' cannot be read" in told
    mended = algorithm.load(path, device="cpu", custom_objects={key: getattr(agent, key)})
    assert mended.num_timesteps == agent.num_timesteps


def test_attributes_that_were_left_out_on_purpose_are_the_defaults(algorithm, agent, tmp_path):
    agent.save(tmp_path / "m", exclude=["gamma"])
    assert algorithm.load(tmp_path / "m", device="cpu").gamma == algorithm("MlpPolicy", "CartPole-v1").gamma


@pytest.mark.parametrize("value", ["x", -1])
@pytest.mark.parametrize("key", ["gamma", "seed", "learning_rate", "_stats_window_size"])
def test_an_argument_is_checked_as_the_constructor_checks_it(algorithm, members, tmp_path, key, value):
    path = write(tmp_path / "m.zip", with_data(members, value, key))
    assert refusal((InvalidType, InvalidValue), algorithm.load, path).startswith(f"{key.removeprefix('_')}: got ")


def test_states_of_generators_that_cannot_be_taken_over_come_with_a_remedy(algorithm, members, tmp_path):
    path = write(tmp_path / "m.zip", with_data(members, {"a": 1}, "_generator_states"))
    assert "load(path, seed=...) starts them anew" in refusal(InvalidValue, algorithm.load, path)
    agent = algorithm.load(path, env="CartPole-v1", seed=3)
    assert agent.learn(16, reset_num_timesteps=False).num_timesteps >= 64


@pytest.mark.parametrize("key", ["scheduler", "rng", "size"])
def test_the_state_of_a_callback_that_cannot_be_taken_over_comes_with_a_remedy(algorithm, members, tmp_path, key):
    path = write(tmp_path / "m.zip", with_data(members, "x", "batch_scaling_state", "state", key))
    agent = algorithm.load(path, env="CartPole-v1", device="cpu")
    told = refusal(InvalidValue, agent.learn, 16, reset_num_timesteps=False)
    assert told.endswith("; agent.batch_scaling_state = None forgets it")
    agent.batch_scaling_state = None
    assert agent.learn(16, reset_num_timesteps=False).num_timesteps >= 64


# ------------------------------------------------------------------------------------------------------ set_parameters


def test_parameters_come_from_a_file_or_from_another_agent(algorithm, agent, tmp_path):
    agent.save(tmp_path / "m")
    for source in (tmp_path / "m", str(tmp_path / "m.zip"), agent.get_parameters()):
        other = make_agent(algorithm, seed=9)
        other.set_parameters(source, device="cpu")
        assert_same_weights(weights(agent), weights(other))


def test_parameters_of_another_network_leave_the_agent_as_it_was(algorithm, agent, tmp_path):
    narrow = make_agent(algorithm, policy_kwargs={"net_arch": [8]})
    narrow.save(tmp_path / "m")
    before = weights(agent)
    for source, start in ((tmp_path / "m", f"{tmp_path / 'm'}.zip: 'policy' "), (narrow.get_parameters(), "set_param")):
        for exact_match in (True, False):
            told = refusal(InvalidValue, agent.set_parameters, source, exact_match=exact_match, device="cpu")
            assert told.startswith(start)
            assert "of shape" in told
    assert_same_weights(before, weights(agent))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda states: {}, "'policy' is missing"),
        (lambda states: {"policy": states["policy"]}, "'policy.optimizer' is missing"),
        (lambda states: {**states, "polcy": {}}, "'polcy' is no part of a "),
        (lambda states: {**states, 5: {}}, "'5' is no part of a "),
        (lambda states: {**states, "policy": dict(list(states["policy"].items())[1:])}, "'policy' lacks "),
        (lambda states: {**states, "policy": {**states["policy"], "new": th.zeros(1)}}, "'policy' holds new, which"),
        (lambda states: {**states, "policy": []}, "'policy' holds list"),
        (lambda states: {**states, "policy.optimizer": {"param_groups": [], "state": {}}}, "'policy.optimizer' is not"),
    ],
)
def test_parameters_that_are_incomplete_or_unknown_are_named(agent, change, message):
    assert message in refusal(InvalidValue, agent.set_parameters, change(agent.get_parameters()))


def test_some_parameters_are_enough_where_no_exact_match_is_asked_for(algorithm, agent):
    other = make_agent(algorithm, seed=9)
    other.set_parameters({"policy": agent.get_parameters()["policy"]}, exact_match=False)
    assert_same_weights(weights(agent), weights(other))


@pytest.mark.parametrize("method", ["load", "set_parameters"])
def test_files_are_refused_alike_by_both_methods(name, algorithm, agent, tmp_path, method):
    call = {"load": algorithm.load, "set_parameters": agent.set_parameters}[method]
    other = next(cls for key, cls in sbbatch.ALGORITHMS.items() if key != name)
    make_agent(other).save(tmp_path / "other")
    (tmp_path / "page.zip").write_bytes(b"<html>not found</html>")
    assert f"holds a {other.__name__}, but {algorithm.__name__} was" in refusal(InvalidValue, call, tmp_path / "other")
    assert "starts with b'<html>" in refusal(InvalidValue, call, tmp_path / "page.zip")
    assert "no such model file" in refusal(FileNotFoundError, call, tmp_path / "nope")
    assert refusal(InvalidType, call, 5).startswith("model file: got ")


# ----------------------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"gama": 0.9}, "unknown attribute 'gama'; did you mean 'gamma'"),
        ({"gamma": 1.5}, "gamma: got 1.5"),
        ({"learning_rate": "fast"}, "learning_rate: got str 'fast'"),
        ({"policy": "CnnPolicy"}, "unknown attribute 'policy'"),
        ({"n_envs": 3}, "unknown attribute 'n_envs'"),
        ({"observation_space": 3}, "unknown attribute 'observation_space'"),
        ({"policy_kwargs": {"net_arch": [3]}}, "a trained agent keeps its network"),
        ({"stats_window_size": 0}, "stats_window_size: got 0"),
        ({"custom_objects": 5}, "custom_objects: got int 5"),
    ],
)
def test_what_cannot_be_changed_when_loading_is_refused(algorithm, members, tmp_path, override, message):
    path = write(tmp_path / "m.zip", members)
    assert message in refusal((InvalidType, InvalidValue), algorithm.load, path, device="cpu", **override)


def test_the_window_of_the_statistics_can_be_changed_when_loading(algorithm, members, tmp_path):
    path = write(tmp_path / "m.zip", members)
    loaded = algorithm.load(path, env="CartPole-v1", device="cpu", stats_window_size=7)
    assert loaded.learn(20).ep_info_buffer.maxlen == 7
