"""Policies of agents that learn from rollouts: one network, no target network (PQN, Gallici et al. 2025)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import PyTorchObs

from sbbatch.arguments import with_defaults
from sbbatch.networks.initializers import orthogonal
from sbbatch.networks.multi_skip import MultiSkipCNN
from sbbatch.networks.torsos import DictTorso, NatureCNN
from sbbatch.networks.value_policy import ValuePolicy

Explore = Callable[[np.ndarray], np.ndarray]


class RolloutPolicy(ValuePolicy):
    """
    :class:`~sbbatch.networks.value_policy.ValuePolicy` without a target network, for SB3's ``OnPolicyAlgorithm``:
    actions, values and log-probabilities as ``collect_rollouts`` asks for them, where the value of a state is that of
    its best action.

    The defaults are those of CleanRL's ``pqn_atari_envpool.py``: RAdam, orthogonal first weights and the squared error.
    ``use_sde``, which SB3 gives to every policy, has no effect. Further arguments: see
    :class:`~sbbatch.networks.value_policy.ValuePolicy`.
    """

    has_target = False
    # From greedy actions ``(batch,)`` to the ones to take. It belongs to the algorithm, which has the random numbers.
    explore: Explore | None = None
    head_defaults = {"loss": "mse"}

    __init__ = with_defaults(
        ValuePolicy.__init__,
        {"optimizer_class": th.optim.RAdam, "initializer": orthogonal},
        ignored=("use_sde",),
    )

    def _build_networks(self) -> None:
        self.q_net = self.make_q_net()

    def forward(  # type: ignore[override]
        self, obs: PyTorchObs, deterministic: bool = False
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        :param obs: observations ``(batch, *shape)``
        :param deterministic: greedy actions, whatever ``explore`` says
        :return: actions int64 ``(batch,)``, values ``(batch, 1)`` of the greedy actions, and zeros ``(batch,)`` in the
            place of log-probabilities
        """
        values, greedy = self.q_net(obs).max(dim=1)
        actions = greedy
        if self.explore is not None and not deterministic:
            actions = th.as_tensor(self.explore(greedy.cpu().numpy()), dtype=greedy.dtype, device=greedy.device)
            assert actions.shape == greedy.shape, f"explore made {actions.shape} of {greedy.shape}"
        return actions, values.unsqueeze(1), th.zeros_like(values)

    def predict_values(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: observations ``(batch, *shape)``
        :return: value of the best action ``(batch, 1)``
        """
        return self.q_net(obs).amax(dim=1, keepdim=True)


class RolloutMlpPolicy(RolloutPolicy):
    """
    :class:`RolloutPolicy` for vectors: two hidden layers of 256, each with a layer norm, which is purejaxql's network
    for CartPole (``pqn_cartpole.yaml``). Deviations: PyTorch's eps of 1e-5 instead of Flax's 1e-6, and the first
    weights of :class:`RolloutPolicy`.
    """

    __init__ = with_defaults(RolloutPolicy.__init__, {"net_arch": [256, 256], "layer_norm": True})


class RolloutCnnPolicy(RolloutPolicy):
    """
    :class:`RolloutPolicy` for images: PQN's network in CleanRL's ``pqn_atari_envpool.py``, which is
    :class:`~sbbatch.networks.torsos.NatureCNN` with a layer norm (``"chw"``) between every linear map and its ReLU.
    Other torsos have it, too, where they know ``layer_norm``, and so have hidden layers in the head.
    """

    torso_defaults = {"layer_norm": "chw"}

    __init__ = with_defaults(RolloutPolicy.__init__, {"features_extractor_class": NatureCNN, "layer_norm": True})


class RolloutCnnPolicyL(RolloutCnnPolicy):
    """
    PQN-L: :class:`~sbbatch.networks.multi_skip.MultiSkipCNN` with five blocks, and a layer norm over the action values,
    as the authors of Adaptive Batch Scaling published it; ``output_layernorm=False`` goes without.
    """

    torso_defaults = {"layer_norm": "chw", "n_blocks": 5}
    head_defaults = {"loss": "mse", "output_layernorm": True}

    __init__ = with_defaults(RolloutCnnPolicy.__init__, {"features_extractor_class": MultiSkipCNN})


class RolloutCnnPolicyXL(RolloutCnnPolicyL):
    """PQN-XL: :class:`RolloutCnnPolicyL` with ten blocks."""

    torso_defaults = {"layer_norm": "chw", "n_blocks": 10}


class RolloutMultiInputPolicy(RolloutMlpPolicy):
    """:class:`RolloutMlpPolicy` for Dict observations: the torso is
    :class:`~sbbatch.networks.torsos.DictTorso`."""

    __init__ = with_defaults(RolloutMlpPolicy.__init__, {"features_extractor_class": DictTorso})
