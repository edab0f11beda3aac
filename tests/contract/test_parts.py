"""Every idea of the papers can be added to DQN and taken from Rainbow, and a user's own parts are tried at once."""

import copy
import functools

import numpy as np
import pytest
import torch as th
from contract_tools import KINDS, assert_same_weights, differ, make_agent, refusal, weights
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn.utils import parametrize

from sbbatch import BTR, DQN, IQN, QRDQN, CompactRainbow, Rainbow
from sbbatch.components.augmentation import Shift
from sbbatch.components.bootstrap import BOOTSTRAPS, BootstrapTarget, Greedy, Munchausen
from sbbatch.errors import InvalidValue, NumericalError
from sbbatch.networks.heads import CategoricalHead, ExpectedHead, ImplicitQuantileHead, QuantileHead
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.layers import NoisyLinear, SameConv2d
from sbbatch.networks.network_defaults import NetworkDefaults
from sbbatch.networks.torsos import NatureCNN
from sbbatch.settings.resolution import require_algorithm
from sbbatch.zoo.commands.train import read_request
from sbbatch.zoo.run.build import make_env
from sbbatch.zoo.run.train import make_model

# A large learning rate, so that the online and the target network soon like different actions.
SMALL = {"learning_starts": 20, "buffer_size": 200, "batch_size": 8, "learning_rate": 0.01, "seed": 0, "device": "cpu"}

