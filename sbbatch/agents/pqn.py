"""Parallelised Q-Network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from sbbatch.agents.base import arguments as checks
from sbbatch.agents.base.arguments import Device, Environment, Folder, LearningRate, Policy, PolicyKwargs, Seed
from sbbatch.agents.base.measuring import at, flat_gradient, undisturbed
from sbbatch.agents.base.q_learning import QLearningAgent
from sbbatch.agents.base.rollout import Hold, RolloutAgent, in_minibatches
from sbbatch.arguments import Count, Fraction, Natural, Positive, checked
from sbbatch.batch.callback import BatchSizeCallback
from sbbatch.batch.protocol import BatchScaling
from sbbatch.errors import InvalidValue
from sbbatch.functional.schedules import linear_epsilon
from sbbatch.networks.rollout_policy import (
    RolloutCnnPolicy,
    RolloutCnnPolicyL,
    RolloutCnnPolicyXL,
    RolloutMlpPolicy,
    RolloutMultiInputPolicy,
    RolloutPolicy,
)


class PQN(QLearningAgent, RolloutAgent):
    """
    Parallelised Q-Network (Gallici et al. 2025): Q(lambda) on rollouts of many environments, with layer norm in the
    place of replay memory and target network.

    The network plays ``n_steps`` steps in every environment; then, backwards through the rollout with the values the
    network had while playing, ::

        G_t = r_t + gamma * (1 - d_t) * (q_lambda * G_{t+1} + (1 - q_lambda) * max_a Q(s_{t+1}, a))

    and ``n_epochs`` times all samples in ``n_minibatches`` minibatches: the squared error ``(G - Q(s, a))^2``. This is
    the return that SB3's ``RolloutBuffer`` computes when ``max_a Q`` is the value and ``gae_lambda`` is ``q_lambda``.

    The defaults are those of the Adaptive Batch Scaling authors' ``pqn_atari_envpool_ours.py`` with 128 environments,
    which an Atari game given by its name gets. ``"CnnPolicy-L"`` and ``"CnnPolicy-XL"`` are that paper's larger
    networks PQN-L and PQN-XL. Their code and CleanRL's average the squared error; purejaxql halves it, which RAdam does
    not notice but ``max_grad_norm`` does.

    Deviations from the published code: at a time limit the return goes on with the value of the real final observation
    (there: as if the game had ended); environments reset at once, so that there is no spurious transition between two
    episodes (there: EnvPool plays one); exploration throws a coin for each environment; a falling learning rate is
    that of the steps played when an update begins, its own rollout included, as in SB3 (there: of the rollouts before
    it), and epsilon is that of the steps before the action (there: one vector step later).

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"CnnPolicy-L"``, ``"CnnPolicy-XL"``, ``"MultiInputPolicy"`` or a
        subclass of :class:`~sbbatch.networks.rollout_policy.RolloutPolicy`
    :param env: environment, vector environment, or id
    :param learning_rate: a number, or a function of the progress remaining (1 to 0)
    :param n_steps: steps per environment and rollout; changed by :meth:`set_n_steps` or ``batch_size_callback``
    :param n_minibatches: minibatches of a rollout; ``n_steps * n_envs`` must be a multiple of it
    :param n_epochs: passes over a rollout
    :param gamma: discount factor
    :param q_lambda: from one-step targets (0) to the returns of the rollout (1)
    :param exploration_fraction: part of the training over which epsilon falls
    :param exploration_initial_eps: first epsilon
    :param exploration_final_eps: last epsilon
    :param max_grad_norm: gradients are scaled down to this norm; None for no clipping
    :param stats_window_size: episodes over which ``rollout/`` means are taken
    :param tensorboard_log: folder of the TensorBoard log
    :param policy_kwargs: arguments of the policy, its torso, its head and its optimizer
    :param verbose: 0 silent, 1 info, 2 debug
    :param seed: seed of everything random
    :param device: ``"auto"``, ``"cpu"``, ``"cuda"`` …
    :param _init_setup_model: build networks and rollout buffer now
    :param scale_epochs: whether the epochs follow the length of the rollout when that changes:
        ``max(n_epochs * length // epoch_reference, n_epochs)``, the ABS authors' rule
    :param epoch_reference: length that ``n_epochs`` is for; None: ``n_steps``
    :param hold: what stays when the length of the rollout changes: the number of minibatches (the ABS authors'), or
        with ``"minibatch_size"`` their samples, so that longer rollouts have more gradient steps (Beukman et al. 2026)
    :param batch_size_callback: changes the length of rollouts during training, e.g. ``ABS(16, 64)``; saved with the
        model, with its state
    :raises InvalidValue: an argument that is not allowed; checked before anything is built
    :raises InvalidType: an argument of the wrong type
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": RolloutMlpPolicy,
        "CnnPolicy": RolloutCnnPolicy,
        "CnnPolicy-L": RolloutCnnPolicyL,
        "CnnPolicy-XL": RolloutCnnPolicyXL,
        "MultiInputPolicy": RolloutMultiInputPolicy,
    }
    scaling_defaults = BatchScaling("n_steps", 16, 64, check_every=50)
    reference_length = 32
    atari_protocol = "pqn"
    atari_envs = 128

    policy: RolloutPolicy  # type: ignore[assignment]
    max_grad_norm: float | None  # type: ignore[assignment]  # SB3's agents always clip
    shuffle_rng: np.random.Generator

    @checked
    def __init__(
        self,
        policy: Policy,
        env: Environment,
        learning_rate: LearningRate = 2.5e-4,
        n_steps: Count = 32,
        n_minibatches: Count = 4,
        n_epochs: Count = 2,
        gamma: Fraction = 0.99,
        q_lambda: Fraction = 0.65,
        exploration_fraction: Fraction = 0.1,
        exploration_initial_eps: Fraction = 1.0,
        exploration_final_eps: Fraction = 0.001,
        max_grad_norm: Positive | None = 10,
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
        of_sb3 = checks.of_sb3(OnPolicyAlgorithm, locals())
        of_sb3 |= {"gae_lambda": q_lambda, "ent_coef": 0.0, "vf_coef": 0.0, "use_sde": False, "sde_sample_freq": -1}
        policy_class = checks.check_policy(policy, self.policy_aliases, RolloutPolicy)
        super().__init__(policy_class, self._make_env(env, seed=seed), **of_sb3, _init_setup_model=False)
        self.q_lambda = q_lambda
        self.n_minibatches = n_minibatches
        self.hold = hold
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.exploration_rate = exploration_initial_eps
        self.batch_size_callback = batch_size_callback
        self._set_up_resizing(n_epochs, epoch_reference, scale_epochs)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        self._check_attributes(PQN)
        self._settle()
        if self.batch_size_callback is not None:  # a length that it chose, perhaps for another number of environments
            self._follow(max(round(self.n_steps / self.size_multiple), 1) * self.size_multiple)
        if (self.policy_kwargs or {}).get("noisy_sigma0"):
            raise InvalidValue("policy_kwargs: noisy_sigma0: PQN explores by epsilon; leave it out")
        checks.check_discrete_actions(type(self).__name__, self.action_space)
        self._check_minibatches("n_steps", self.n_steps)
        if self.hold == "minibatch_size":
            self._held_size = self.batch_size
            self._follow(self.n_steps)
        self.gae_lambda = self.q_lambda
        self.shuffle_rng = np.random.default_rng(self._seed_of(1))
        self._make_generators()
        super()._setup_model()
        self.policy.explore = self._explore

    def _set_generators(self, states: dict[str, Any]) -> None:
        super()._set_generators(states)
        self.shuffle_rng.bit_generator.state = states["shuffle"]

    @property
    def batch_scaling(self) -> BatchScaling:
        """PQN-L and PQN-XL go further, as in the authors' code."""
        usual = super().batch_scaling
        is_large = issubclass(self.policy_class, RolloutCnnPolicyL)
        return replace(usual, max_size=2 * usual.max_size) if is_large else usual

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """Samples of a minibatch."""
        return self._held_size or self.n_steps * self.n_envs // self.n_minibatches

    @classmethod
    def as_attributes(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """A new number of minibatches is that of the present length."""
        is_new = "n_minibatches" in arguments or "hold" in arguments
        return super().as_attributes(arguments) | ({"_held_size": None} if is_new else {})

    @property
    def min_epochs(self) -> int:
        """Never fewer than were asked for."""
        return self._own_epochs

    # ---------------------------------------------------------------------------------------------- learning

    def train(self) -> None:
        """All epochs on the present rollout."""
        losses = []
        with self.updating():
            self.policy.set_training_mode(True)
            self._update_learning_rate(self.policy.optimizer)
            observations, actions, targets = self._samples()
            for _ in range(self.n_epochs):
                for part in in_minibatches(len(targets), self.n_minibatches, self.shuffle_rng):
                    losses.append(self._optimize(self._loss(observations, actions, targets, part)))
            self._n_updates += self.n_epochs * self.n_minibatches
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _samples(self) -> tuple[Any, th.Tensor, th.Tensor]:
        """Observations, actions and Q(lambda) targets of the rollout, in the order of time, ``step * n_envs + env``."""
        rollout, stored = self.rollout_buffer, self.rollout_buffer.observations
        observations = {k: _flat(part) for k, part in stored.items()} if isinstance(stored, dict) else _flat(stored)
        actions = _flat(rollout.actions).reshape(-1).long().to(self.device)
        return observations, actions, _flat(rollout.returns).to(self.device)

    def _loss(self, observations: Any, actions: th.Tensor, targets: th.Tensor, part: th.Tensor) -> th.Tensor:
        """Of a part of the samples, by their indices."""
        chosen = at(observations, part)
        is_dict = isinstance(chosen, dict)
        chosen = {key: one.to(self.device) for key, one in chosen.items()} if is_dict else chosen.to(self.device)
        return self.q_net.returns(chosen).td_loss(actions[part], targets[part]).mean()

    # ------------------------------------------------------------------------------------------------ acting

    def exploration_schedule(self, progress_remaining: float) -> float:
        """
        :param progress_remaining: 1 at the start of the training, 0 at its end
        :return: epsilon
        """
        initial, final = self.exploration_initial_eps, self.exploration_final_eps
        return linear_epsilon(1.0 - progress_remaining, self.exploration_fraction, initial, final)

    def _explore(self, greedy: np.ndarray) -> np.ndarray:
        """At every step of a rollout; epsilon follows the steps, not the rollouts."""
        progress = min(self.num_timesteps / max(self._total_timesteps, 1), 1.0)
        self.exploration_rate = self.exploration_schedule(1.0 - progress)
        explorers = self.exploration.explorers(len(greedy), self.exploration_rate)
        return np.where(explorers, self.exploration.random_actions(len(greedy)), greedy)

    # --------------------------------------------------------------------------------------------- measuring

    def gradient_parts(self, n_parts: int, part_size: int | None = None) -> tuple[th.Tensor, int]:
        """
        Gradients of contiguous parts of the present rollout, or of random ones of a given size.

        :param n_parts: at most ``n_steps * n_envs``
        :param part_size: samples in each part, or as many as there are; None: the parts are the whole rollout, in the
            order of time
        :return: ``(n_parts, parameters)``, samples in each part
        """
        observations, actions, targets = self._samples()
        n, most = len(targets), len(targets) // n_parts
        order = np.arange(n) if part_size is None else np.random.default_rng(0).permutation(n)
        part_size = most if part_size is None else min(part_size, most)
        with undisturbed(self.policy), th.enable_grad():
            gradients = []
            for part in th.from_numpy(order).split(part_size)[:n_parts]:
                gradients.append(flat_gradient(self._loss(observations, actions, targets, part), self.q_net))
        return th.stack(gradients), part_size

    # ------------------------------------------------------------------------------------------------- files

    def _note_state(self) -> None:
        super()._note_state()
        assert self._generator_states is not None
        self._generator_states["shuffle"] = dict(self.shuffle_rng.bit_generator.state)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "shuffle_rng"]


def _flat(rollout: np.ndarray) -> th.Tensor:
    """``(steps, envs, ...)`` -> ``(steps * envs, ...)``, the same memory."""
    return th.from_numpy(rollout.reshape(-1, *rollout.shape[2:]))
