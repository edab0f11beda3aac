"""The one replay train step of the package, and everything an agent that learns from replay is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sbbatch.agents.base import arguments as checks
from sbbatch.agents.base.arguments import Device, Environment, Folder, LearningRate, Policy, PolicyKwargs, Seed
from sbbatch.agents.base.collect import DeferredStop, Stopped, judged_step
from sbbatch.agents.base.measuring import flat_gradient, streams_kept, undisturbed
from sbbatch.agents.base.memory import RemembersTransitions
from sbbatch.agents.base.smoke_test import try_network, try_parts
from sbbatch.arguments import Count, Fraction, FractionSchedule, Natural, Positive, Within, checked
from sbbatch.batch.callback import BatchSizeCallback
from sbbatch.batch.protocol import BatchScaling
from sbbatch.components.augmentation import Augmentation, Identity
from sbbatch.components.bootstrap import Bootstrap, Greedy
from sbbatch.components.target_network import sync_target
from sbbatch.envs.make import frame_stack_of, id_of
from sbbatch.envs.readable import as_played
from sbbatch.functional.schedules import dopamine_epsilon, geometric_epsilon, linear_epsilon
from sbbatch.networks.auxiliary import Auxiliary, NoAuxiliary
from sbbatch.networks.heads import ExpectedHead, ReturnEstimate
from sbbatch.networks.layers import stochastic
from sbbatch.networks.network_defaults import NetworkDefaults
from sbbatch.networks.value_policy import CnnPolicy, MlpPolicy, MultiInputPolicy, ValueNetwork, ValuePolicy
from sbbatch.replay.batch import ReplayBatch
from sbbatch.replay.buffer import FrameReplayBuffer


class ReplayAgent(RemembersTransitions):
    """
    Base of all agents that learn action values from replay.

    Positional arguments are those of SB3's ``DQN``, in its order and with its defaults; what sbbatch adds is
    keyword-only. Steps are agent steps, summed over environments (one agent step = four ALE frames), except where a
    unit is named.

    Every agent is a choice of parts: a head, a bootstrap, a replay sampler, an augmentation, the layers of its network
    (``policy_kwargs``), and numbers whose neutral value switches an idea off (``n_steps=1``, ``batch_divisor=1``,
    ``target_noise=0``). The train step is the same for all.

    Deviations from SB3: exploration throws one coin for each environment, not one for all; a batch is drawn by the
    buffer's own generator; losses, rewards and observations that become NaN or infinite stop the run.

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"`` or a subclass of
        :class:`~sbbatch.networks.value_policy.ValuePolicy`
    :param env: environment, vector environment, or id. An Atari game (``"Breakout"``, ``"ALE/Breakout-v5"``,
        ``"BreakoutNoFrameskip-v4"``) is built with the agent's own protocol (``atari_protocol``)
    :param learning_rate: a number, or a function of the progress remaining (1 to 0)
    :param buffer_size: transitions the replay buffer holds, over all environments
    :param learning_starts: steps before the first update; actions are random until then
    :param batch_size: samples per gradient step; may be changed during a run with :meth:`set_batch_size`
    :param tau: Polyak factor of the target network; 1 copies
    :param gamma: discount factor
    :param train_freq: **vector** steps (calls of ``env.step``) between updates, or ``(n, "episode")``
    :param gradient_steps: gradient steps per update; -1 for as many as steps were made since the last one
    :param replay_buffer_class: :class:`~sbbatch.replay.buffer.FrameReplayBuffer` if None; SB3's own buffers work too
        (then ``n_steps`` and prioritisation are theirs)
    :param replay_buffer_kwargs: further arguments of the buffer, e.g. ``dict(frame_compression=None)``
    :param optimize_memory_usage: passed to SB3's buffers; ours always does
    :param n_steps: rewards summed in the n-step return
    :param target_update_interval: steps between synchronisations of the target network
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
    :param _init_setup_model: build networks and buffer now
    :param head: how returns are represented, see :mod:`sbbatch.networks.heads`; its arguments go to ``policy_kwargs``
    :param bootstrap: which next action the target uses, see :mod:`sbbatch.components.bootstrap`
    :param augmentation: random changes of the images of each batch that is learned from, see
        :mod:`sbbatch.components.augmentation`; acting, evaluation and what ABS measures see them as they are. A head, a
        bootstrap or an augmentation of your own is tried on two made-up transitions when the agent is made
    :param auxiliary: a loss that is added to each sample's, see :mod:`sbbatch.networks.auxiliary`; priorities are made
        without it
    :param prioritized: draw transitions in proportion to their priorities
    :param priority_exponent: alpha of prioritized replay
    :param importance_exponent: beta of prioritized replay, a number or a function of the progress remaining
    :param priority_epsilon: added to what priorities are made from, so that none is zero
    :param priority_from: what priorities are made from: ``"td_loss"`` (Rainbow, Dopamine) or ``"td_error"`` (BTR)
    :param batch_divisor: consecutive gradient steps on disjoint parts of one sampled batch (small-batch paper, Fig. 9)
    :param target_noise: standard deviation of Gaussian noise on the target of each sample (small-batch paper, Fig. 12)
    :param exploration_decay_steps: steps over which epsilon falls after ``learning_starts`` (Dopamine's schedule);
        replaces ``exploration_fraction``
    :param exploration_decay: ``"linear"``; or ``"geometric"``, from the first step on, with ``exploration_decay_steps``
        as time constant (BTR)
    :param exploration_stop: part of the training after which epsilon is 0; None for never
    :param random_warmup: act at random until ``learning_starts``, whatever epsilon is (SB3); else epsilon and noise
        decide from the first step
    :param samples_per_step: samples trained on per agent step, whatever the batch size: updates become rarer as the
        batch grows (``gradient_steps`` is then unused). None: ``gradient_steps`` per ``train_freq``, so that a larger
        batch means more samples
    :param batch_size_callback: changes the batch size during training: :class:`~sbbatch.batch.abs.ABS`,
        :class:`~sbbatch.batch.noise_scale.GradientNoiseScale` or :class:`~sbbatch.batch.schedule.BatchSizeSchedule`;
        saved with the model, with its state
    :raises InvalidValue: an argument that is not allowed; checked before anything is built
    :raises InvalidType: an argument of the wrong type, or one that does not exist
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    network_defaults: ClassVar[NetworkDefaults] = NetworkDefaults()
    scaling_defaults = BatchScaling("batch_size", 16, 64, check_every=100_000, updates=8)
    samples_per_unit = 1
    policy: ValuePolicy
    train_freq: TrainFreq  # type: ignore[assignment]
    frame_stack = 1  # of the environment
    _network_kwargs: dict[str, Any] | None = None  # saved: a later version may have other defaults
    _n_samples = 0  # transitions trained on
    _sample_credit = 0.0  # those that are due, beyond them; below 0 if there were too many
    _stop: DeferredStop | None = None  # while steps are collected

    @checked
    def __init__(
        self,
        policy: Policy,
        env: Environment,
        learning_rate: LearningRate = 1e-4,
        buffer_size: Count = 1_000_000,
        learning_starts: Natural = 100,
        batch_size: Count = 32,
        tau: Fraction = 1.0,
        gamma: Fraction = 0.99,
        train_freq: Annotated[int | tuple[int, str], checks.as_train_freq] = 4,
        gradient_steps: Annotated[int, Within(-1)] = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: Count = 1,
        target_update_interval: Count = 10_000,
        exploration_fraction: Fraction = 0.1,
        exploration_initial_eps: Fraction = 1.0,
        exploration_final_eps: Fraction = 0.05,
        max_grad_norm: Positive | None = 10,
        stats_window_size: checks.Window = 100,
        tensorboard_log: Folder = None,
        policy_kwargs: PolicyKwargs = None,
        verbose: Natural = 0,
        seed: Seed = None,
        device: Device = "auto",
        _init_setup_model: bool = True,
        *,
        head: type[nn.Module] = ExpectedHead,
        bootstrap: Bootstrap = Greedy(),  # noqa: B008 - frozen
        augmentation: Augmentation = Identity(),  # noqa: B008 - frozen
        auxiliary: Auxiliary = NoAuxiliary(),  # noqa: B008 - frozen
        prioritized: bool = False,
        priority_exponent: Annotated[float, Within(0.0, 10.0)] = 0.5,
        importance_exponent: FractionSchedule = 0.5,
        priority_epsilon: Positive = 1e-10,
        priority_from: Literal["td_loss", "td_error"] = "td_loss",
        batch_divisor: Count = 1,
        target_noise: Annotated[float, Within(0.0)] = 0.0,
        exploration_decay_steps: Count | None = None,
        exploration_decay: Literal["linear", "geometric"] = "linear",
        exploration_stop: Fraction | None = None,
        random_warmup: bool = True,
        samples_per_step: Annotated[float, Within(0.0, 1e6, open_low=True)] | None = None,
        batch_size_callback: BatchSizeCallback | None = None,
    ) -> None:
        given = dict(locals())
        checks.check_replay_arguments(given)
        policy_class = checks.check_policy(policy, self.policy_aliases, ValuePolicy)
        of_sb3 = checks.of_sb3(OffPolicyAlgorithm, given) | {"sde_support": False, "support_multi_env": True}
        super().__init__(policy_class, self._make_env(env, seed=seed), **of_sb3)
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.exploration_fraction = exploration_fraction
        self.exploration_decay_steps = exploration_decay_steps
        self.target_update_interval = target_update_interval
        self.exploration_decay = exploration_decay
        self.exploration_stop = exploration_stop
        self.random_warmup = random_warmup
        self.max_grad_norm = max_grad_norm
        self.head = head
        self.bootstrap = bootstrap
        self.augmentation = augmentation
        self.auxiliary = auxiliary
        self.prioritized = prioritized
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        self.priority_epsilon = priority_epsilon
        self.priority_from = priority_from
        self.batch_divisor = batch_divisor
        self.target_noise = target_noise
        self.samples_per_step = samples_per_step
        self.batch_size_callback = batch_size_callback
        self.exploration_rate = 0.0
        self._n_calls = 0  # vector steps
        if _init_setup_model:
            self._setup_model()

    # ---------------------------------------------------------------------------------------------- building

    def _setup_model(self) -> None:
        checks.check_replay_arguments(self._check_attributes(ReplayAgent))
        checks.check_discrete_actions(type(self).__name__, self.action_space)
        checks.check_number_of_environments(self.n_envs, self.train_freq, self.target_update_interval)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        if self.env is not None:
            self.frame_stack, self.env_id = frame_stack_of(self.env), id_of(self.env)
        self._make_generators()
        if self._network_kwargs is None:
            self._network_kwargs = self.network_defaults.under(self.policy_kwargs, self.policy_class, self.head)
            self._network_kwargs["auxiliary"] = self.auxiliary
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self._network_kwargs
        ).to(self.device)
        try_network(self.policy, self.policy_kwargs.get("activation_fn"))
        try_parts(self.policy, self.bootstrap, self.augmentation, self.priority_from == "td_error")
        if self.replay_buffer is None:  # last, as it is the largest
            self.replay_buffer = self._make_replay_buffer()

    @property
    def q_net_target(self) -> ValueNetwork:
        """The target network."""
        return self.policy.q_net_target

    @property
    def quantile_net(self) -> ValueNetwork:
        """
        The online network under sb3-contrib's name, on agents with quantiles; called, it gives action values, and
        ``quantile_net.returns(obs).quantiles`` are the quantiles ``(batch, actions, n_quantiles)``.
        """
        return self.policy.quantile_net

    @property
    def quantile_net_target(self) -> ValueNetwork:
        """The target network, likewise."""
        return self.policy.quantile_net_target

    # ---------------------------------------------------------------------------------------------- learning

    def _updates_due(self, gradient_steps: int, batch_size: int) -> int:
        """How many updates :meth:`train` makes: as many as asked for, or as ``samples_per_step`` says."""
        if self.samples_per_step is None:
            return gradient_steps
        self._sample_credit += self.samples_per_step * self.train_freq.frequency * self.n_envs
        return max(int(self._sample_credit // batch_size), 0)

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """So many gradient steps, with so many samples each."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses, mean_weights = [], []
        gradient_steps, own_size = self._updates_due(gradient_steps, batch_size), self.batch_size
        for _ in range(gradient_steps):
            with self.updating():
                if self.batch_size != own_size:  # a callback has changed it
                    batch_size = own_size = self.batch_size
                batch = self._sample_replay(batch_size)
                losses += [self._train_step(part) for part in batch.split(self.batch_divisor)]
            self._n_samples += batch_size
            if self.samples_per_step is not None:  # if the size has grown since, the next updates wait for this debt
                self._sample_credit -= batch_size
            mean_weights.append(float(batch.weights.mean()))
        if gradient_steps == 0:
            return
        self._n_updates += gradient_steps * self.batch_divisor
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/gradient_steps", self._n_updates)
        self.logger.record("train/samples", self._n_samples)
        self.logger.record("train/batch_size", batch_size)
        self.logger.record("train/loss", np.mean(losses))
        if self._has_priorities:
            self.logger.record("train/mean_importance_weight", np.mean(mean_weights))

    def _train_step(self, batch: ReplayBatch) -> float:
        """One gradient step on one batch; returns the loss."""
        with stochastic(self.policy, self.noise_rng):  # both networks
            td_loss, measured = self._losses(batch)
        loss = self._optimize((batch.weights * td_loss).mean())
        if self._has_priorities:
            self.replay_buffer.update_priorities(batch.indices, measured.detach().cpu().numpy())  # type: ignore[union-attr]
        return loss

    def _losses(self, batch: ReplayBatch) -> tuple[th.Tensor, th.Tensor]:
        """The loss of each sample ``(batch,)``, and what its priority is made from."""
        estimate = self.q_net.returns(batch.observations)
        target = self._target(estimate, batch)
        td_loss = estimate.td_loss(batch.actions, target)
        with th.no_grad():
            measured = td_loss if self.priority_from == "td_loss" else estimate.td_error(batch.actions, target)
        return td_loss + self.auxiliary(self.q_net, self.q_net_target, batch), measured

    @th.no_grad()
    def _target(self, current: ReturnEstimate, batch: ReplayBatch) -> th.Tensor:
        online, target = self.q_net.returns, self.q_net_target.returns
        estimate, policy, bonus, rewards = self.bootstrap(current, online, target, batch)
        return estimate.backup(policy, bonus, self._noisy(rewards), batch.discounts)

    def _noisy(self, rewards: th.Tensor) -> th.Tensor:
        """Target noise; a shift of the reward is a shift of the target, whatever the head."""
        if self.target_noise == 0.0:
            return rewards
        noise = self.noise_rng.normal(0.0, self.target_noise, len(rewards)).astype(np.float32)
        return rewards + th.from_numpy(noise).to(rewards.device)

    def _on_step(self) -> None:
        """After each vector step: synchronise the target network when due, and move epsilon."""
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            sync_target(self.q_net.parameters(), self.q_net_target.parameters(), self.tau)
            # Running means of batch norm (SB3 issue 996), singular vectors of spectral norm.
            sync_target(self.q_net.buffers(), self.q_net_target.buffers(), tau=1.0)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        if self._stop is not None:
            self._stop.step_stored()

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> RolloutReturn:
        """SB3's loop, which a callback ends after a step has been stored, not before."""
        self._stop = DeferredStop(callback)
        try:
            return super().collect_rollouts(env, self._stop, *args, **kwargs)
        except Stopped:
            return RolloutReturn(0, 0, continue_training=False)
        finally:
            del self._stop  # it knows the callbacks' locals, which cannot be copied

    # ------------------------------------------------------------------------------------------------ acting

    def exploration_schedule(self, progress_remaining: float) -> float:
        """Epsilon, at a progress remaining of 1 at the start of the training and 0 at its end."""
        if self.exploration_stop is not None and 1.0 - progress_remaining >= self.exploration_stop:
            return 0.0
        initial, final = self.exploration_initial_eps, self.exploration_final_eps
        if self.exploration_decay_steps is None:
            return linear_epsilon(1.0 - progress_remaining, self.exploration_fraction, initial, final)
        if self.exploration_decay == "geometric":
            return geometric_epsilon(self.num_timesteps, self.exploration_decay_steps, final)
        return dopamine_epsilon(self.num_timesteps, self.learning_starts, self.exploration_decay_steps, final)

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.random_warmup and self.num_timesteps < learning_starts:
            actions: np.ndarray = self.exploration.random_actions(n_envs)
        else:
            if self.num_timesteps == 0:
                self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
            actions, _ = self._choose(self._last_obs, None, None, False)
        return as_played(actions, self.action_space), actions

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        assert self.env is not None
        reward = judged_step(self.env, new_obs, reward, dones, infos, self.num_timesteps)
        super()._store_transition(replay_buffer, buffer_action, new_obs, reward, dones, infos)

    # --------------------------------------------------------------------------------- batch size, measuring

    @property
    def batch_scaling(self) -> BatchScaling:
        """The defaults, as far as the replay buffer has room."""
        own, most = super().batch_scaling, self.buffer_size
        return replace(own, min_size=min(own.min_size, most), max_size=min(own.max_size, most))

    @property
    def batch_time(self) -> int:
        """Agent steps until now."""
        return self.num_timesteps

    @property
    def size_multiple(self) -> int:
        """A batch is cut into ``batch_divisor`` parts."""
        return self.batch_divisor

    def check_batch(self, name: str, size: object) -> int:
        """See :meth:`~sbbatch.batch.protocol.BatchScalable.check_batch`."""
        return checks.check_batch_size(size, self.buffer_size, self.batch_divisor, name)

    def set_batch_size(self, batch_size: int) -> int:
        """
        Change the batch size, in samples per gradient step; the next one uses it.

        :raises InvalidValue: below 1, more than the replay buffer holds, or no multiple of ``batch_divisor``
        """
        self.batch_size = self.check_batch("batch_size", batch_size)
        return self.batch_size

    def resize_batch(self, size: int) -> int:
        """See :meth:`set_batch_size`."""
        return self.set_batch_size(size)

    def gradient_parts(self, n_parts: int, part_size: int | None = None) -> tuple[th.Tensor, int]:
        """
        Gradients of the parts of a batch drawn as in training, under one draw of its noise, as there.
        :param n_parts: how many
        :param part_size: samples in each; None: ``batch_size`` in all, of which ``n_parts`` must not be more
        :return: ``(n_parts, parameters)``, samples in each part
        """
        part_size, buffer = part_size or self.batch_size // n_parts, self.replay_buffer
        generators = [self.noise_rng] + ([buffer.rng] if isinstance(buffer, FrameReplayBuffer) else [])
        kept, noise = streams_kept(self.device, generators), stochastic(self.policy, self.noise_rng)
        with undisturbed(self.policy), kept, th.enable_grad(), noise:
            parts = self._sample_replay(part_size * n_parts).split(n_parts)
            losses = ((part.weights * self._losses(part)[0]).mean() for part in parts)
            return th.stack([flat_gradient(loss, self.policy.q_net) for loss in losses]), part_size

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_stop"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
