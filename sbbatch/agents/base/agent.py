"""What all agents share, however they learn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import create_empty_array
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, EvalCallback, EventCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import get_device, get_system_info
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, sync_envs_normalization

from sbbatch.agents.base.arguments import as_steps, check_callbacks
from sbbatch.agents.base.collect import judge_observations, step_named
from sbbatch.agents.base.finite import require_finite, require_finite_look
from sbbatch.arguments import Count, check_arguments, checked, declared, with_defaults
from sbbatch.batch.callback import BatchSizeCallback, find_batch_size_callback
from sbbatch.batch.protocol import BatchScaling, UpdateHook
from sbbatch.envs.checks import check_environment, check_same_spaces
from sbbatch.envs.gym_vector import GymVecEnv
from sbbatch.envs.judged import judged
from sbbatch.envs.make import id_of, make_env, protocol_of
from sbbatch.envs.readable import as_played, as_read, readable
from sbbatch.errors import InvalidType, InvalidValue, NumericalError, reason_of, restored
from sbbatch.files import PathOrFile, open_to_write
from sbbatch.persistence.parameters import fitting_states, without_compiler
from sbbatch.persistence.saved_agent import check_holds, load_agent
from sbbatch.persistence.sb3_model import open_model

SelfAgent = TypeVar("SelfAgent", bound="Agent")


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
    _update_hooks: list[UpdateHook]
    _generator_states: dict[str, Any] | None = None  # of a loaded model

    def __init_subclass__(cls, defaults: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """
        :param defaults: constructor defaults in which the recipe differs from its base class
        """
        super().__init_subclass__(**kwargs)
        if defaults is not None:
            cls.__init__ = with_defaults(cls.__init__, defaults)  # type: ignore[method-assign]

    def _check_attributes(self, agent_class: type[Agent]) -> dict[str, Any]:
        """The constructor's arguments, which `load` may have changed, checked by the declarations of a class."""
        if not hasattr(self, "observation_space"):
            name = type(self).__name__
            raise InvalidType(
                f"env: got None, expected an environment or its id; {name}.load(path) loads a trained agent"
            )
        attributes = {name: next(iter(self.as_attributes({name: None}))) for name in declared(agent_class)}
        present = {name: vars(self)[attribute] for name, attribute in attributes.items() if attribute in vars(self)}
        arguments = check_arguments(agent_class, {name: present[name] for name in present.keys() - {"policy"}})
        vars(self).update({attributes[name]: value for name, value in arguments.items()})
        return arguments

    def _restore_generators(self) -> None:
        if self._generator_states is not None:
            with restored("random generators", "load(path, seed=...) starts them anew"):
                self._set_generators(self._generator_states)

    def _set_generators(self, states: dict[str, Any]) -> None:
        """Those of :meth:`_note_state`."""

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
        """Around each update. One that fails is none: nothing is measured on it, and the run is over."""
        hooks = list(self.update_hooks)
        for hook in hooks:
            hook.before_update()
        yield
        for hook in hooks:
            hook.after_update()

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        own, given = self.batch_size_callback, find_batch_size_callback(callback)
        if own is not None and given is not None:
            raise InvalidValue(
                f"callback: got {type(given).__name__}, but the agent has a batch_size_callback "
                f"({type(own).__name__}); give one of them, or set agent.batch_size_callback = None"
            )
        every = [own, *(callback if isinstance(callback, list) else [callback])]
        callbacks = [one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in every if one is not None]
        made = super()._init_callback(callbacks, progress_bar)
        self._check_evaluations(made)
        return made

    def _check_evaluations(self, callback: BaseCallback | None) -> None:
        """What ``EvalCallback`` needs to play with this agent, asked for before anything is learned."""
        for one in callback.callbacks if isinstance(callback, CallbackList) else [callback]:
            if isinstance(one, EventCallback):
                self._check_evaluations(one.callback)
            if isinstance(one, EvalCallback):
                look = create_empty_array(one.eval_env.observation_space, one.eval_env.num_envs, fn=np.zeros)
                try:
                    if self.get_vec_normalize_env() is not None:
                        sync_envs_normalization(self.env, one.eval_env)  # type: ignore[arg-type]
                    self.policy.obs_to_tensor(as_read(look, self.observation_space))
                except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
                    why = reason_of(error)
                    raise InvalidValue(f"EvalCallback: wrap eval_env as the environment to learn in ({why})") from error

    @checked
    def learn(
        self: SelfAgent,
        total_timesteps: Annotated[int, as_steps],
        callback: Annotated[MaybeCallback, check_callbacks] = None,
        log_interval: Count | None = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfAgent:
        """
        Train the agent. However it ends, the callback that changed the batch size has nothing to say afterwards.

        :param total_timesteps: agent steps, summed over environments; a lower bound, as in SB3
        :param callback: callbacks, called at every vector step
        :param log_interval: episodes (replay) or rollouts between log entries
        :param tb_log_name: name of the run for TensorBoard; the class name by default
        :param reset_num_timesteps: count steps from zero; False continues the count and the schedules
        :param progress_bar: SB3's progress bar
        :return: the agent itself
        :raises InvalidValue: a number below 1, or an agent without an environment
        :raises InvalidType: something else than a number or a callback
        """
        if self.env is None:
            raise InvalidValue(
                "learn: the agent has no environment; call set_env(env), or load it by load(path, env=env)"
            )
        self._end_scaling()  # of an agent that was copied while it learned
        name = tb_log_name or type(self).__name__
        try:
            return super().learn(  # type: ignore[safe-super]  # of SB3's class for replay or for rollouts
                total_timesteps,
                callback,
                log_interval,  # type: ignore[arg-type]  # None for no entries
                name,
                reset_num_timesteps,
                progress_bar,
            )
        finally:
            self._end_scaling()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> Any:
        """SB3's, which resets the environments."""
        with step_named(self):
            prepared = super()._setup_learn(*args, **kwargs)
        assert self.env is not None
        judge_observations(self._last_obs, self.env, self.num_timesteps)
        require_finite("observation", self._last_obs, self.num_timesteps)  # type: ignore[arg-type]
        return prepared

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> Any:
        """SB3's loop of steps, for replay or for rollouts."""
        with step_named(self, env.num_envs):
            return super().collect_rollouts(env, *args, **kwargs)  # type: ignore[misc]

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

    # ------------------------------------------------------------------------------------------------ acting

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Actions for observations, both as the environment has them: numbers begin at its ``start``, and integers in a
        Box have its dtype. Agents with action values act epsilon-greedily and with noise (noisy layers, sampled
        quantiles), PPO draws from its distribution, unless deterministic.

        :param observation: one observation, or a batch of them
        :param state: unused, the agents have no memory
        :param episode_start: unused
        :param deterministic: best actions only
        :return: action, or actions ``(batch, *shape)``, and the state
        :raises NumericalError: an observation contains NaN or infinity
        """
        if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
            raise InvalidValue("observation: got an observation and its info; take it apart by obs, info = env.reset()")
        seen = as_read(observation, self.observation_space)
        require_finite_look(seen)
        actions, state = self._choose(seen, state, episode_start, deterministic)
        return as_played(actions, self.action_space), state

    def _choose(self, observation: Any, state: Any, episode_start: Any, deterministic: bool) -> tuple[np.ndarray, Any]:
        """:meth:`predict` with actions as the policy numbers them, from 0."""
        return self.policy.predict(observation, state, episode_start, deterministic)

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
        cls: type[SelfAgent],
        path: PathOrFile,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfAgent:
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
        name = cls.scaling_defaults.size_name
        callback = given.get("batch_size_callback", saved.get("batch_size_callback"))
        if name in given and callback is not None:
            raise InvalidValue(
                f"load: {name}: {type(callback).__name__} decides it; leave it out, or give batch_size_callback=None "
                "as well"
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_update_hooks"]

    def set_env(self, env: GymEnv | str, force_reset: bool = True) -> None:
        """
        Go on in another environment with the same observations and actions, in the next :meth:`learn`.

        :param env: environment, vector environment of as many as before (:meth:`load` takes another number), or id
        :param force_reset: reset it before training goes on
        :raises InvalidValue: other observations or actions
        """
        env = self._wrap_env(self._make_env(env, self.trained_protocol), self.verbose)
        check_same_spaces("set_env", vars(self), env)
        super().set_env(env, force_reset)
        self.env_id = id_of(env)

    @classmethod
    def _make_env(cls, env: Any, protocol: str | None = None, seed: int | None = None) -> Any:
        """An environment, also by its id; anything else is passed on."""
        return make_env(env, protocol or cls.atari_protocol, seed, cls.atari_envs) if isinstance(env, str) else env

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Every environment comes through here, to the constructor as to :meth:`load` and :meth:`set_env`."""
        if isinstance(env, VectorEnv):
            env = VecMonitor(GymVecEnv(env))
        env = readable(env)
        check_environment(env)
        return readable(BaseAlgorithm._wrap_env(judged(env), verbose, monitor_wrapper))
