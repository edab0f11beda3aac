"""Proximal Policy Optimization with rollouts that change their length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import Distribution, StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, Schedule
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.agents.base import arguments as checks
from sbbatch.agents.base.arguments import Device, Environment, Folder, LearningRate, Policy, PolicyKwargs, Seed
from sbbatch.agents.base.measuring import in_parts, streams_kept, undisturbed
from sbbatch.agents.base.rollout import Hold, RolloutAgent
from sbbatch.arguments import Count, Fraction, Natural, Positive, Within, checked
from sbbatch.batch.callback import BatchSizeCallback
from sbbatch.batch.protocol import BatchScaling, Behavior
from sbbatch.errors import InvalidValue, NumericalError, UserError, check_keywords, describe_space
from sbbatch.functional.divergence import categorical_kl, gaussian_kl
from sbbatch.networks import actor_critic
from sbbatch.networks.checks import check_actor_critic_kwargs, fits_in_memory
from sbbatch.networks.from_zero import CountsFromZero, starts_elsewhere

Weight = Annotated[float, Within(0.0, 1e6)]
# What a rollout buffer gets from its agent.
_OF_THE_BUFFER = {"buffer_size", "observation_space", "action_space", "device", "gae_lambda", "gamma", "n_envs"}


class PPO(RolloutAgent, SB3PPO):
    """
    SB3's PPO (Schulman et al. 2017), whose rollouts can change their length: the same arguments, the same train step,
    the same numbers. What is new is keyword-only.

    ``batch_size`` is SB3's: samples of a minibatch. When the length of rollouts changes, the number of minibatches
    stays as ``n_steps * n_envs / batch_size`` says, and ``batch_size`` follows; with ``hold="minibatch_size"`` it is
    the other way round.

    With ``ABS()`` it is the continuous-control agent of the Adaptive Batch Scaling paper: rollouts of 1,024 to 8,192
    steps, by the KL divergence of the new policy from the old, Gaussian or categorical. Deviations from the authors'
    script: the epochs follow the length from the first rollout on (there: from the first change on); time limits are
    bootstrapped (there: they end the return; there is no switch for it). Its normalisation, learning rate and value
    loss are in ``hyperparams/ppo.yml``.

    Arguments up to ``_init_setup_model``: see SB3's PPO. An Atari game given by its name is built 8 times.

    :param scale_epochs: whether the epochs follow the length of the rollout when that changes:
        ``max(n_epochs * length // epoch_reference, 1)``, the ABS authors' rule
    :param epoch_reference: length that ``n_epochs`` is for; None: ``n_steps``
    :param hold: what stays when the length of the rollout changes: the number of minibatches (the ABS authors'), or
        with ``"minibatch_size"`` their samples, so that longer rollouts have more gradient steps (Beukman et al. 2026)
    :param batch_size_callback: changes the length of rollouts during training, e.g. ``ABS(1024, 8192)``; saved with the
        model, with its state
    :raises InvalidValue: an argument that is not allowed
    :raises InvalidType: an argument of the wrong type
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": actor_critic.ActorCriticPolicy,
        "CnnPolicy": actor_critic.ActorCriticCnnPolicy,
        "MultiInputPolicy": actor_critic.MultiInputActorCriticPolicy,
    }
    scaling_defaults = BatchScaling("n_steps", 1024, 8192, low=0.01, high=0.1, check_every=10)
    reference_length = 2048
    rollout_copies = 2  # SB3 flattens them for its minibatches
    atari_protocol = "sb3"
    atari_envs = 8

    @checked
    def __init__(
        self,
        policy: Policy,
        env: Environment,
        learning_rate: LearningRate = 3e-4,
        n_steps: Count = 2048,
        batch_size: Count = 64,
        n_epochs: Count = 10,
        gamma: Fraction = 0.99,
        gae_lambda: Fraction = 0.95,
        clip_range: Annotated[float | Schedule, Within(0.0, 1e6)] = 0.2,
        clip_range_vf: Annotated[float | Schedule | None, Within(0.0, 1e6, open_low=True)] = None,
        normalize_advantage: bool = True,
        ent_coef: Weight = 0.0,
        vf_coef: Weight = 0.5,
        max_grad_norm: Positive = 0.5,
        use_sde: bool = False,
        sde_sample_freq: Annotated[int, Within(-1)] = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: Positive | None = None,
        stats_window_size: checks.Window = 100,
        tensorboard_log: Folder = None,
        policy_kwargs: PolicyKwargs = None,
        verbose: Natural = 0,
        seed: Seed = None,
        device: Device = "auto",
        _init_setup_model: bool = True,
        *,
        scale_epochs: bool = True,
        epoch_reference: Count | None = None,
        hold: Hold = "n_minibatches",
        batch_size_callback: BatchSizeCallback | None = None,
    ) -> None:
        of_sb3 = checks.of_sb3(SB3PPO, locals())
        policy_class = checks.check_policy(policy, self.policy_aliases, ActorCriticPolicy)
        env = self._make_env(env, seed=seed)
        try:
            super().__init__(policy_class, env, **of_sb3, _init_setup_model=False)
        except UserError:
            raise
        except (AssertionError, ValueError) as error:  # SB3's own, of arguments that do not go together
            raise InvalidValue(f"PPO: {error}") from error
        self.batch_size_callback = batch_size_callback
        self.hold = hold
        self._set_up_resizing(n_epochs, epoch_reference, scale_epochs)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._check_attributes(PPO)
        buffer_class, buffer_kwargs = self.rollout_buffer_class or RolloutBuffer, self.rollout_buffer_kwargs or {}
        check_keywords("rollout_buffer_kwargs", buffer_kwargs, buffer_class, _OF_THE_BUFFER)
        of_sb3 = (key for key, theirs in SB3PPO.policy_aliases.items() if theirs is self.policy_class)
        self.policy_class = self.policy_aliases.get(next(of_sb3, ""), self.policy_class)
        if starts_elsewhere(self.observation_space) and not issubclass(self.policy_class, CountsFromZero):
            raise InvalidValue(
                f"policy: got {self.policy_class.__name__} for observations {describe_space(self.observation_space)}, "
                "which begin at other numbers than 0; extend one of sbbatch.networks.actor_critic"
            )
        check_actor_critic_kwargs(self.policy_class, self.policy_kwargs, self.observation_space)
        self._held_size = self.batch_size if self.hold == "minibatch_size" else None
        self.n_minibatches = -(-self.n_steps * self.n_envs // self.batch_size)
        try:
            with fits_in_memory():
                super()._setup_model()
        except RuntimeError as error:
            if "Kernel size" not in str(error):
                raise
            raise InvalidValue(
                f"policy: images of {describe_space(self.observation_space)} are too small for its convolutions; "
                "give policy_kwargs=dict(features_extractor_class=...), e.g. MinAtarCNN"
            ) from None
        if self.seed is not None:
            self._restore_generators()

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        wrapped = RolloutAgent._wrap_env(env, verbose, monitor_wrapper)
        checks.check_any_actions(wrapped.action_space)
        return wrapped

    @property
    def batch_scaling(self) -> BatchScaling:
        """The defaults, but never shorter than :meth:`check_batch` allows."""
        usual, shortest = super().batch_scaling, self._shortest
        return replace(usual, min_size=max(usual.min_size, shortest), max_size=max(usual.max_size, shortest))

    @property
    def _shortest(self) -> int:
        """Rollout whose minibatches have two samples: SB3 normalises their advantages."""
        if self._held_size is not None or not self.normalize_advantage:
            return 1
        return -(-2 * self.n_minibatches // self.n_envs)

    def check_batch(self, name: str, size: object) -> int:
        """See :meth:`~sbbatch.batch.protocol.BatchScalable.check_batch`."""
        n_steps = super().check_batch(name, size)
        if n_steps < self._shortest:
            raise InvalidValue(
                f"{name}: got {n_steps}, with which a minibatch has one sample, whose advantage cannot be normalised; "
                f"expected at least {self._shortest}"
            )
        return n_steps

    def _follow(self, n_steps: int) -> None:
        if n_steps == self.n_steps:  # the last minibatch may stay short
            return
        super()._follow(n_steps)
        if self._held_size is None:
            self.batch_size = n_steps * self.n_envs // self.n_minibatches

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """SB3's loop, with the length that was asked for last."""
        with self._named_when_spoilt():
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)

    def train(self) -> None:
        """SB3's update on the present rollout."""
        with self.updating(), self._named_when_spoilt():
            super().train()
        _forget_gradients(self.policy.action_dist)
        self._require_finite_loss(self.logger.name_to_value["train/loss"])
        self._require_finite_parameters()

    @contextmanager
    def _named_when_spoilt(self) -> Iterator[None]:
        """PyTorch's distributions refuse parameters that are not numbers, in their own words."""
        try:
            yield
        except (ValueError, RuntimeError) as error:  # when made; when drawn from, if PyTorch's own checks are off
            self._require_finite_parameters()
            if not any(words in str(error) for words in ("found invalid values", "probability tensor contains")):
                raise
            raise NumericalError(
                f"step {self.num_timesteps}: the distribution of actions became NaN or infinite, though the parameters "
                "of the policy are finite"
            ) from error

    def _require_finite_parameters(self) -> None:
        if not all(bool(th.isfinite(parameter).all()) for parameter in self.policy.parameters()):
            raise NumericalError(f"step {self.num_timesteps}: parameters of the policy became NaN or infinite")

    # --------------------------------------------------------------------------------------------- measuring

    def behavior(self, observations: PyTorchObs) -> Behavior:
        """Mean and standard deviation ``(states, dimensions)`` of a Gaussian policy, or its logits, one per part."""
        with undisturbed(self.policy):
            found = [self._parameters_of(part) for part in in_parts(observations)]
        return tuple(th.cat(same) for same in zip(*found, strict=True))

    def _parameters_of(self, observations: Any) -> Behavior:
        distribution: Any = self.policy.get_distribution(observations).distribution
        if isinstance(distribution, th.distributions.Normal):
            return distribution.mean, distribution.stddev
        if isinstance(distribution, th.distributions.Bernoulli):
            logits = distribution.logits  # one binary action each
            return tuple(th.stack([th.zeros_like(one), one], dim=1) for one in logits.unbind(dim=1))
        several = distribution if isinstance(distribution, list) else [distribution]
        return tuple(categorical.logits for categorical in several)

    def divergence(self, before: Behavior, after: Behavior) -> float:
        """``KL(new || old)``, mean over the states."""
        if isinstance(self.action_space, spaces.Box):
            parts = [gaussian_kl(*after, *before)]
        else:
            parts = [categorical_kl(new, old) for new, old in zip(after, before, strict=True)]
        return max(sum(part.mean().item() for part in parts), 0.0)  # rounding may put it just below

    # ------------------------------------------------------------------------------------------------- files

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """See :meth:`Agent.set_parameters`; the noise of gSDE is drawn anew, as its scale is a parameter."""
        super().set_parameters(*args, **kwargs)
        if self.use_sde:
            with streams_kept(self.device):
                self.policy.reset_noise()

    def __getstate__(self) -> dict[str, Any]:
        """For copies."""
        if "policy" in vars(self):
            _forget_gradients(self.policy.action_dist)
        return vars(self)

    def _note_state(self) -> None:
        """PPO draws from PyTorch's and NumPy's global generators, as SB3's does; on a GPU, actions from that GPU's."""
        super()._note_state()
        self._generator_states = {"torch": th.get_rng_state(), "numpy": np.random.get_state()}
        if self.device.type == "cuda":
            self._generator_states["cuda"] = th.cuda.get_rng_state(self.device)

    def _set_generators(self, states: dict[str, Any]) -> None:
        th.set_rng_state(states["torch"])
        np.random.set_state(states["numpy"])
        if self.device.type == "cuda" and "cuda" in states:  # the agent may have been saved on another device
            th.cuda.set_rng_state(states["cuda"], self.device)


def _forget_gradients(kept: Distribution) -> None:
    """What a policy keeps of its last minibatch, and the noise of gSDE, have gradients, and so cannot be copied."""
    kept.distribution = None  # type: ignore[assignment]  # made anew in every forward
    if isinstance(kept, StateDependentNoiseDistribution):
        kept.exploration_mat = kept.exploration_mat.detach()
        kept.exploration_matrices = kept.exploration_matrices.detach()
        kept.weights_dist = th.distributions.Normal(kept.weights_dist.mean.detach(), kept.weights_dist.stddev.detach())