# The small-batch paper's Figure 10, part by part.
PARTS = {
    **{name: {"bootstrap": bootstrap()} for name, bootstrap in BOOTSTRAPS.items() if name != "greedy"},
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


def flat_weights(agent):
    return th.cat([parameter.detach().flatten() for parameter in agent.q_net.parameters()])


@functools.cache
def learned(algorithm, part=None):
    """DQN with a part, or Rainbow without; loud noise, so that Rainbow's two networks differ about the best action."""
    if algorithm is DQN:
        return DQN("MlpPolicy", "CartPole-v1", **SMALL | PARTS.get(part, {})).learn(60)
    loud = SMALL | {"policy_kwargs": {"noisy_sigma0": 1.0}}
    return Rainbow("MlpPolicy", "CartPole-v1", **loud | REMOVED.get(part, {})).learn(60)


def assert_matters(algorithm, part):
    agent, without = flat_weights(learned(algorithm, part)), flat_weights(learned(algorithm))
    assert len(agent) != len(without) or not th.equal(agent, without)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_can_be_added_to_dqn(part):
    assert_matters(DQN, part)


@pytest.mark.parametrize("part", REMOVED)
def test_a_part_can_be_taken_from_rainbow(part):
    assert_matters(Rainbow, part)
    agent = learned(Rainbow, part)
    noisy = [module for module in agent.q_net.modules() if isinstance(module, NoisyLinear)]
    assert bool(noisy) == (part != "noisy")


@pytest.mark.parametrize(
    ("word", "check"),
    [
        ("bootstrap:munchausen(alpha=0.5)", lambda agent: agent.bootstrap == Munchausen(alpha=0.5)),
        ("augmentation:shift(2)", lambda agent: agent.augmentation == Shift(2)),
        ("head:categorical", lambda agent: isinstance(agent.q_net.head, CategoricalHead)),
        ("policy_kwargs:dict(dueling='output')", lambda agent: agent.q_net.head.layers.dueling == "output"),
    ],
)
def test_a_part_can_be_added_on_the_command_line(word, check):
    request = read_request(["--algo", "dqn", "--env", "CartPole-v1", "-params", word])
    agent = make_model(require_algorithm("dqn"), make_env("CartPole-v1"), request.settings, 0, "cpu", 0)
    assert check(agent)


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
    assert th.equal(flat_weights(divided), flat_weights(plain))
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


@pytest.mark.parametrize("algorithm", [Rainbow, BTR])
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
    noisy = [agent.predict(observations)[0].tolist() for _ in range(10)]
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
    assert th.equal(flat_weights(loaded), flat_weights(agent))


@pytest.mark.parametrize("head", [ExpectedHead, CategoricalHead, QuantileHead, ImplicitQuantileHead])
@pytest.mark.parametrize("bootstrap", [bootstrap() for bootstrap in BOOTSTRAPS.values()], ids=repr)
def test_a_network_that_became_nan_stops_the_run_by_name(head, bootstrap):
    agent = DQN("MlpPolicy", "CartPole-v1", **SMALL | {"head": head, "bootstrap": bootstrap}, train_freq=50).learn(24)
    for parameter in agent.q_net_target.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(NumericalError, match="the loss became nan"):
        agent.train(1, 8)


# ------------------------------------------------------------------------------------------------------- the user's own


EXPECTED = {"head": ExpectedHead, "policy_kwargs": {}}
GREEDY = Greedy()


def with_rewards_as_column(current, online, target, batch):
    estimate, policy, bonus, rewards = GREEDY(current, online, target, batch)
    return BootstrapTarget(estimate, policy, bonus, rewards.unsqueeze(1))


def with_bonus_of_samples(current, online, target, batch):
    estimate, policy, bonus, rewards = GREEDY(current, online, target, batch)
    return BootstrapTarget(estimate, policy, bonus[:, 0], rewards)


@pytest.mark.parametrize(
    ("bootstrap", "message"),
    [
        (lambda batch: batch, "TypeError"),
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (with_bonus_of_samples, "bonus of shape (2,)"),
        (with_rewards_as_column, "rewards of shape (2, 1)"),  # would spread over the batch
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bootstrap_that_makes_no_target_is_refused(kind, bootstrap, message):
    told = refusal(InvalidValue, make_agent, DQN, kind, bootstrap=bootstrap)
    assert told.startswith("bootstrap: got ")
    assert message in told


class BareHead(nn.Module):
    """Action values, and nothing that makes a loss of them."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers.build(1)

    def forward(self, features):
        return self.layers(features).squeeze(2)


class WideHead(ExpectedHead):
    """A value of every action, and one too many."""

    def forward(self, features):
        estimate = super().forward(features)
        q_values = th.cat([estimate.q_values, estimate.q_values[:, :1]], dim=1)
        return type(estimate)(q_values, estimate.elementwise_loss)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (BareHead, "'Tensor' object has no attribute 'q_values'"),
        (WideHead, "q_values of shape (2, 3), expected (2, 2)"),
    ],
)
def test_a_head_that_gives_no_estimate_is_refused(replay_algorithm, head, message):
    told = refusal(InvalidValue, make_agent, replay_algorithm, head=head, bootstrap=GREEDY, policy_kwargs={})
    assert told.startswith(f"head: got {head.__name__}")
    assert message in told


class OwnHead(ExpectedHead):
    pass


class OwnGreedy:
    """Greedy, in other words; counts the batches it sees."""

    def __init__(self):
        self.sizes = []

    def __call__(self, current, online, target, batch):
        self.sizes.append(len(batch))
        np.random.rand()
        th.rand(1)
        return GREEDY(current, online, target, batch)


def test_parts_of_ones_own_learn_as_sbbatchs_and_trying_them_leaves_no_trace(replay_algorithm):
    th.manual_seed(0)
    ours = make_agent(replay_algorithm, **EXPECTED, bootstrap=GREEDY)
    drawn = th.rand(1), np.random.rand(), ours.noise_rng.random()
    own = OwnGreedy()
    theirs = make_agent(replay_algorithm, **(EXPECTED | {"head": OwnHead}), bootstrap=own)
    assert own.sizes == [2]
    assert (th.rand(1), np.random.rand(), theirs.noise_rng.random()) == drawn
    for agent in (ours, theirs):
        agent.learn(80)
    assert_same_weights(weights(ours), weights(theirs))
    assert set(own.sizes[1:]) == {8}


@pytest.mark.parametrize(
    "policy_kwargs", [{"optimizer_class": th.optim.RMSprop}, {"activation_fn": nn.Tanh, "net_arch": [8]}]
)
def test_other_optimizers_and_activations_learn(algorithm, policy_kwargs):
    agent = make_agent(algorithm, policy_kwargs=policy_kwargs)
    before = weights(agent)
    assert differ(before, weights(agent.learn(60)))


class OwnTorso(BaseFeaturesExtractor):
    """Draws numbers and counts what it sees."""

    wide = 0

    def __init__(self, observation_space):
        super().__init__(observation_space, 8)
        self.linear = nn.Linear(4, 8 + self.wide)
        self.register_buffer("n_seen", th.zeros(()))

    def forward(self, observations):
        th.rand(1)
        self.n_seen += len(observations)
        return self.linear(observations)


class WideTorso(OwnTorso):
    wide = 1


@pytest.mark.parametrize(
    ("policy_kwargs", "message"),
    [
        ({"features_extractor_class": WideTorso}, "features_extractor_class: got WideTorso"),
        ({"activation_fn": nn.GLU, "net_arch": [8, 8]}, "activation_fn: got GLU"),
    ],
)
def test_a_network_that_makes_no_values_of_observations_is_refused(algorithm, policy_kwargs, message):
    told = refusal(InvalidValue, make_agent, algorithm, policy_kwargs=policy_kwargs)
    assert told.startswith(f"policy_kwargs: {message}")


def test_trying_a_torso_of_ones_own_leaves_no_trace(algorithm, monkeypatch):
    kwargs = {"policy_kwargs": {"features_extractor_class": OwnTorso}}
    tried = make_agent(algorithm, **kwargs)
    assert all(value == 0 for key, value in tried.policy.state_dict().items() if key.endswith("n_seen"))
    tried.learn(60)
    monkeypatch.setattr("sbbatch.agents.base.smoke_test._look", lambda *_: None)
    assert_same_weights(weights(tried), weights(make_agent(algorithm, **kwargs).learn(60)))
