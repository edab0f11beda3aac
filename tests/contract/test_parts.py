"""Every idea of the papers can be added to DQN and taken from Rainbow; its neutral value is the agent without it."""

import copy

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.envs import FakeImageEnv
from torch.nn.utils import parametrize

from sbbatch import BTR, DQN, IQN, QRDQN, CompactRainbow, Rainbow
from sbbatch.components.bootstrap import Double, Greedy, Munchausen
from sbbatch.errors import InvalidType, InvalidValue, NumericalError
from sbbatch.networks.heads import CategoricalHead, ExpectedHead, ImplicitQuantileHead, QuantileHead
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.layers import NoisyLinear, SameConv2d
from sbbatch.networks.network_defaults import NetworkDefaults
from sbbatch.networks.torsos import NatureCNN
from sbbatch.settings.resolution import require_algorithm
from sbbatch.zoo.commands.train import read_request
from sbbatch.zoo.run.build import make_env, make_model

# A large learning rate, so that the online and the target network soon like different actions.
SMALL = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "learning_rate": 0.01, "seed": 0, "device": "cpu"}

# The small-batch paper's Figure 10, part by part.
PARTS = {
    "double": {"bootstrap": Double()},
    "munchausen": {"bootstrap": Munchausen()},
    "categorical": {"head": CategoricalHead},
    "quantile": {"head": QuantileHead},
    "implicit": {"head": ImplicitQuantileHead},
    "n-step": {"n_steps": 3},
    "prioritized": {"prioritized": True},
    "dueling": {"policy_kwargs": {"dueling": "output"}},
    "streams": {"policy_kwargs": {"dueling": "streams"}},
    "noisy": {"policy_kwargs": {"noisy_sigma0": 0.5}},
    "divisor": {"batch_divisor": 2},
    "target noise": {"target_noise": 0.1},
}
EPSILON = {  # what explores where noise is taken away
    "exploration_initial_eps": 1.0,
    "exploration_decay_steps": 250_000,
    "exploration_final_eps": 0.01,
    "random_warmup": True,
}
REMOVED = {
    "double": {"bootstrap": Greedy()},
    "categorical": {"head": ExpectedHead},
    "n-step": {"n_steps": 1},
    "prioritized": {"prioritized": False},
    "dueling": {"policy_kwargs": {"dueling": None, "noisy_sigma0": 1.0}},
    "noisy": {"policy_kwargs": {"noisy_sigma0": 0.0}, **EPSILON},
}


def weights(agent):
    return th.cat([parameter.detach().flatten() for parameter in agent.q_net.parameters()])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_can_be_added_to_dqn(part):
    agent = DQN("MlpPolicy", "CartPole-v1", **SMALL | PARTS[part]).learn(60)
    plain = DQN("MlpPolicy", "CartPole-v1", **SMALL).learn(60)
    assert len(weights(agent)) != len(weights(plain)) or not th.equal(weights(agent), weights(plain))


@pytest.mark.parametrize("part", REMOVED)
def test_a_part_can_be_taken_from_rainbow(part):
    loud = SMALL | {"policy_kwargs": {"noisy_sigma0": 1.0}}  # so that the two networks differ about the best action
    agent = Rainbow("MlpPolicy", "CartPole-v1", **loud | REMOVED[part]).learn(60)
    whole = Rainbow("MlpPolicy", "CartPole-v1", **loud).learn(60)
    assert len(weights(agent)) != len(weights(whole)) or not th.equal(weights(agent), weights(whole))
    noisy = [module for module in agent.q_net.modules() if isinstance(module, NoisyLinear)]
    assert bool(noisy) == (part != "noisy")


