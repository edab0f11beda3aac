"""SB3's actor-critic policies for observations that it cannot read itself."""

from __future__ import annotations

from stable_baselines3.common.policies import ActorCriticCnnPolicy as SB3CnnPolicy
from stable_baselines3.common.policies import ActorCriticPolicy as SB3MlpPolicy
from stable_baselines3.common.policies import MultiInputActorCriticPolicy as SB3MultiInputPolicy

from sbbatch.arguments import with_defaults
from sbbatch.networks.from_zero import CountsFromZero
from sbbatch.networks.torsos import DictTorso


class ActorCriticPolicy(SB3MlpPolicy, CountsFromZero):  # type: ignore[misc]  # of fewer arguments
    """SB3's policy for vectors; numbered observations may begin at any number."""


class ActorCriticCnnPolicy(SB3CnnPolicy, CountsFromZero):  # type: ignore[misc]  # of fewer arguments
    """SB3's policy for images."""


class MultiInputActorCriticPolicy(SB3MultiInputPolicy, CountsFromZero):  # type: ignore[misc]  # of fewer arguments
    """SB3's policy for dictionaries; the torso is :class:`~sbbatch.networks.torsos.DictTorso`."""

    __init__ = with_defaults(SB3MultiInputPolicy.__init__, {"features_extractor_class": DictTorso})
