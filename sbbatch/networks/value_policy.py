"""Policies of value-based agents: an online and a target network, each a torso and a head."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.torch_layers import NatureCNN as SB3NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sbbatch.arguments import checked, declared, with_defaults
from sbbatch.errors import built
from sbbatch.networks.action_layers import Dueling, LayerSpec, NoiseScale
from sbbatch.networks.auxiliary import Auxiliary, NoAuxiliary
from sbbatch.networks.checks import Activation, NetArch, check_head_kwargs, check_parts, fits_in_memory
from sbbatch.networks.from_zero import CountsFromZero
from sbbatch.networks.heads import ExpectedHead, ImplicitQuantileHead, QuantileHead, ReturnEstimate
from sbbatch.networks.initializers import Initializer
from sbbatch.networks.layers import members
from sbbatch.networks.torsos import ConvTorso, DictTorso, NatureCNN

# The implementation of an optimizer that is fastest on CPUs, and not PyTorch's choice there; the result is the same.
FASTEST: dict[type[th.optim.Optimizer], dict[str, Any]] = {
    th.optim.Adam: {"fused": True},
    th.optim.AdamW: {"fused": True},
    th.optim.RAdam: {"foreach": True},
}


class ValueNetwork(BasePolicy, CountsFromZero):
    """
    A torso and a head: observations to an estimate of the return of every action.

    :param observation_space: observation space
    :param action_space: discrete action space
    :param features_extractor: the torso
    :param head: the head
    :param normalize_images: divide uint8 images by 255
    """

    action_space: spaces.Discrete

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        head: nn.Module,
        normalize_images: bool = True,
    ) -> None:
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self.head = head

    def returns(self, obs: PyTorchObs) -> ReturnEstimate:
        """
        :param obs: observations as SB3 passes them, ``(batch, *shape)`` or a dictionary
        :return: the head's estimate
        """
        return self.head(self.extract_features(obs, self.features_extractor))

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        :param obs: observations ``(batch, *shape)``
        :return: expected return of every action ``(batch, actions)``
        """
        return self.returns(obs).q_values

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self(observation).argmax(dim=1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(features_extractor=self.features_extractor, head=self.head)
        return data


class ValuePolicy(BasePolicy):
    """
    Greedy policy of a value-based agent, with its online network, target network and optimizer.

    The arguments up to ``optimizer_kwargs`` are those of SB3's ``DQNPolicy``, with the same defaults. One thing moves
    by itself: where layers are noisy, dueling has two streams, or quantiles are implicit, the hidden layer after one of
    our convolutional torsos (512 after :class:`~sbbatch.networks.torsos.NatureCNN`) belongs to the head and not to the
    torso, as in the papers (``features_dim`` None, ``net_arch`` [512]), unless either is given.

    :param observation_space: observation space
    :param action_space: discrete action space
    :param lr_schedule: learning rate as a function of the progress remaining
    :param net_arch: hidden layers between torso and output; by default none after a CNN that ends in a linear layer,
        ``[512]`` after one that does not, and ``[64, 64]`` otherwise
    :param activation_fn: activation of the hidden layers
    :param features_extractor_class: torso
    :param features_extractor_kwargs: its arguments, e.g. ``dict(padding="same")``
    :param normalize_images: divide uint8 images by 255
    :param optimizer_class: optimizer; Adam runs fused and RAdam foreach unless told otherwise (same result, faster)
    :param optimizer_kwargs: its arguments other than the learning rate
    :param head_class: head; the algorithm chooses it
    :param dueling: None, ``"output"`` or ``"streams"``, see :class:`~sbbatch.networks.action_layers.LayerSpec`
    :param noisy_sigma0: initial scale of the noise of the head's layers; 0 for plain layers
    :param initializer: sets the first weights, see :mod:`sbbatch.networks.initializers`; None for PyTorch's, as in SB3
    :param layer_norm: a layer norm between each of the hidden layers in ``net_arch`` and its activation; the torso's
        layers have an argument of their own, see :class:`~sbbatch.networks.torsos.NatureCNN`
    :param auxiliary: an auxiliary loss, whose module is a part of the networks; the algorithm chooses it
    :param head_kwargs: the head's own arguments, e.g. ``n_quantiles=50``
    :raises InvalidValue: a value that is not allowed, or observations that the torso is not for
    :raises InvalidType: a value of the wrong type, or an argument that neither the policy nor the head knows
    """

    q_net: ValueNetwork
    q_net_target: ValueNetwork
    action_space: spaces.Discrete
    has_target: ClassVar[bool] = True
    # Defaults of a subclass for its torso and its head, under what is given, where their class has such an argument.
    torso_defaults: ClassVar[Mapping[str, Any]] = {}
    head_defaults: ClassVar[Mapping[str, Any]] = {}

    @partial(checked, prefix="policy_kwargs: ")
    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: NetArch = None,
        activation_fn: Activation = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        head_class: type[nn.Module] = ExpectedHead,
        dueling: Dueling | None = None,
        noisy_sigma0: NoiseScale = 0.0,
        initializer: Initializer | None = None,
        layer_norm: bool = False,
        auxiliary: Auxiliary = NoAuxiliary(),  # noqa: B008 - frozen
        **head_kwargs: Any,
    ) -> None:
        check_parts(locals())
        check_head_kwargs(locals())
        head_kwargs = _known(self.head_defaults, head_class) | head_kwargs
        features_extractor_kwargs = {
            **_known(self.torso_defaults, features_extractor_class),
            **(features_extractor_kwargs or {}),
        }
        hidden_in_head = dueling == "streams" or bool(noisy_sigma0) or issubclass(head_class, ImplicitQuantileHead)
        if issubclass(features_extractor_class, ConvTorso):
            if hidden_in_head and net_arch is None and features_extractor_class.hidden_size is not None:
                features_extractor_kwargs.setdefault("features_dim", None)
            if not normalize_images:  # SB3 does so for its own
                features_extractor_kwargs["normalized_image"] = True
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            normalize_images=normalize_images,
        )
        self.net_arch, self.activation_fn, self.layer_norm = net_arch, activation_fn, layer_norm
        self.dueling, self.noisy_sigma0, self.initializer = dueling, noisy_sigma0, initializer
        self.head_class, self.head_kwargs, self.auxiliary = head_class, head_kwargs, auxiliary
        with fits_in_memory():
            self._build(lr_schedule)

    def _build(self, lr_schedule: Schedule) -> None:
        self._build_networks()
        parameters = [parameter for parameter in self.q_net.parameters() if parameter.requires_grad]
        told = {"foreach", "differentiable", "fused"} & set(self.optimizer_kwargs)
        fastest = {} if told else FASTEST.get(self.optimizer_class, {})
        kwargs = {"lr": lr_schedule(1), **fastest, **self.optimizer_kwargs}
        self.optimizer = built("policy_kwargs: optimizer_kwargs", self.optimizer_class, parameters, **kwargs)

    def _build_networks(self) -> None:
        self.q_net = self.make_q_net()
        self.q_net_target = self.make_q_net()
        self.q_net_target.load_state_dict(self.q_net.state_dict())
        self.q_net_target.set_training_mode(False)

    def make_q_net(self) -> ValueNetwork:
        """A new network with its own torso; the online and the target network share nothing."""
        torso = self.make_features_extractor()
        net_arch = _default_net_arch(torso) if self.net_arch is None else self.net_arch
        hidden = net_arch, self.activation_fn, self.dueling, self.noisy_sigma0, self.layer_norm
        layers = LayerSpec(torso.features_dim, int(self.action_space.n), *hidden)
        head = built("head", self.head_class, layers, **self.head_kwargs)
        network = ValueNetwork(self.observation_space, self.action_space, torso, head, self.normalize_images)
        module = self.auxiliary.build(torso, head, int(self.action_space.n))
        if module is not None:
            network.auxiliary = module
        if self.initializer is not None:
            self.initializer(network)
        return network.to(self.device)

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """A new torso."""
        name = "policy_kwargs: features_extractor_kwargs"
        return built(name, self.features_extractor_class, self.observation_space, **self.features_extractor_kwargs)

    def forward(self, obs: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        """Greedy actions ``(batch,)``, whatever ``deterministic`` says: exploration belongs to the algorithm."""
        return self._predict(obs, deterministic=deterministic)

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self.q_net._predict(observation, deterministic=deterministic)

    @property
    def quantile_net(self) -> ValueNetwork:
        """The online network under sb3-contrib's name, on policies with quantiles."""
        if isinstance(self.q_net.head, (QuantileHead, ImplicitQuantileHead)):
            return self.q_net
        raise AttributeError

    @property
    def quantile_net_target(self) -> ValueNetwork:
        """The target network, likewise."""
        if isinstance(self.q_net.head, (QuantileHead, ImplicitQuantileHead)):
            return self.q_net_target
        raise AttributeError

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in declared(ValuePolicy) if hasattr(self, name)}
        common = super()._get_constructor_parameters()
        return common | own | {"lr_schedule": self._dummy_schedule} | self.head_kwargs

    def set_training_mode(self, mode: bool) -> None:
        """Training or evaluation mode of the online network; the target network always stays in evaluation mode."""
        modules = members(self.q_net)
        if all(type(module).train is nn.Module.train for module in modules):
            for module in modules:  # as `train` does, which takes as long as a layer of a small network
                vars(module)["training"] = mode
        else:
            self.q_net.train(mode)
        self.training = mode


def _known(defaults: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters if defaults else {}
    return {name: value for name, value in defaults.items() if name in parameters}


def _default_net_arch(torso: BaseFeaturesExtractor) -> list[int]:
    if isinstance(torso, ConvTorso):
        without_hidden = isinstance(torso.linear, nn.Identity)
        return [torso.hidden_size] if without_hidden and torso.hidden_size is not None else []
    return [] if isinstance(torso, SB3NatureCNN) else [64, 64]


MlpPolicy = ValuePolicy


class CnnPolicy(ValuePolicy):
    """:class:`ValuePolicy` for images: the torso is :class:`~sbbatch.networks.torsos.NatureCNN`."""

    __init__ = with_defaults(ValuePolicy.__init__, {"features_extractor_class": NatureCNN})


class MultiInputPolicy(ValuePolicy):
    """:class:`ValuePolicy` for Dict observations: the torso is :class:`~sbbatch.networks.torsos.DictTorso`."""

    __init__ = with_defaults(ValuePolicy.__init__, {"features_extractor_class": DictTorso})
