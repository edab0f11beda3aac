"""Agents whose batch size adapts: what rollout and replay agents share, and the replay agents' half."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar
from weakref import WeakSet

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs
from stable_baselines3.common.utils import get_device, get_system_info, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import nn

from sbbatch.agents.base.arguments import check_batch_size, check_learn
from sbbatch.batch.callback import BatchSizeCallback, find_batch_size_callback
from sbbatch.batch.protocol import BatchScaling, UpdateHook
from sbbatch.envs.checks import check_environment, check_same_spaces
from sbbatch.envs.make import id_of, make_env, protocol_of
from sbbatch.errors import InvalidValue, NumericalError
from sbbatch.files import PathOrFile, open_to_write
from sbbatch.networks.value_policy import ValuePolicy
from sbbatch.persistence.parameters import fitting_states, without_compiler
from sbbatch.persistence.saved_agent import check_holds, load_agent
from sbbatch.persistence.sb3_model import open_model
from sbbatch.recipe import with_defaults
from sbbatch.replay.batch import ReplayBatch
from sbbatch.replay.buffer import FrameReplayBuffer

RECENT = 8192  # transitions that replay agents are measured on
CHUNK = 256  # states that go through the network at once

_learning: WeakSet[BaseAlgorithm] = WeakSet()  # no attribute: a copy made meanwhile does not learn

SelfBatchScalingAgent = TypeVar("SelfBatchScalingAgent", bound="Agent")


class Agent(BaseAlgorithm):
    """
    The part of :class:`~sbbatch.batch.protocol.BatchScalable` that does not depend on how an agent learns.

    ``update_hooks`` are called around each update; besides the callbacks that change the batch size a user's own may
    be among them. They are not saved.

    ``batch_size_callback`` may be set to another callback, or to None, at any time. :meth:`learn` asks for it when it
    begins: what is set while the agent learns has an effect from the next :meth:`learn` on.
    """

    scaling_defaults: ClassVar[BatchScaling]
    batch_size_callback: BatchSizeCallback | None = None
    batch_scaling_state: dict[str, Any] | None = None
    atari_protocol: ClassVar[str] = "dopamine"  # of games given by their name
    atari_envs: ClassVar[int] = 1  # copies of them
    env_id: str | None = None  # saved with the model, so that a run is not resumed in another game
    trained_protocol: str | None = None  # of an Atari game; saved, so that the model is played as it was trained

    def __init_subclass__(cls, defaults: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """
        :param defaults: constructor defaults in which the recipe differs from its base class; with it, also an empty
            one, the constructor names misspelt arguments
        """
        super().__init_subclass__(**kwargs)
        if defaults is not None:
            cls.__init__ = with_defaults(cls.__init__, defaults)  # type: ignore[method-assign]

    @property
    def batch_scaling(self) -> BatchScaling:
        """What is scaled, and the numbers it is adapted with unless the user says otherwise."""
        return self.scaling_defaults

    @property
    def update_hooks(self) -> list[UpdateHook]:
        """See :class:`~sbbatch.batch.protocol.UpdateHook`."""
        return self.__dict__.setdefault("_update_hooks", [])

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Around each update."""
        for hook in self.update_hooks:
            hook.before_update()
        yield
        for hook in self.update_hooks:
            hook.after_update()

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        given = find_batch_size_callback(callback)
        own = self.batch_size_callback
        if own is None:
            return super()._init_callback(callback, progress_bar)
        if given is not None:
            raise InvalidValue(
                f"callback: got {type(given).__name__}, but the agent has a batch_size_callback "
                f"({type(own).__name__}); give one of them, or set agent.batch_size_callback = None"
            )
        others = callback if isinstance(callback, list) else [] if callback is None else [callback]
        callbacks = [one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in others]
        return super()._init_callback([own, *callbacks], progress_bar)

    def learn(
        self: SelfBatchScalingAgent,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfBatchScalingAgent:
        """
        Train the agent. However it ends, the callback that changed the batch size has nothing to say afterwards.

        :param total_timesteps: agent steps, summed over environments; a lower bound, as in SB3
        :param callback: callbacks, called at every vector step
        :param log_interval: episodes (replay) or rollouts between log entries
        :param tb_log_name: name of the run for TensorBoard; the class name by default
        :param reset_num_timesteps: count steps from zero; False continues the count and the schedules
        :param progress_bar: SB3's progress bar
        :return: the agent itself
        :raises InvalidValue: a number below 1, or an agent without an environment, or one that is learning already
        :raises InvalidType: something else than a number or a callback
        """
        total_timesteps = check_learn(self, total_timesteps, callback, log_interval)
        self._require_idle("learn")
        self._end_scaling()  # of an agent that was copied while it learned
        name = tb_log_name or type(self).__name__
        _learning.add(self)
        try:
            return super().learn(  # type: ignore[safe-super]  # of SB3's class for replay or for rollouts
                total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar
            )
        finally:
            _learning.discard(self)
            self._end_scaling()

    def _require_idle(self, method: str) -> None:
        if self in _learning:
            raise InvalidValue(f"{method}: the agent is learning; call it when its learn() has returned")

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        """Never below 0, where schedules end: the last steps of a run may go beyond its length."""
        super()._update_current_progress_remaining(min(num_timesteps, total_timesteps), total_timesteps)

    def _require_finite_loss(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise NumericalError(f"step {self.num_timesteps}: the loss became {loss} after {self._n_updates} updates")

    def _end_scaling(self) -> None:
        """Unsubscribe the callback that changed the batch size, and keep what it knows."""
        self._note_scaling()
        self.update_hooks[:] = [hook for hook in self.update_hooks if not isinstance(hook, BatchSizeCallback)]

    def _note_scaling(self) -> None:
        for hook in self.update_hooks:
            if isinstance(hook, BatchSizeCallback):
                self.batch_scaling_state = hook.saved_state()

    # ------------------------------------------------------------------------------------------------- files

    def save(self, path: PathOrFile, exclude: Any = None, include: Any = None) -> None:
        """
        Save the model with SB3's layout, and the name of the algorithm; at any instant either the old file or the whole
        new one is there. It contains pickled objects, as SB3's does: load only files you trust.

        :param path: file (``.zip`` is added if it has no suffix) or open file
        :param exclude: names of further attributes to leave out
        :param include: names of attributes to save although they are normally left out
        """
        self.algorithm = self.own_name()
        if self.env is not None:
            self.trained_protocol = protocol_of(self.env)
        self._note_state()
        with open_to_write(path, ".zip") as file:
            super().save(file, exclude, include)

    @classmethod
    def load(
        cls: type[SelfBatchScalingAgent],
        path: PathOrFile,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfBatchScalingAgent:
        """
        Load a model from a file: ours, or that of SB3's ``DQN`` or ``PPO`` or sb3-contrib's ``QRDQN`` by the same name.

        :param path: file, with or without ``.zip``, or open file
        :param env: environment to go on with, or its id; not needed to predict
        :param device: where the networks go
        :param custom_objects: objects that replace the saved ones, by name
        :param print_system_info: print the systems the model was saved and is loaded on
        :param force_reset: reset the environment before training goes on
        :param trust: run what a file of SB3 has pickled besides SB3's own classes; without it nothing is run
        :param kwargs: attributes to change, e.g. ``batch_size=8``; a ``seed`` starts every generator of the
            agent anew (not the one that chooses the states :class:`~sbbatch.batch.abs.ABS` looks at)
        :raises FileNotFoundError: no such file
        :raises InvalidValue: a damaged file, a model of another algorithm, or of other spaces than the environment's
        :raises InvalidType: an attribute that does not exist
        """
        model = open_model(path, trust)
        check_holds(model, cls)
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
            print(f"== SAVED MODEL SYSTEM INFO ==\n{model.system_info()}")
        return load_agent(cls, model, env, device, custom_objects, force_reset, kwargs)

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """States of networks and optimizer by name, the same whether a network is compiled or not."""
        return {name: without_compiler(state) for name, state in super().get_parameters().items()}

    def set_parameters(
        self,
        load_path_or_dict: PathOrFile | dict[str, Any],
        exact_match: bool = True,
        device: th.device | str = "auto",
    ) -> None:
        """
        Take over the parameters of a model file, or of another agent's ``get_parameters()``.

        :param load_path_or_dict: file, or dictionary of states by name; if it does not fit, nothing is changed
        :param exact_match: whether it must hold all parameters
        :param device: where they go
        :raises FileNotFoundError: no such file
        :raises InvalidValue: a damaged file, a model of another algorithm, or parameters that do not fit
        """
        states, where = load_path_or_dict, "set_parameters"
        if not isinstance(states, dict):
            model = open_model(states)  # `load` hands over the one it has opened
            check_holds(model, type(self))
            states, where = model.states(self, get_device(device)), model.name
        super().set_parameters(fitting_states(self, states, exact_match, where), exact_match, device)

    @classmethod
    def own_name(cls) -> str:
        """Name of the agent of ours that this class is or extends; its models are saved under it."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("sbbatch."))

    @classmethod
    def as_attributes(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """
        Constructor arguments as the attributes of an agent that has them.

        :param arguments: by name; what is no argument is passed on
        """
        return {"_stats_window_size" if name == "stats_window_size" else name: arguments[name] for name in arguments}

    def _note_state(self) -> None:
        """Put the states of the agent's parts, which are not saved themselves, where :meth:`save` finds them."""
        self._note_scaling()

    @classmethod
    def _check_changes(cls, saved: dict[str, Any], given: dict[str, Any]) -> None:
        """Refuse keyword arguments of :meth:`load` that contradict the saved attributes."""
        knob, callback = cls.scaling_defaults.knob, given.get("batch_size_callback", saved.get("batch_size_callback"))
        if knob in given and callback is not None:
            raise InvalidValue(
                f"load: {knob}: {type(callback).__name__} decides it; leave it out, or give batch_size_callback=None "
                "as well"
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_update_hooks"]

    def set_env(self, env: GymEnv | str, force_reset: bool = True) -> None:
        """
        Go on in another environment with the same observations and actions. While the agent learns only without a
        reset: the observation that its last step started from would be lost before that step is stored.

        :param env: environment, vector environment of as many as before, or id
        :param force_reset: reset it before training goes on
        :raises InvalidValue: other observations, actions or number of environments
        """
        if force_reset:
            self._require_idle("set_env")
        env = self._wrap_env(self._make_env(env, self.trained_protocol), self.verbose)
        check_same_spaces("set_env", vars(self), env)
        if env.num_envs != self.n_envs:
            raise InvalidValue(
                f"set_env: got {env.num_envs} environments, the agent has {self.n_envs}; "
                f"{type(self).__name__}.load(path, env=env) takes another number"
            )
        super().set_env(env, force_reset)
        self.env_id = id_of(env)

    @classmethod
    def _make_env(cls, env: Any, protocol: str | None = None, seed: int | None = None) -> Any:
        """An environment, also by its id; anything else is passed on."""
        return make_env(env, protocol or cls.atari_protocol, seed, cls.atari_envs) if isinstance(env, str) else env

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Every environment comes through here, to the constructor as to :meth:`load` and :meth:`set_env`."""
        check_environment(env)
        return BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def check_gradient_parts(self, n_parts: int, size: int) -> None:
        """See :meth:`~sbbatch.batch.protocol.BatchScalable.check_gradient_parts`."""
        n_samples = size * self.batch_unit  # type: ignore[attr-defined]
        if n_parts > n_samples:
            raise InvalidValue(
                f"n_parts: got {n_parts}, expected at most {n_samples}, the samples of the smallest batch"
            )

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """The policy in evaluation mode, without gradients, and afterwards as it was."""
        training = self.policy.training
        self.policy.set_training_mode(False)
        with th.no_grad():
            yield
        self.policy.set_training_mode(training)


class ReplayBatchScaling(Agent, OffPolicyAlgorithm):
    """
    Batch sizes of agents that learn from replay: samples per gradient step.

    A new size is used by the next gradient step. The rate of updates stays (``samples_per_step=None``), so that a
    larger batch means that each transition is used more often, as in the authors' PQN; or the samples per agent step
    stay, and updates become rarer.
    """

    scaling_defaults = BatchScaling("batch_size", 16, 64, check_every=100_000, updates=8)
    batch_divisor: int
    samples_per_step: float | None
    noise_rng: np.random.Generator
    policy: ValuePolicy
    batch_unit = 1
    _n_samples = 0  # transitions trained on
    _sample_credit = 0.0  # those that are due, beyond them; below 0 if there were too many

    @property
    def batch_clock(self) -> int:
        """Agent steps until now."""
        return self.num_timesteps

    @property
    def batch_quantum(self) -> int:
        """A batch is cut into ``batch_divisor`` parts."""
        return self.batch_divisor

    def check_batch(self, name: str, size: object) -> int:
        """See :meth:`~sbbatch.batch.protocol.BatchScalable.check_batch`."""
        return check_batch_size(size, self.buffer_size, self.batch_divisor, name)

    def set_batch_size(self, batch_size: int) -> int:
        """
        Change the batch size; the next gradient step uses it.

        :param batch_size: samples per gradient step
        :return: the size that will be used
        :raises InvalidValue: below 1, more than the replay buffer holds, or no multiple of ``batch_divisor``
        """
        self.batch_size = self.check_batch("batch_size", batch_size)
        return self.batch_size

    def resize_batch(self, size: int) -> int:
        """See :meth:`set_batch_size`."""
        return self.set_batch_size(size)

    def _sample_replay(self, batch_size: int) -> ReplayBatch:
        raise NotImplementedError  # the algorithm knows how

    def _losses(self, batch: ReplayBatch) -> tuple[th.Tensor, th.Tensor]:
        raise NotImplementedError

    def _updates_due(self, gradient_steps: int, batch_size: int) -> int:
        """How many updates :meth:`train` makes: as many as asked for, or as ``samples_per_step`` says."""
        if self.samples_per_step is None:
            return gradient_steps
        self._sample_credit += self.samples_per_step * self.train_freq.frequency * self.n_envs  # type: ignore[union-attr]
        return max(int(self._sample_credit // batch_size), 0)

    def _count_samples(self, batch_size: int) -> None:
        """
        After an update. The size may have changed since :meth:`_updates_due`: what was too much then is a debt that the
        next updates wait for.
        """
        self._n_samples += batch_size
        if self.samples_per_step is not None:
            self._sample_credit -= batch_size

    def probe_observations(self, n_states: int, rng: np.random.Generator) -> PyTorchObs:
        """Without replacement from the newest 8,192 transitions."""
        buffer = self.replay_buffer
        assert buffer is not None
        n_rows = min(buffer.size(), -(-RECENT // self.n_envs))
        newest = newest_transitions(buffer, n_rows)
        chosen = rng.choice(newest, size=min(n_states, len(newest)), replace=False)
        return observations_at(buffer, chosen, self._vec_normalize_env)

    def gradient_parts(self, n_parts: int) -> tuple[th.Tensor, int]:
        """
        Gradients of the parts of a batch drawn as in training, with its noise.

        :param n_parts: at most ``batch_size``
        :return: ``(n_parts, parameters)``, samples in each part
        """
        part_size = self.batch_size // n_parts
        with self._undisturbed(), self._streams_kept(), th.enable_grad():
            parts = self._sample_replay(part_size * n_parts).split(n_parts)
            losses = ((part.weights * self._losses(part)[0]).mean() for part in parts)
            return th.stack([flat_gradient(loss, self.policy.q_net) for loss in losses]), part_size

    @contextmanager
    def _streams_kept(self) -> Iterator[None]:
        """All random numbers drawn inside are drawn again afterwards."""
        buffer = self.replay_buffer
        generators = [self.noise_rng] + ([buffer.rng] if isinstance(buffer, FrameReplayBuffer) else [])
        states, state_of_numpy = [one.bit_generator.state for one in generators], np.random.get_state()
        yield
        np.random.set_state(state_of_numpy)
        for generator, state in zip(generators, states, strict=True):
            generator.bit_generator.state = state


def newest_transitions(buffer: ReplayBuffer, n_rows: int) -> np.ndarray:
    """
    :param buffer: ours, or one of SB3
    :param n_rows: steps of all environments, at most as many as are stored
    :return: indices ``row * n_envs + environment`` of the newest
    """
    if isinstance(buffer, FrameReplayBuffer):
        return buffer.newest(n_rows)
    rows = (buffer.pos - 1 - np.arange(n_rows)) % buffer.buffer_size
    return (rows[:, None] * buffer.n_envs + np.arange(buffer.n_envs)).reshape(-1)


def observations_at(buffer: ReplayBuffer, indices: np.ndarray, env: VecNormalize | None) -> PyTorchObs:
    """
    :param buffer: ours, or one of SB3
    :param indices: as :func:`newest_transitions` gives them
    :param env: normalises them
    :return: observations from which these transitions start ``(len(indices), *shape)``
    """
    if isinstance(buffer, FrameReplayBuffer):
        return buffer.observations_at(indices, env)
    chosen = at(buffer.observations, np.divmod(indices, buffer.n_envs))
    return obs_as_tensor(buffer._normalize_obs(chosen, env), buffer.device)


def at(stored: Any, where: Any) -> Any:
    """
    :param stored: an array, or a dictionary of them
    :param where: index of an array
    :return: a copy of what is there
    """
    return {key: part[where] for key, part in stored.items()} if isinstance(stored, dict) else stored[where]


def in_parts(observations: PyTorchObs, size: int) -> Iterator[PyTorchObs]:
    """
    :param observations: a batch, or a dictionary of them
    :param size: of each part but the last
    """
    if not isinstance(observations, dict):
        yield from observations.split(size)
        return
    parts = {key: value.split(size) for key, value in observations.items()}
    for values in zip(*parts.values(), strict=True):
        yield dict(zip(parts, values, strict=True))


def flat_gradient(loss: th.Tensor, network: nn.Module) -> th.Tensor:
    """
    :param loss: a number
    :param network: what it depends on
    :return: its gradient, flat ``(parameters,)``; the one of the last update stays where it is
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return th.cat([part.reshape(-1) for part in th.autograd.grad(loss, parameters)])
