"""Parts of the user's own, tried when an agent is made: otherwise they would fail at the first update, hours later."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_obs_shape
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from sbbatch.agents.base.measuring import buffers_kept, streams_kept, undisturbed
from sbbatch.components.augmentation import Augmentation, Identity
from sbbatch.components.bootstrap import Bootstrap, Greedy
from sbbatch.errors import InvalidValue, reason_of
from sbbatch.networks.value_policy import ValuePolicy
from sbbatch.replay.batch import ReplayBatch

_N_SAMPLES = 2


@contextmanager
def _trying(what: str, hint: str, policy: BasePolicy) -> Iterator[None]:
    try:
        with undisturbed(policy), buffers_kept(policy), streams_kept(policy.device):
            yield
    except Exception as error:  # the part is the user's, and so is whatever it raises
        raise InvalidValue(f"{what} ({reason_of(error)}); {hint}") from error


def try_network(policy: BasePolicy, activation: type[nn.Module] | None) -> None:
    """A look at two observations, with a torso of the user's own or an activation of the user's choice."""
    torso = policy.features_extractor_class
    if not (_is_ours(torso) or torso.__module__.startswith("stable_baselines3.")):
        what = f"policy_kwargs: features_extractor_class: got {torso.__name__}, which does not fit the network"
        hint = "its forward gives features of shape (batch, features_dim)"
    elif activation is not None:
        name = getattr(activation, "__name__", activation)
        what = f"policy_kwargs: activation_fn: got {name}, which does not fit the network"
        hint = "it gives as many numbers as it gets, such as torch.nn.ReLU"
    else:
        return
    with _trying(what, hint, policy):
        _look(policy, sampled_observations(policy.observation_space, policy.device))


def _look(policy: Any, observations: PyTorchObs) -> None:
    if hasattr(policy, "q_net"):
        _check_shapes((_N_SAMPLES, int(policy.action_space.n)), q_values=policy.q_net(observations))
    else:
        policy.get_distribution(observations)
        _check_shapes((_N_SAMPLES, 1), values=policy.predict_values(observations))


def sampled_observations(space: spaces.Space, device: th.device, n: int = _N_SAMPLES) -> PyTorchObs:
    """``n`` observations the space allows, from a copy: its own random numbers are the environment's."""
    if isinstance(space, spaces.Dict):
        return {key: sampled_observations(part, device, n) for key, part in space.spaces.items()}  # type: ignore[misc]
    space = copy.deepcopy(space)
    space.seed(0)
    samples = [space.sample() for _ in range(_N_SAMPLES)]
    return obs_as_tensor(np.resize(np.stack(samples), (n, *get_obs_shape(space))), device)


def try_parts(policy: ValuePolicy, bootstrap: Bootstrap, augmentation: Augmentation, with_td_error: bool) -> None:
    """Losses of made-up transitions, with a head, a bootstrap or an augmentation that is not sbbatch's."""
    head = policy.head_class
    if not _is_ours(head):
        what = f"head: got {head.__name__}, which does not give a ReturnEstimate"
        with _trying(what, "see sbbatch.networks.heads", policy):
            _try_losses(policy, Greedy(), Identity(), with_td_error)
    if not _is_ours(type(bootstrap)):
        what = f"bootstrap: got {_name_of(bootstrap)}, which does not make a BootstrapTarget of a batch"
        with _trying(what, "see sbbatch.components.bootstrap", policy):
            _try_losses(policy, bootstrap, Identity(), with_td_error)
    if not _is_ours(type(augmentation)):
        what = f"augmentation: got {_name_of(augmentation)}, which does not make a batch of a batch"
        with _trying(what, "see sbbatch.components.augmentation", policy):
            _try_losses(policy, Greedy(), augmentation, with_td_error)


def _name_of(part: object) -> str:
    """Of a function, or of an object's class."""
    return getattr(part, "__name__", type(part).__name__)


def _is_ours(part: type) -> bool:
    return part.__module__.startswith("sbbatch.")


def _try_losses(policy: ValuePolicy, bootstrap: Bootstrap, augmentation: Augmentation, with_td_error: bool) -> None:
    """What the train step does with a batch; a wrong shape could pass there, spread over the batch."""
    numbers, seen = (
        th.zeros(_N_SAMPLES, device=policy.device),
        sampled_observations(policy.observation_space, policy.device),
    )
    batch = ReplayBatch(seen, numbers.long(), numbers, seen, numbers, numbers + 1, np.arange(_N_SAMPLES))
    batch = augmentation(batch, np.random.default_rng(0))
    online, target = policy.q_net.returns, policy.q_net_target.returns
    current = online(batch.observations)
    estimate, next_policy, bonus, rewards = bootstrap(current, online, target, batch)
    of_samples, of_actions = (_N_SAMPLES,), (_N_SAMPLES, int(policy.action_space.n))
    _check_shapes(of_actions, q_values=current.q_values, policy=next_policy, bonus=bonus)
    _check_shapes(of_samples, rewards=rewards)
    goal = estimate.backup(next_policy, bonus, rewards, batch.discounts)
    _check_shapes(of_samples, td_loss=current.td_loss(batch.actions, goal))
    if with_td_error:
        _check_shapes(of_samples, td_error=current.td_error(batch.actions, goal))


def _check_shapes(expected: tuple[int, ...], **found: th.Tensor) -> None:
    for name, tensor in found.items():
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} of shape {tuple(tensor.shape)}, expected {expected}")