@pytest.mark.parametrize(
    ("words", "check"),
    [
        (["bootstrap:double"], lambda agent: agent.bootstrap == Double()),
        (["bootstrap:munchausen(alpha=0.5)"], lambda agent: agent.bootstrap == Munchausen(alpha=0.5)),
        (["head:categorical"], lambda agent: isinstance(agent.q_net.head, CategoricalHead)),
        (["head:implicit"], lambda agent: isinstance(agent.q_net.head, ImplicitQuantileHead)),
        (["prioritized:true"], lambda agent: agent.prioritized),
        (["policy_kwargs:dict(dueling='output')"], lambda agent: agent.q_net.head.layers.dueling == "output"),
        (
            ["policy_kwargs:dict(noisy_sigma0=0.5)"],
            lambda agent: isinstance(agent.q_net.head.layers.output, NoisyLinear),
        ),
        (["batch_divisor:4"], lambda agent: agent.batch_divisor == 4),
        (["target_noise:0.1"], lambda agent: agent.target_noise == 0.1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_part_can_be_added_on_the_command_line(words, check):
    request = read_request(["--algo", "dqn", "--env", "CartPole-v1", "-params", *words])
    agent = make_model(require_algorithm("dqn"), make_env("CartPole-v1"), request.settings, 0, "cpu", 0)
    assert check(agent)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("bootstrap:doubel", "unknown bootstrap 'doubel'; did you mean 'double'?"),
        ("bootstrap:munchausen(alfa=1)", "unknown key 'alfa'; did you mean 'alpha'?"),
        ("bootstrap:munchausen(alpha=1", "cannot read"),
        ("head:categoric", "unknown head 'categoric'; did you mean 'categorical'?"),
        ("policy_kwargs:dict(features_extractor_class='ImpalaCnn')", "did you mean 'ImpalaCNN'?"),
        ("policy_kwargs:dict(initializer='glorot')", "unknown initializer 'glorot'"),
    ],
)
def test_a_misspelt_part_is_named(word, message):
    with pytest.raises((InvalidValue, InvalidType)) as error:
        read_request(["--algo", "dqn", "--env", "CartPole-v1", "-params", word])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_divisor": 3}, "batch_size: got 8, expected a multiple of batch_divisor = 3"),
        ({"batch_divisor": 0}, "batch_divisor: got 0"),
        ({"target_noise": -1.0}, "target_noise: got -1.0"),
        ({"exploration_decay": "geometrical"}, "did you mean 'geometric'"),
        ({"exploration_decay": "geometric"}, "needs exploration_decay_steps"),
        ({"exploration_stop": 1.5}, "exploration_stop: got 1.5"),
        ({"priority_from": "td_lose"}, "did you mean 'td_loss'"),
        ({"priority_epsilon": 0.0}, "priority_epsilon: got 0.0"),
        ({"random_warmup": 1}, "random_warmup: got int 1"),
        ({"head": "quantile"}, "head: got str 'quantile'"),
        ({"bootstrap": Double}, "bootstrap: got class Double"),
        ({"policy_kwargs": {"dueling": "streams", "net_arch": []}}, "net_arch is empty"),
        ({"policy_kwargs": {"n_atoms": 51}}, "unknown key 'n_atoms'"),
    ],
)
def test_impossible_combinations_are_refused_with_the_reason(kwargs, message):
    with pytest.raises((InvalidValue, InvalidType)) as error:
        DQN("MlpPolicy", "CartPole-v1", **SMALL | kwargs)
    assert message in str(error.value)


def test_a_batch_size_the_divisor_does_not_divide_is_refused_in_the_middle_of_a_run_too():
    agent = DQN("MlpPolicy", "CartPole-v1", **SMALL, batch_divisor=4)
    with pytest.raises(InvalidValue, match="multiple of batch_divisor = 4"):
        agent.set_batch_size(6)
    assert agent.batch_size == 8


# ------------------------------------------------------------------------------------------- degenerate cases


def test_a_divided_batch_is_consecutive_updates_on_its_parts():
    divided = DQN("MlpPolicy", "CartPole-v1", **SMALL, batch_divisor=4, train_freq=100).learn(50)
    plain, n_updates = copy.deepcopy(divided), divided._n_updates
    batch = divided._sample_replay(8)
    for agent in (divided, plain):
        agent._sample_replay = lambda _: batch
    divided.train(1, 8)
    plain.policy.set_training_mode(True)
    for part in batch.split(4):
        assert len(part) == 2
        plain._train_step(part)
    assert th.equal(weights(divided), weights(plain))
    assert divided._n_updates == n_updates + 4


@pytest.mark.parametrize("algorithm", [DQN, QRDQN, CompactRainbow])
def test_target_noise_shifts_all_of_a_target_by_one_number(algorithm):
    # A wide support, so that nothing is clipped.
    kwargs = {"policy_kwargs": {"v_min": -100.0, "v_max": 100.0}} if algorithm is CompactRainbow else {}
    agent = algorithm("MlpPolicy", "CartPole-v1", **SMALL, **kwargs, train_freq=100).learn(50)
    batch = agent._sample_replay(8)
    current = agent.q_net.returns(batch.observations)
    quiet = agent._target(current, batch)
    agent.target_noise = 0.01
    noise = np.random.default_rng()
    noise.bit_generator.state = agent.noise_rng.bit_generator.state
    expected = th.from_numpy(noise.normal(0.0, 0.01, 8).astype(np.float32))
    difference = agent._target(current, batch) - quiet
    if algorithm is CompactRainbow:  # probabilities: the mean moves
        difference = difference @ current.support
    elif algorithm is QRDQN:
        assert th.allclose(difference, difference[:, :1].expand_as(difference), atol=1e-6)
        difference = difference[:, 0]
    th.testing.assert_close(difference, expected, rtol=0, atol=1e-4)


