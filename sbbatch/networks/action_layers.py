"""The fully connected layers of every head: from features to some numbers for each action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch as th
from torch import nn

from sbbatch.arguments import Within, checked
from sbbatch.errors import InvalidValue
from sbbatch.networks.layers import linear, mlp

Dueling = Literal["output", "streams"]
NoiseScale = Annotated[float, Within(0.0)]


@checked
@dataclass(frozen=True)
class LayerSpec:
    """
    What the layers of a head look like; each head decides how many numbers an action gets.

    :param features_dim: size of the features
    :param n_actions: number of actions
    :param net_arch: hidden layer sizes, may be empty
    :param activation_fn: activation of the hidden layers
    :param dueling: None; ``"output"``: values and advantages share the hidden layers and part at the last one
        (Dopamine); ``"streams"``: each has hidden layers of its own (Wang et al. 2016; BTR)
    :param noisy_sigma0: scale of the noise of :class:`~sbbatch.networks.layers.NoisyLinear`; 0 for plain layers
    :param layer_norm: a layer norm between each hidden layer and its activation
    """

    features_dim: int
    n_actions: int
    net_arch: list[int] = field(default_factory=list)
    activation_fn: Callable[[], nn.Module] = nn.ReLU
    dueling: Dueling | None = None
    noisy_sigma0: NoiseScale = 0.0
    layer_norm: bool = False

    def __post_init__(self) -> None:
        if self.dueling == "streams" and not self.net_arch:
            raise InvalidValue("dueling: 'streams' need hidden layers, but net_arch is empty; use 'output'")

    def hidden_layers(self, sizes: list[int]) -> nn.Sequential:
        """Layers of the kind that is specified, from the input size and the size of each layer."""
        return mlp(sizes, self.activation_fn, self.noisy_sigma0, self.layer_norm)

    def build(self, n_atoms: int) -> ActionLayers:
        """The layers, with ``n_atoms`` numbers per action."""
        return ActionLayers(self, n_atoms)

    def split(self) -> tuple[list[int], LayerSpec]:
        """Sizes of the layers before the last hidden one, input included, and the specification of what follows."""
        first = [self.features_dim, *self.net_arch[:-1]]
        return first, replace(self, features_dim=first[-1], net_arch=self.net_arch[-1:])


class ActionLayers(nn.Module):
    """
    Hidden layers and output; with dueling, ``Q = V + A - mean over actions of A``, separately for each atom.

    :param spec: what they look like
    :param n_atoms: numbers per action
    """

    def __init__(self, spec: LayerSpec, n_atoms: int) -> None:
        super().__init__()
        self.n_actions, self.n_atoms, self.dueling = spec.n_actions, n_atoms, spec.dueling
        sizes = [spec.features_dim, *spec.net_arch]

        def hidden() -> nn.Sequential:
            return spec.hidden_layers(sizes)

        def output(n: int) -> nn.Module:
            return linear(sizes[-1], n, spec.noisy_sigma0)

        self.hidden, self.output = hidden(), output(spec.n_actions * n_atoms)  # advantages, if dueling
        if self.dueling is not None:
            self.value_hidden = hidden() if self.dueling == "streams" else nn.Identity()
            self.value_output = output(n_atoms)

    def forward(self, features: th.Tensor) -> th.Tensor:
        """
        :param features: ``(..., features_dim)``
        :return: ``(..., actions, atoms)``
        """
        hidden = self.hidden(features)
        outputs = self.output(hidden).unflatten(-1, (self.n_actions, self.n_atoms))
        if self.dueling is None:
            return outputs
        value = self.value_output(self.value_hidden(features if self.dueling == "streams" else hidden))
        return value.unsqueeze(-2) + outputs - outputs.mean(dim=-2, keepdim=True)
