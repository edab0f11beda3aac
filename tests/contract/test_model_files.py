"""A model file that lacks something, or holds something else, is refused with the file and the member named."""

import io
import json
import zipfile

import pytest
import torch as th
from contract_tools import assert_same_weights, make_agent, refusal, weights

import sbbatch
from sbbatch.errors import InvalidType, InvalidValue

MEMBERS = ("data", "policy.pth", "policy.optimizer.pth", "pytorch_variables.pth")
DELETED = object()


@pytest.fixture(scope="module")
def agent(algorithm):
    return make_agent(algorithm).learn(48)


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


def saved(value):
    file = io.BytesIO()
    th.save(value, file)
    return file.getvalue()


def with_data(members, **changes):
    data = {**json.loads(members["data"]), **changes}
    return {**members, "data": json.dumps({key: item for key, item in data.items() if item is not DELETED}).encode()}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("content", [DELETED, b"", b"\x80garbage\xff", b"half"])
def test_a_member_that_is_missing_or_garbled_is_named(algorithm, members, tmp_path, member, content):
    broken = members[member][: len(members[member]) // 2] if content == b"half" else content
    path = write(tmp_path / "m.zip", {**members, member: broken})
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert told.startswith(f"{path}: not a complete model file, ")
    assert ("it has no member" in told or "is missing" in told) == (content is DELETED)
    assert f"'{member}'" in told


@pytest.mark.parametrize("member", ["system_info.txt", "_stable_baselines3_version"])
@pytest.mark.parametrize("content", [DELETED, b"", b"\xff\xfe"])
def test_what_only_people_read_may_be_missing_or_garbled(algorithm, members, tmp_path, member, content, capsys):
    path = write(tmp_path / "m.zip", {**members, member: content})
    assert algorithm.load(path, device="cpu", print_system_info=True).num_timesteps == 48
    assert "SAVED MODEL" in capsys.readouterr().out


@pytest.mark.parametrize("data", [[], "x", None, 5])
def test_data_of_another_form_are_refused(algorithm, members, tmp_path, data):
    path = write(tmp_path / "m.zip", {**members, "data": json.dumps(data).encode()})
    assert "its member 'data' cannot be read" in refusal(InvalidValue, algorithm.load, path)


@pytest.mark.parametrize("key", ["policy_class", "policy_kwargs", "observation_space", "action_space", "n_envs"])
@pytest.mark.parametrize("value", [DELETED, "x", None, []])
def test_an_attribute_that_every_agent_needs_is_named(algorithm, members, tmp_path, key, value):
    path = write(tmp_path / "m.zip", with_data(members, **{key: value}))
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert told == f"{path}: not a complete model file, its member 'data' has no usable '{key}'"


@pytest.mark.parametrize("key", ["policy_class", "learning_rate", "_last_obs"])
def test_a_damaged_pickle_is_named_and_can_be_replaced(algorithm, members, agent, tmp_path, key):
    broken = {":type:": "x", ":serialized:": "gASV"}
    path = write(tmp_path / "m.zip", with_data(members, **{key: broken}))
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert f"'{key}' in its member 'data' cannot be read" in told
    mended = {key: agent.policy_class if key == "policy_class" else getattr(agent, key)}
    assert algorithm.load(path, device="cpu", custom_objects=mended).num_timesteps == 48


def test_attributes_that_were_left_out_on_purpose_are_the_defaults(algorithm, agent, tmp_path):
    agent.save(tmp_path / "m", exclude=["gamma"])
    assert algorithm.load(tmp_path / "m", device="cpu").gamma == algorithm("MlpPolicy", "CartPole-v1").gamma


@pytest.mark.parametrize("value", [{}, [], 5, None, {"a": 1}, {"param_groups": [], "state": {}}])
@pytest.mark.parametrize("member", ["policy", "policy.optimizer"])
def test_states_of_another_form_are_refused_in_files_and_in_dictionaries(
    algorithm, members, agent, tmp_path, member, value
):
    path = write(tmp_path / "m.zip", {**members, f"{member}.pth": saved(value)})
    assert f"'{member}.pth'" in refusal(InvalidValue, algorithm.load, path, device="cpu")
    told = refusal(InvalidValue, agent.set_parameters, {**agent.get_parameters(), member: value})
    assert told.startswith(f"set_parameters: '{member}' ")


def test_a_member_too_many_is_named(algorithm, members, tmp_path):
    path = write(tmp_path / "m.zip", {**members, "extra.pth": saved({})})
    assert "'extra.pth' is no part of a " in refusal(InvalidValue, algorithm.load, path, device="cpu")


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
    for source, start in ((tmp_path / "m", f"{tmp_path / 'm'}: 'policy.pth' "), (narrow.get_parameters(), "set_param")):
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
    for path in (None, 5):
        assert refusal(InvalidType, call, path).startswith("model file: got ")


# ----------------------------------------------------------------------------------------------------------- overrides


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"policy": "CnnPolicy"}, "load: unknown attribute 'policy'"),
        ({"policy_kwargs": {"net_arch": [3]}}, "a trained agent keeps its network"),
        ({"policy_kwargs": 5}, "a trained agent keeps its network"),
        ({"stats_window_size": 0}, "stats_window_size: got 0"),
        ({"custom_objects": 5}, "custom_objects: got int 5"),
    ],
)
def test_what_cannot_be_changed_when_loading_is_refused(algorithm, members, tmp_path, override, message):
    path = write(tmp_path / "m.zip", members)
    told = refusal((InvalidType, InvalidValue), algorithm.load, path, device="cpu", **override)
    assert message in told


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"replay_buffer_kwargs": {"n_envs": 3}}, "replay_buffer_kwargs: 'n_envs' is set by the agent"),
        ({"train_freq": (1, "hour")}, "train_freq: got unit 'hour'"),
    ],
)
def test_what_replay_cannot_have_when_loading_is_refused(replay_algorithm, tmp_path, override, message):
    make_agent(replay_algorithm).save(tmp_path / "m")
    assert message in refusal((InvalidType, InvalidValue), replay_algorithm.load, tmp_path / "m", **override)
    assert replay_algorithm.load(tmp_path / "m", device="cpu", replay_buffer_kwargs=None).replay_buffer is not None


def test_the_window_of_the_statistics_can_be_changed_when_loading(algorithm, members, tmp_path):
    path = write(tmp_path / "m.zip", members)
    loaded = algorithm.load(path, env="CartPole-v1", device="cpu", stats_window_size=7)
    assert loaded.learn(20).ep_info_buffer.maxlen == 7
