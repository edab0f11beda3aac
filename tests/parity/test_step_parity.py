"""Same weights and batch in, same weights out: one gradient step of ours against SB3's and sb3-contrib's."""

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch as th
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from sbbatch import DQN, QRDQN
from sbbatch.replay import ReplayBatch

BATCH_SIZE, N_QUANTILES = 16, 25


def make_env(policy):
    return (
        FakeImageEnv(screen_height=48, screen_width=48, n_channels=4, channel_first=True)
        if policy == "CnnPolicy"
        else "CartPole-v1"
    )


def make_pair(algorithm, policy, **kwargs):
    """Our agent and the peer, built alike."""
    common = {"buffer_size": 200, "seed": 0, "device": "cpu", **kwargs}
    if algorithm == "dqn":
        return DQN(policy, make_env(policy), **common), stable_baselines3.DQN(policy, make_env(policy), **common)
    common["policy_kwargs"] = {"n_quantiles": N_QUANTILES}
    theirs = common | {"batch_size": 32}  # so that its Adam epsilon, 0.01 / batch_size, is the published one
    return QRDQN(policy, make_env(policy), **common), sb3_contrib.QRDQN(policy, make_env(policy), **theirs)


def copy_weights(theirs, ours):
    """Peer's parameters in order; sb3-contrib orders the outputs (quantile, action), we (action, quantile)."""
    pairs = zip(ours.q_net.parameters(), network_of(theirs).parameters(), strict=True)
    for mine, other in pairs:
        with th.no_grad():
            mine.copy_(as_ours(other, ours))
    ours.q_net_target.load_state_dict(ours.q_net.state_dict())
    return ours


def in_double(*models):
    """
    Networks and optimizers in double precision. Adam divides a gradient by its own size: of one that is nearly zero,
    the rounding of a convolution, which differs between memory formats and processors, becomes a step.
    """
    for model in models:
        model.policy.double()
        for network in (network_of(model), target_of(model)):
            network.features_extractor.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))


def as_ours(parameter, ours):
    n_actions = int(ours.action_space.n)
    if isinstance(ours, QRDQN) and parameter.shape[0] == n_actions * N_QUANTILES:
        return parameter.reshape(N_QUANTILES, n_actions, *parameter.shape[1:]).transpose(0, 1).reshape(parameter.shape)
    return parameter


def network_of(theirs):
    return theirs.quantile_net if hasattr(theirs, "quantile_net") else theirs.q_net


def target_of(theirs):
    return theirs.quantile_net_target if hasattr(theirs, "quantile_net_target") else theirs.q_net_target


def make_samples(model, seed):
    """A batch with terminations and n-step discounts, in SB3's form."""
    generator = np.random.default_rng(seed)
    space = model.observation_space

    def observations():
        if space.dtype == np.uint8:
            return th.from_numpy(generator.integers(0, 256, (BATCH_SIZE, *space.shape), dtype=np.uint8))
        return th.from_numpy(generator.normal(size=(BATCH_SIZE, *space.shape)).astype(np.float32))

    def column(values):
        return th.from_numpy(np.asarray(values, dtype=np.float32).reshape(-1, 1))

    return ReplayBufferSamples(
        observations=observations(),
        actions=th.from_numpy(generator.integers(0, model.action_space.n, (BATCH_SIZE, 1))),
        next_observations=observations(),
        dones=column(generator.random(BATCH_SIZE) < 0.25),
        rewards=column(generator.normal(size=BATCH_SIZE) * 3),
        discounts=column(0.99 ** generator.integers(1, 4, BATCH_SIZE)),
    )


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn"])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5, 10.0])
def test_three_gradient_steps_give_the_peers_weights(algorithm, policy, max_grad_norm):
    if algorithm == "dqn" and max_grad_norm is None:
        max_grad_norm = 1e9  # SB3's DQN always clips
    ours, theirs = make_pair(algorithm, policy, max_grad_norm=max_grad_norm)
    copy_weights(theirs, ours)
    if policy == "CnnPolicy":
        in_double(ours, theirs)
    tolerance = 1e-9 if policy == "CnnPolicy" else 1e-6
    theirs.learn(0)  # attaches a logger
    before = [p.detach().clone() for p in ours.q_net.parameters()]
    for seed in range(3):
        samples = make_samples(ours, seed)
        theirs.replay_buffer.sample = lambda *args, samples=samples, **kwargs: samples
        theirs.train(gradient_steps=1, batch_size=BATCH_SIZE)
        ours.policy.set_training_mode(True)
        ours._train_step(ReplayBatch.from_sb3(samples, gamma=0.99))
    for mine, other, start in zip(ours.q_net.parameters(), network_of(theirs).parameters(), before, strict=True):
        assert not th.equal(mine, start), "a parameter was not trained"
        th.testing.assert_close(mine, as_ours(other, ours), rtol=0, atol=tolerance)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn"])
def test_same_weights_act_alike(algorithm, policy):
    ours, theirs = make_pair(algorithm, policy)
    copy_weights(theirs, ours)
    observations = make_samples(ours, 0).observations.numpy()
    assert np.array_equal(
        ours.predict(observations, deterministic=True)[0], theirs.predict(observations, deterministic=True)[0]
    )


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_target_network_is_synchronised_as_in_sb3(tau):
    ours, theirs = make_pair("dqn", "MlpPolicy", tau=tau, target_update_interval=4)
    copy_weights(theirs, ours)
    for model in (ours, theirs):
        for parameter in model.q_net.parameters():
            parameter.data.add_(1.0)
        model.learn(10)  # two synchronisations, no update yet
    for mine, other in zip(ours.q_net_target.parameters(), theirs.q_net_target.parameters(), strict=True):
        th.testing.assert_close(mine, other, rtol=0, atol=1e-6)


def test_epsilon_falls_as_in_sb3():
    ours, theirs = make_pair("dqn", "MlpPolicy", exploration_fraction=0.5)
    epsilons = []
    for model in (ours, theirs):
        epsilons.append([model.exploration_schedule(1 - t / 100) for t in range(101)])
    np.testing.assert_allclose(*epsilons, atol=1e-12)
