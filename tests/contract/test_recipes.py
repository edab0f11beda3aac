"""The numbers of each recipe are those of the code or paper it names: a default that slips is another agent."""

import functools
import inspect

import pytest
import torch as th
from contract_tools import make_agent
from stable_baselines3.common.envs import FakeImageEnv

import sbbatch
from sbbatch.agents.base import replay
from sbbatch.components.augmentation import ShiftAndIntensity
from sbbatch.components.bootstrap import Double, Greedy, Munchausen
from sbbatch.networks.auxiliary import SelfPrediction
from sbbatch.networks.heads import CategoricalHead, ExpectedHead, ImplicitQuantileHead
from sbbatch.networks.impala import ImpalaCNN
from sbbatch.networks.layers import SameConv2d
from sbbatch.networks.torsos import DataEfficientCNN

DOPAMINE = {  # what the three agents of its gin files have in common
    "n_steps": 3,
    "gamma": 0.99,
    "learning_starts": 20_000,
    "train_freq": 4,
    "gradient_steps": 1,
    "batch_size": 32,
    "buffer_size": 1_000_000,
    "target_update_interval": 8_000,
    "tau": 1.0,
    "max_grad_norm": None,
}
DOPAMINE_EPSILON = {
    "exploration_initial_eps": 1.0,
    "exploration_final_eps": 0.01,
    "exploration_decay_steps": 250_000,
    "exploration_decay": "linear",
    "random_warmup": True,
}
DOPAMINE_PRIORITIES = {
    "prioritized": True,
    "priority_exponent": 0.5,
    "importance_exponent": 0.5,
    "priority_epsilon": 1e-10,
    "priority_from": "td_loss",
}
RECIPES = {
    # implicit_quantile.gin
    "iqn": DOPAMINE
    | DOPAMINE_EPSILON
    | {"head": ImplicitQuantileHead, "bootstrap": Greedy(), "learning_rate": 5e-5, "prioritized": False},
    # full_rainbow.gin: noise explores, from the first step on
    "rainbow": DOPAMINE
    | DOPAMINE_PRIORITIES
    | {
        "head": CategoricalHead,
        "bootstrap": Double(),
        "learning_rate": 6.25e-5,
        "exploration_initial_eps": 0.0,
        "exploration_final_eps": 0.0,
        "random_warmup": False,
    },
    # labs/atari_100k/configs/DER.gin; its epsilon is not used
    "der": DOPAMINE
    | DOPAMINE_PRIORITIES
    | {
        "head": CategoricalHead,
        "bootstrap": Double(),
        "learning_rate": 1e-4,
        "n_steps": 10,
        "learning_starts": 1_600,
        "train_freq": 1,
        "target_update_interval": 2_000,
        "exploration_initial_eps": 0.0,
        "exploration_final_eps": 0.0,
        "random_warmup": False,
    },
    # labs/atari_100k/configs/SPR.gin; epsilon as in mila-iqia/spr
    "spr": DOPAMINE
    | DOPAMINE_PRIORITIES
    | {
        "head": CategoricalHead,
        "bootstrap": Double(),
        "augmentation": ShiftAndIntensity(pixels=4, scale=0.05, last=True),
        "auxiliary": SelfPrediction(steps=5, weight=5.0),
        "learning_rate": 1e-4,
        "n_steps": 10,
        "learning_starts": 2_000,
        "train_freq": 1,
        "gradient_steps": 2,
        "target_update_interval": 1,
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.0,
        "exploration_fraction": 0.02,
        "random_warmup": False,
    },
    # labs/atari_100k/configs/DrQ_eps.gin
    "drq": DOPAMINE
    | DOPAMINE_EPSILON
    | {
        "head": ExpectedHead,
        "bootstrap": Double(),
        "augmentation": ShiftAndIntensity(pixels=4, scale=0.05, last=True),
        "learning_rate": 1e-4,
        "n_steps": 10,
        "prioritized": False,
        "learning_starts": 1_600,
        "train_freq": 1,
        "target_update_interval": 1,
        "exploration_decay_steps": 5_000,
    },
    # rainbow.gin
    "compact_rainbow": DOPAMINE
    | DOPAMINE_EPSILON
    | DOPAMINE_PRIORITIES
    | {"head": CategoricalHead, "bootstrap": Greedy(), "learning_rate": 6.25e-5},
    # Clark et al. 2025, Table D4, and their code where it differs
    "btr": {
        "head": ImplicitQuantileHead,
        "bootstrap": Munchausen(alpha=0.9, temperature=0.03, clip=-1.0, log_policy="online"),
        "learning_rate": 1e-4,
        "n_steps": 3,
        "gamma": 0.997,
        "learning_starts": 200_000,
        "train_freq": 1,
        "gradient_steps": 1,
        "batch_size": 256,
        "buffer_size": 1_048_576,
        "target_update_interval": 32_000,
        "tau": 1.0,
        "max_grad_norm": 10,
        "prioritized": True,
        "priority_exponent": 0.2,
        "importance_exponent": 0.2,
        "priority_epsilon": 1e-6,
        "priority_from": "td_error",
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.01,
        "exploration_decay_steps": 2_000_000,
        "exploration_decay": "geometric",
        "exploration_stop": 0.5,
        "random_warmup": False,
    },
    # the ABS authors' pqn_atari_envpool_ours.py
    "pqn": {
        "learning_rate": 2.5e-4,
        "n_steps": 32,
        "n_minibatches": 4,
        "n_epochs": 2,
        "gamma": 0.99,
        "q_lambda": 0.65,
        "exploration_fraction": 0.1,
        "exploration_initial_eps": 1.0,
        "exploration_final_eps": 0.001,
        "max_grad_norm": 10,
    },
}
PEERS = {"dqn", "qrdqn", "ppo"}  # whose defaults are compared with SB3's and sb3-contrib's elsewhere


