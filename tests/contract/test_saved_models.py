"""A model that was saved is the same when it is loaded, or is refused."""

import inspect
import io
import json
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3
import torch as th
from contract_tools import KINDS, assert_same_weights, differ, make_agent, observations_of, refusal, weights
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sbbatch import ALGORITHMS, PPO
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.errors import InvalidValue


@pytest.fixture(params=["dqn", "pqn", "ppo"], scope="module")
def name(request):
    """One agent of each kind: the files are read by the same functions."""
    return request.param


@pytest.fixture(params=["dqn", "btr"], scope="module")
def replay_name(request):
    return request.param


class OneLayer(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, 3)
        self.linear = nn.Linear(4, 3)

    def forward(self, observations):
        return self.linear(observations)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "vector") for name in ALGORITHMS), ("dqn", "image"), ("btr", "image"), ("pqn", "dict"), ("ppo", "dict")],
)
def test_a_loaded_agent_is_the_same_and_goes_on_learning(name, kind, tmp_path):
    algorithm = ALGORITHMS[name]
    agent = make_agent(algorithm, kind).learn(100)
    agent.save(tmp_path / "m")
    assert (tmp_path / "m.zip").is_file()
    _, env, _ = KINDS[kind]
    loaded = algorithm.load(tmp_path / "m", env=env() if callable(env) else gym.make(env), device="cpu")
    assert_same_weights(weights(agent), weights(loaded))
    observations = observations_of(agent)
    for one, other in zip(*(a.predict(observations, deterministic=True) for a in (agent, loaded)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert (loaded.num_timesteps, loaded._n_updates) == (100, agent._n_updates)
    loaded.learn(100, reset_num_timesteps=False)
    assert loaded.num_timesteps == 200
    assert differ(weights(agent), weights(loaded))


def test_a_loaded_agent_has_the_replay_it_was_trained_with(replay_algorithm, tmp_path):
    agent = make_agent(replay_algorithm, n_steps=3, prioritized=True).learn(100)
    agent.save(tmp_path / "m")
    loaded = replay_algorithm.load(tmp_path / "m", device="cpu")
    assert loaded._n_samples == agent._n_samples
    assert (loaded.n_steps, loaded.prioritized, loaded.replay_buffer.n_steps) == (3, True, 3)


def test_a_loaded_agent_can_play_without_an_environment(algorithm, tmp_path):
    agent = make_agent(algorithm)
    agent.save(tmp_path / "m.zip")
    loaded = algorithm.load(tmp_path / "m.zip", device="cpu")
    observations = observations_of(agent)
    played, expected = (one.predict(observations, deterministic=True)[0] for one in (loaded, agent))
    np.testing.assert_array_equal(played, expected)


def test_an_open_file_can_be_saved_to_and_loaded_from(algorithm):
    agent, file = make_agent(algorithm), io.BytesIO()
    agent.save(file)
    file.seek(0)
    assert_same_weights(weights(agent), weights(algorithm.load(file, device="cpu")))


@pytest.mark.parametrize("what", ["policy", "torso"])
def test_a_compiled_network_is_saved_and_loaded_as_if_it_were_not(algorithm, what, tmp_path, monkeypatch):
    # Compiling switches this check off for the whole process; the other tests have it.
    monkeypatch.setattr(th.distributions.Distribution, "_validate_args", True)

    def compile_it(agent):
        if what == "policy":
            agent.policy = th.compile(agent.policy, backend="eager")
        else:
            owner = getattr(agent.policy, "q_net", agent.policy)
            owner.features_extractor = th.compile(owner.features_extractor, backend="eager")
        return agent

    kwargs = {"policy_kwargs": {"features_extractor_class": OneLayer}}
    plain, compiled = make_agent(algorithm, **kwargs), compile_it(make_agent(algorithm, **kwargs))
    compiled.save(tmp_path / "m")
    before = weights(plain)
    assert_same_weights(before, weights(algorithm.load(tmp_path / "m", device="cpu")))
    other = compile_it(make_agent(algorithm, seed=1, **kwargs))
    other.set_parameters(plain.get_parameters())
    assert_same_weights(before, other.get_parameters()["policy"])
    plain.set_parameters(compiled.get_parameters())
    assert_same_weights(before, weights(plain))


def test_the_state_of_the_optimizer_survives(algorithm, tmp_path):
    agent = make_agent(algorithm).learn(100)
    agent.save(tmp_path / "m")
    loaded = algorithm.load(tmp_path / "m", env=gym.make("CartPole-v1"), device="cpu")
    saved, restored = (one.policy.optimizer.state_dict() for one in (agent, loaded))
    assert saved["param_groups"] == restored["param_groups"]
    assert saved["state"].keys() == restored["state"].keys() != set()
    for parameter in saved["state"]:
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert th.equal(saved["state"][parameter][key], restored["state"][parameter][key])


def test_ppo_keeps_the_state_of_its_gpus_generator(monkeypatch):
    agent, gpu, restored = make_agent(PPO), th.device("cuda", 1), []
    monkeypatch.setattr(th.cuda, "get_rng_state", lambda device: f"state of {device}")
    monkeypatch.setattr(th.cuda, "set_rng_state", lambda state, device: restored.append((state, device)))
    agent._note_state()
    without = agent._generator_states
    assert set(without) == {"torch", "numpy"}
    agent.device = gpu
    agent._note_state()
    states = agent._generator_states
    for device, saved in ((gpu, states), (gpu, without), (th.device("cpu"), states)):
        agent.device = device
        agent._set_generators(saved)
    assert restored == [("state of cuda:1", gpu)]


def test_one_more_step_on_the_same_batch_moves_a_loaded_agent_alike(replay_algorithm, tmp_path):
    agent = make_agent(replay_algorithm).learn(100)
    agent.save(tmp_path / "m")
    loaded = replay_algorithm.load(tmp_path / "m", env=gym.make("CartPole-v1"), device="cpu")
    for one in (agent, loaded):
        one._setup_learn(1)
        one.replay_buffer = agent.replay_buffer
    batch = agent.replay_buffer.sample(8)
    for one in (agent, loaded):
        one._train_step(batch)
    assert_same_weights(weights(agent), weights(loaded))


def test_attributes_can_be_changed_when_loading(replay_algorithm, tmp_path):
    make_agent(replay_algorithm).save(tmp_path / "m")
    loaded = replay_algorithm.load(tmp_path / "m", env=gym.make("CartPole-v1"), device="cpu", batch_size=16, n_steps=2)
    assert (loaded.batch_size, loaded.replay_buffer.n_steps) == (16, 2)
    loaded.learn(60)


def test_a_replay_buffer_that_is_too_large_to_play_with_is_refused(replay_algorithm, tmp_path):
    make_agent(replay_algorithm).save(tmp_path / "m")
    told = refusal(InvalidValue, replay_algorithm.load, tmp_path / "m", device="cpu", buffer_size=10**15)
    assert told.startswith("buffer_size: got 1000000000000000, which needs ")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: raw[:-1],
        lambda raw: raw[: len(raw) // 2] + bytes([raw[len(raw) // 2] ^ 1]) + raw[len(raw) // 2 + 1 :],
    ],
    ids=["half", "one byte less", "one bit"],
)
def test_a_damaged_model_file_is_refused(algorithm, tmp_path, damage):
    path = tmp_path / "m.zip"
    make_agent(algorithm).save(path)
    path.write_bytes(damage(path.read_bytes()))
    told = refusal(InvalidValue, algorithm.load, path, device="cpu")
    assert told.startswith(f"{path}: ")
    assert any(word in told for word in ("truncated", "checksum", "not a complete model file"))


@pytest.mark.parametrize("peer", [stable_baselines3.A2C, stable_baselines3.PPO])
def test_a_model_that_sbbatch_did_not_write_is_refused_but_for_those_it_knows(algorithm, tmp_path, peer):
    peer("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "m")
    if peer.__name__ == algorithm.__name__:
        algorithm.load(tmp_path / "m", device="cpu")
        return
    wanted = "holds a PPO of Stable-Baselines3" if peer is stable_baselines3.PPO else "was not written by sbbatch"
    assert wanted in refusal(InvalidValue, algorithm.load, tmp_path / "m", device="cpu")


def test_a_new_seed_starts_every_generator_anew(replay_algorithm, tmp_path):
    make_agent(replay_algorithm).save(tmp_path / "m")
    agents = [replay_algorithm.load(tmp_path / "m", device="cpu", seed=seed) for seed in (5, 5, 6)]
    for draw in (lambda a: a.exploration.rng, lambda a: a.noise_rng, lambda a: a.replay_buffer.rng):
        one, same, other = (draw(agent).random() for agent in agents)
        assert one == same != other


def test_a_model_knows_the_environment_it_was_set_to(algorithm, tmp_path):
    agent = make_agent(algorithm)
    agent.set_env(gym.make("CartPole-v0"))
    assert agent.env_id == "CartPole-v0"


def test_what_is_saved_is_declared(algorithm, tmp_path):
    """Beside what SB3 saves: an argument of the constructor, or declared in the body of a class."""
    agent = make_agent(algorithm).learn(64)
    agent.save(tmp_path / "m.zip")
    with zipfile.ZipFile(tmp_path / "m.zip") as file:
        saved = json.loads(file.read("data")).keys() - {"algorithm"}  # its name, which only the file has
    peers = {"learning_starts": 10} if isinstance(agent, ReplayAgent) else {}
    peer = (stable_baselines3.DQN if peers else stable_baselines3.PPO)("MlpPolicy", "CartPole-v1", **peers).learn(1)
    declared = {name for base in algorithm.__mro__ for name in vars(base).get("__annotations__", {})}
    known = {*vars(peer), *inspect.signature(algorithm).parameters, *declared, *dir(algorithm)}
    assert saved - known == set()


def test_a_trained_agent_keeps_its_head(replay_algorithm, tmp_path):
    class Other(nn.Module):
        pass

    make_agent(replay_algorithm).save(tmp_path / "m")
    assert "a trained agent keeps its network" in refusal(
        InvalidValue, replay_algorithm.load, tmp_path / "m", head=Other
    )
    assert replay_algorithm.load(tmp_path / "m", head=make_agent(replay_algorithm).head)


def test_an_optimizer_of_another_network_is_refused_and_nothing_changes(algorithm):
    agent, small = (make_agent(algorithm, policy_kwargs={"net_arch": arch}).learn(64) for arch in ([16, 16], [8, 8]))
    before = weights(agent)
    state = small.get_parameters()["policy.optimizer"]
    told = refusal(InvalidValue, agent.set_parameters, {"policy.optimizer": state}, exact_match=False)
    assert "of shape" in told
    assert_same_weights(weights(agent), before)
    agent.learn(32)