def test_priorities_come_from_the_loss_or_from_the_error():
    seen = {}
    for source in ("td_loss", "td_error"):
        agent = DQN("MlpPolicy", "CartPole-v1", **SMALL, prioritized=True, priority_from=source).learn(40)
        batch = agent._sample_replay(8)
        agent._sample_replay = lambda _, batch=batch: batch
        agent.replay_buffer.update_priorities = lambda _, measured, source=source: seen.update({source: measured})
        current = agent.q_net.returns(batch.observations)
        error = current.td_error(batch.actions, agent._target(current, batch)).detach().numpy()
        agent.train(1, 8)
        loss = np.where(error < 1, 0.5 * error**2, error - 0.5)  # Huber
        np.testing.assert_allclose(seen[source], error if source == "td_error" else loss, rtol=1e-4, atol=1e-6)


# -------------------------------------------------------------------------------------------------- exploration


@pytest.mark.parametrize("algorithm", [Rainbow, IQN, BTR])
def test_noise_explores_and_is_off_in_evaluation(algorithm):
    agent = algorithm(
        "MlpPolicy", "CartPole-v1", seed=0, device="cpu", learning_starts=10, buffer_size=500, batch_size=8
    )
    for module in agent.q_net.modules():
        if isinstance(module, NoisyLinear):  # louder than Rainbow's 0.1
            module.weight_sigma.data.fill_(1.0)
    agent.exploration_rate = 0.0
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    state = copy.deepcopy(agent.noise_rng.bit_generator.state)
    actions = [agent.predict(observations, deterministic=True)[0].tolist() for _ in range(3)]
    assert actions[0] == actions[1] == actions[2]
    assert agent.noise_rng.bit_generator.state == state, "measuring must leave the agent's random numbers alone"
    noisy = [agent.predict(observations)[0].tolist() for _ in range(20)]
    assert any(other != noisy[0] for other in noisy)


def test_a_single_observation_meets_noise_too():
    agent = Rainbow("MlpPolicy", "CartPole-v1", seed=0, device="cpu", policy_kwargs={"noisy_sigma0": 5.0})
    observation = np.zeros(4, dtype=np.float32)
    assert len({int(agent.predict(observation)[0]) for _ in range(50)}) == 2
    assert len({int(agent.predict(observation, deterministic=True)[0]) for _ in range(50)}) == 1


def test_the_warmup_is_random_only_if_asked_for():
    never_random = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0, "learning_starts": 1_000}
    for random_warmup, n_expected in ((True, 2), (False, 1)):
        agent = DQN("MlpPolicy", "CartPole-v1", **SMALL | never_random, random_warmup=random_warmup)
        agent._setup_learn(10, None)
        actions = {int(agent._sample_action(1_000, n_envs=1)[0][0]) for _ in range(50)}
        assert len(actions) == n_expected


def test_geometric_exploration_follows_btr_and_ends_half_way():
    agent = BTR("MlpPolicy", "CartPole-v1", seed=0, device="cpu", buffer_size=1_000)
    for steps, expected in ((64, 0.99996832), (200_000, 0.905789021), (4_000_000, 0.143981863)):
        agent.num_timesteps = steps
        assert agent.exploration_schedule(0.9) == pytest.approx(expected, abs=1e-8)
    assert agent.exploration_schedule(0.5) == 0.0


def test_linear_exploration_starts_to_fall_when_learning_starts():
    agent = CompactRainbow("MlpPolicy", "CartPole-v1", **SMALL | {"learning_starts": 100}, exploration_decay_steps=200)
    # 0.01 + 0.99 * (100 + 200 - 200) / 200 = 0.505
    for steps, expected in ((0, 1.0), (100, 1.0), (200, 0.505), (300, 0.01), (900, 0.01)):
        agent.num_timesteps = steps
        assert agent.exploration_schedule(0.9) == pytest.approx(expected)


# ---------------------------------------------------------------------------------------------------- networks


def small_btr(**kwargs):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=4, channel_first=True)
    torso = {"features_extractor_kwargs": {"width": 1}, "net_arch": [32]}
    settings = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "target_update_interval": 10}
    return BTR("CnnPolicy", env, seed=0, device="cpu", policy_kwargs=torso, **settings | kwargs)