def test_every_agent_is_here_or_has_a_peer():
    assert {*RECIPES, *PEERS} == set(sbbatch.ALGORITHMS)


@pytest.mark.parametrize("name", RECIPES)
def test_defaults_are_those_of_the_source(name):
    parameters = inspect.signature(sbbatch.ALGORITHMS[name]).parameters
    assert {key: parameters[key].default for key in RECIPES[name]} == RECIPES[name]


@functools.cache
def on_images(name):
    """The agent itself, not its parts put together here, on images of 84x84 with six actions."""
    env = FakeImageEnv(action_dim=6, screen_height=84, screen_width=84, n_channels=4, channel_first=True)
    small = {} if name == "pqn" else {"buffer_size": 300}
    return sbbatch.ALGORITHMS[name]("CnnPolicy", env, device="cpu", seed=0, **small)


@pytest.mark.parametrize(
    ("name", "n_parameters", "eps"),
    [
        ("iqn", 4_549_862, 3.125e-4),
        ("rainbow", 8_375_146, 1.5e-4),
        ("der", 8_375_146, 1.5e-4),
        ("drq", 4_047_015, 1.5e-4),
        ("spr", 8_715_114, 1.5e-4),
        ("compact_rainbow", 4_200_402, 1.5e-4),
        ("btr", 5_266_606, 1.953125e-5),  # 0.005 / 256
        ("pqn", 1_730_470, 1e-8),
    ],
)
def test_network_and_optimizer_are_those_of_the_source(name, n_parameters, eps):
    agent = on_images(name)
    assert sum(parameter.numel() for parameter in agent.q_net.parameters()) == n_parameters
    group = agent.policy.optimizer.param_groups[0]
    assert (group["eps"], group["betas"]) == (pytest.approx(eps), (0.9, 0.999))
    assert type(agent.policy.optimizer) is (th.optim.RAdam if name == "pqn" else th.optim.Adam)
    flax = [module for module in agent.q_net.modules() if isinstance(module, SameConv2d)]
    assert len(flax) == (3 if name in ("iqn", "rainbow", "der", "drq", "spr", "compact_rainbow") else 0)


@pytest.mark.parametrize(("name", "taus", "first_cosine"), [("iqn", (64, 64, 32), 1), ("btr", (8, 8, None), 0)])
def test_fractions_and_cosines_are_those_of_the_source(name, taus, first_cosine):
    head = on_images(name).q_net.head
    assert (head.n_taus, head.n_target_taus, head.n_policy_taus) == taus
    assert (head.first_cosine, head.embedding[0].in_features, head.kappa) == (first_cosine, 64, 1.0)


