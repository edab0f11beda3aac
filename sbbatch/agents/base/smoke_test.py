"""Parts of the user's own, tried when an agent is made: otherwise they would fail at the first update, hours later."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from sbbatch.components.bootstrap import Bootstrap, Greedy
from sbbatch.errors import InvalidValue, built, reason_of
from sbbatch.replay.batch import ReplayBatch

if TYPE_CHECKING:
    from sbbatch.agents.base.agent import Agent
    from sbbatch.agents.base.replay import ReplayAgent

_N_SAMPLES = 2


@contextmanager
def stream_kept(device: th.device) -> Iterator[None]:
    """
    All random numbers that PyTorch draws inside are drawn again afterwards.

    :param device: where the networks are
    """
    with th.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def _trying(what: str, hint: str, agent: BaseAlgorithm) -> Iterator[None]:
    """The part is the user's, and so is whatever it raises."""
    try:
        with stream_kept(agent.device):
            yield
    except Exception as error:
        raise InvalidValue(f"{what} ({reason_of(error)}); {hint}") from error


def try_optimizer(agent: BaseAlgorithm) -> None:
    """
    One step on one weight: some optimizers want a function to call (LBFGS), or other gradients (SparseAdam).

    :param agent: with its policy
    :raises InvalidValue: its optimizer makes no step on gradients alone
    """
    optimizer_class, kwargs = agent.policy.optimizer_class, agent.policy.optimizer_kwargs
    weight = nn.Parameter(th.zeros(1, 1, device=agent.device))
    weight.grad = th.zeros_like(weight)
    optimizer = built("policy_kwargs: optimizer_kwargs", optimizer_class, [weight], lr=agent.lr_schedule(1), **kwargs)
    what = f"policy_kwargs: optimizer_class: got {optimizer_class.__name__}, which makes no step on gradients alone"
    with _trying(what, "torch.optim.Adam does with its defaults", agent):
        optimizer.step()


def try_network(agent: Agent) -> None:
    """
    A look at two observations, with a torso of the user's own or an activation of the user's choice.

    :param agent: with its policy
    :raises InvalidValue: the network makes no values of them
    """
    torso, activation = agent.policy.features_extractor_class, (agent.policy_kwargs or {}).get("activation_fn")
    if not (_is_ours(torso) or torso.__module__.startswith("stable_baselines3.")):
        what = f"policy_kwargs: features_extractor_class: got {torso.__name__}, which does not fit the network"
        hint = "its forward gives features of shape (batch, features_dim)"
    elif activation is not None:
        what = f"policy_kwargs: activation_fn: got {activation.__name__}, which does not fit the network"
        hint = "it gives as many numbers as it gets, such as torch.nn.ReLU"
    else:
        return
    with agent._undisturbed(), _buffers_kept(agent.policy), _trying(what, hint, agent):
        _look(agent, _sampled_observations(agent))


def _look(agent: Any, observations: PyTorchObs) -> None:
    if hasattr(agent.policy, "q_net"):
        _check_shapes((_N_SAMPLES, int(agent.action_space.n)), q_values=agent.q_net(observations))
    else:
        agent.policy.get_distribution(observations)
        _check_shapes((_N_SAMPLES, 1), values=agent.policy.predict_values(observations))


@contextmanager
def _buffers_kept(network: nn.Module) -> Iterator[None]:
    """A torso may count what it sees."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    yield
    for buffer, value in kept:
        buffer.copy_(value)


def _sampled_observations(agent: BaseAlgorithm) -> PyTorchObs:
    """Observations the space allows, from a copy: its own random numbers are the environment's."""
    space = copy.deepcopy(agent.observation_space)
    space.seed(0)
    samples = [space.sample() for _ in range(_N_SAMPLES)]
    if not isinstance(space, spaces.Dict):
        return _in_a_batch(samples, space, agent.device)
    return {key: _in_a_batch([one[key] for one in samples], part, agent.device) for key, part in space.spaces.items()}


def _in_a_batch(samples: list[Any], space: spaces.Space, device: th.device) -> Any:
    return obs_as_tensor(np.stack(samples).reshape(_N_SAMPLES, *get_obs_shape(space)), device)


def try_parts(agent: ReplayAgent) -> None:
    """
    Losses of made-up transitions, with a head or a bootstrap that is not sbbatch's.

    :param agent: with its policy
    :raises InvalidValue: it does not do what the train step asks of it
    """
    head, bootstrap = agent.head, agent.bootstrap
    with agent._undisturbed(), agent._streams_kept():
        if not _is_ours(head):
            what = f"head: got {head.__name__}, which does not give a ReturnEstimate"
            with _trying(what, "see sbbatch.networks.heads", agent):
                _try_losses(agent, Greedy())
        if not _is_ours(type(bootstrap)):
            name = getattr(bootstrap, "__name__", type(bootstrap).__name__)
            what = f"bootstrap: got {name}, which does not make a BootstrapTarget of a batch"
            with _trying(what, "see sbbatch.components.bootstrap", agent):
                _try_losses(agent, bootstrap)


def _is_ours(part: type) -> bool:
    return part.__module__.startswith("sbbatch.")


def _try_losses(agent: ReplayAgent, bootstrap: Bootstrap) -> None:
    """What the train step does with a batch; a wrong shape could pass there, spread over the batch."""
    batch, online, target = _made_up_batch(agent), agent.q_net.returns, agent.q_net_target.returns
    current = online(batch.observations)
    estimate, policy, bonus, rewards = bootstrap(current, online, target, batch)
    of_samples, of_actions = (_N_SAMPLES,), (_N_SAMPLES, int(agent.action_space.n))
    _check_shapes(of_actions, q_values=current.q_values, policy=policy, bonus=bonus)
    _check_shapes(of_samples, rewards=rewards)
    goal = estimate.backup(policy, bonus, rewards, batch.discounts)
    _check_shapes(of_samples, td_loss=current.td_loss(batch.actions, goal))
    if agent.priority_from == "td_error":
        _check_shapes(of_samples, td_error=current.td_error(batch.actions, goal))


def _check_shapes(expected: tuple[int, ...], **found: th.Tensor) -> None:
    for name, tensor in found.items():
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}, expected {expected}")


def _made_up_batch(agent: ReplayAgent) -> ReplayBatch:
    space, numbers = agent.observation_space, th.zeros(_N_SAMPLES, device=agent.device)
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    zeros = {key: np.zeros((_N_SAMPLES, *get_obs_shape(part)), part.dtype) for key, part in parts.items()}
    observations = obs_as_tensor(zeros if isinstance(space, spaces.Dict) else zeros[""], agent.device)
    indices = np.arange(_N_SAMPLES)
    return ReplayBatch(observations, numbers.long(), numbers, observations, numbers, numbers + 1, indices)