def test_the_recipes_torso_takes_the_users_numbers():
    torso = small_btr().q_net.features_extractor
    assert isinstance(torso, ImpalaCNN)
    assert torso.features_dim == 32 * 6 * 6  # the user's width 1, the recipe's pool of 6
    assert sum(parametrize.is_parametrized(module) for module in torso.modules()) == 12


def test_the_target_network_takes_over_the_singular_vectors():
    agent = small_btr()
    agent.learn(40)
    agent._n_calls = 9
    agent._on_step()
    images = th.rand(2, 4, 36, 36)
    agent.policy.set_training_mode(False)
    th.testing.assert_close(agent.q_net(images), agent.q_net_target(images), rtol=0, atol=0)


def test_only_the_learners_forward_of_the_online_network_moves_the_singular_vectors():
    agent = small_btr().learn(40)

    def vectors(network):
        return th.cat([buffer.flatten() for name, buffer in network.named_buffers() if name.endswith(("._u", "._v"))])

    images = np.random.default_rng(0).integers(0, 256, (2, 4, 36, 36), dtype=np.uint8)
    online, target = vectors(agent.q_net), vectors(agent.q_net_target)
    for acts in (agent.predict, agent._greedy_actions, lambda seen: agent.behavior(th.from_numpy(seen))):
        agent.policy.set_training_mode(True)  # as the update before it leaves the network
        acts(images)
        assert th.equal(vectors(agent.q_net), online)
    agent.policy.set_training_mode(False)  # as acting leaves it
    agent.train(1, 8)
    assert not th.equal(vectors(agent.q_net), online)
    assert th.equal(vectors(agent.q_net_target), target)


def test_defaults_of_a_head_fall_away_with_the_head():
    agent = BTR("MlpPolicy", "CartPole-v1", seed=0, device="cpu", head=QuantileHead, buffer_size=1_000)
    assert isinstance(agent.q_net.head, QuantileHead)
    assert agent.q_net.head.layers.dueling == "streams"


def test_naming_the_recipes_own_torso_and_optimizer_changes_nothing():
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=4, channel_first=True)
    for torso, optimizer, padded in ((NatureCNN, th.optim.Adam, True), (ImpalaCNN, th.optim.AdamW, False)):
        kwargs = {"features_extractor_class": torso, "optimizer_class": optimizer}
        agent = IQN("CnnPolicy", env, policy_kwargs=kwargs, buffer_size=200, seed=0, device="cpu")
        assert any(isinstance(module, SameConv2d) for module in agent.q_net.modules()) == padded
        assert agent.policy.optimizer.param_groups[0]["eps"] == (0.01 / 32 if padded else 1e-8)


# --------------------------------------------------------------------------------------------- saved and loaded


def test_a_saved_network_is_built_again_whatever_the_recipe_prefers_later(tmp_path, monkeypatch):
    agent = small_btr()
    agent.save(tmp_path / "model")
    monkeypatch.setattr(BTR, "network_defaults", NetworkDefaults())
    loaded = BTR.load(tmp_path / "model", device="cpu")
    assert isinstance(loaded.q_net.features_extractor, ImpalaCNN)
    assert th.equal(weights(loaded), weights(agent))


def test_a_loaded_agent_with_a_new_seed_draws_new_numbers(tmp_path):
    DQN("MlpPolicy", "CartPole-v1", **SMALL).save(tmp_path / "model")
    draws = []
    for seed in (None, 0, 1, 1):
        kwargs = {} if seed is None else {"seed": seed}
        agent = DQN.load(tmp_path / "model", device="cpu", **kwargs)
        draws.append((agent.exploration.random_actions(50).tolist(), agent.noise_rng.random()))
    assert draws[0] == draws[1], "nothing had been drawn before"
    assert draws[2] == draws[3] != draws[1]


@pytest.mark.parametrize("head", [ExpectedHead, CategoricalHead, QuantileHead, ImplicitQuantileHead])
@pytest.mark.parametrize("bootstrap", [Greedy(), Munchausen()])
def test_a_network_that_became_nan_stops_the_run_by_name(head, bootstrap):
    agent = DQN("MlpPolicy", "CartPole-v1", **SMALL | {"head": head, "bootstrap": bootstrap}, train_freq=100).learn(50)
    for parameter in agent.q_net_target.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(NumericalError, match="the loss became nan"):
        agent.train(1, 8)