@pytest.mark.parametrize(
    ("name", "dueling", "sigma0"),
    [
        *((name, "output", 0.1) for name in ("rainbow", "der")),
        ("spr", "output", 0.5),
        ("btr", "streams", 0.5),
    ],
)
def test_dueling_and_noise_are_those_of_the_source(name, dueling, sigma0):
    layers = on_images(name).q_net.head.layers
    assert layers.dueling == dueling
    # sigma is sigma0 over the root of the inputs, 512 of them
    assert layers.output.weight_sigma.unique().tolist() == pytest.approx([sigma0 / 512**0.5])


def test_the_support_of_all_rainbows_is_51_atoms_from_minus_10_to_10():
    for name in ("rainbow", "compact_rainbow", "der", "spr"):
        support = on_images(name).q_net.head.support
        assert support.tolist() == pytest.approx([-10 + 0.4 * i for i in range(51)], abs=1e-5)


@pytest.mark.parametrize(("n_actions", "n_parameters"), [(4, 776_414), (6, 828_842), (18, 1_143_410)])
def test_the_paper_of_der_has_a_smaller_network(n_actions, n_parameters):
    env = FakeImageEnv(action_dim=n_actions, screen_height=84, screen_width=84, n_channels=4, channel_first=True)
    small = {"features_extractor_class": DataEfficientCNN, "dueling": "streams"}
    agent = sbbatch.DER("CnnPolicy", env, device="cpu", buffer_size=300, policy_kwargs=small)
    assert agent.q_net.features_extractor.features_dim == 576  # 84 -> 16 -> 3 pixels, 64 channels
    assert sum(parameter.numel() for parameter in agent.q_net.parameters()) == n_parameters


def test_der_copies_its_target_every_2000_steps_and_makes_a_step_of_each_after_the_1600th(monkeypatch):
    names = {"learning_starts": 1_600, "target_update_interval": 2_000, "train_freq": 1, "gradient_steps": 1}
    defaults = {name: inspect.signature(sbbatch.DER).parameters[name].default for name in names}
    assert defaults == names
    short = {name: max(value // 100, 1) for name, value in names.items()}
    agent, copied_at, updated_at = make_agent(sbbatch.DER, **short), [], []
    monkeypatch.setattr(replay, "sync_target", lambda *_, **__: copied_at.append(agent.num_timesteps))
    monkeypatch.setattr(agent, "_train_step", lambda batch: updated_at.append(agent.num_timesteps) or 0.0)
    agent.learn(60)
    assert sorted(set(copied_at)) == [20, 40, 60]
    assert updated_at == list(range(17, 61))


def test_btrs_torso_is_impala_at_twice_the_width_with_a_pool_of_six():
    torso = on_images("btr").q_net.features_extractor
    assert isinstance(torso, ImpalaCNN)
    assert torso.features_dim == 64 * 6 * 6


def test_pqn_has_the_squared_error_without_the_factor_of_a_half():
    estimate = on_images("pqn").q_net.returns(th.zeros(1, 4, 84, 84, dtype=th.uint8))
    target = estimate.q_values[:, 2].detach() + 3.0
    assert estimate.td_loss(th.tensor([2]), target).item() == pytest.approx(9.0, rel=1e-5)


ON_REPLAY = ("batch_size", 16, 64, 0.05, 0.95, 100_000, 8, 1)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        *((name, ON_REPLAY) for name in ("dqn", "qrdqn", "iqn", "rainbow", "compact_rainbow")),
        *((name, ("batch_size", 16, 64, 0.05, 0.95, 2_000, 8, 1)) for name in ("der", "drq", "spr")),
        ("btr", ("batch_size", 128, 512, 0.05, 0.95, 102_400, 8, 16)),
        ("pqn", ("n_steps", 16, 64, 0.05, 0.95, 50, 1, 1)),
        ("ppo", ("n_steps", 1024, 8192, 0.01, 0.1, 10, 1, 1)),
    ],
)
def test_abs_has_the_numbers_of_its_table(name, scaling):
    ours = sbbatch.ALGORITHMS[name].scaling_defaults
    assert (ours.size_name, ours.min_size, ours.max_size, ours.low, ours.high) == scaling[:5]
    assert (ours.check_every, ours.updates, ours.quantum) == scaling[5:]
