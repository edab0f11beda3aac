"""Saving and loading without half-written files, and with a sentence for files that do not fit."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import get_device, get_system_info
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.envs.checks import check_environment, check_same_spaces
from sbbatch.envs.make import id_of, make_env, protocol_of
from sbbatch.errors import InvalidType, InvalidValue, describe, did_you_mean
from sbbatch.files import PathOrFile, atomic_write, with_suffix
from sbbatch.persistence.model_file import ModelFile, check_states, first_unusable, in_names_of, without_compiler
from sbbatch.persistence.sb3_model import open_model

# What the file and the environment decide; another value would contradict the network or the replay buffer.
_FIXED = {
    "policy",
    "policy_class",
    "_init_setup_model",
    "n_envs",
    "observation_space",
    "action_space",
    "batch_scaling_state",
}

SelfSafeFiles = TypeVar("SelfSafeFiles", bound="SafeFiles")


class SafeFiles(BaseAlgorithm):
    """
    SB3's model files, written atomically and checked before they are read.

    A model file keeps SB3's layout, with the name of the algorithm added. It contains pickled objects, as SB3's do:
    load only files you trust. Files of SB3 itself are read without running them (:mod:`sbbatch.persistence.sb3_model`).
    """

    atari_protocol: ClassVar[str] = "dopamine"  # of games given by their name
    atari_envs: ClassVar[int] = 1  # copies of them
    kept_as: ClassVar[dict[str, str]] = {
        "stats_window_size": "_stats_window_size"
    }  # argument -> attribute, if not alike
    pending: ClassVar[dict[str, str]] = {}  # argument -> attribute that would change it later, and which it replaces
    env_id: str | None = None  # saved with the model, so that a run is not resumed in another game
    trained_protocol: str | None = None  # of an Atari game; saved, so that the model is played as it was trained

    def save(self, path: PathOrFile, exclude: Any = None, include: Any = None) -> None:
        """
        Save the model; at any instant either the old file or the whole new one is there.

        :param path: file (``.zip`` is added if it has no suffix) or open file
        :param exclude: names of further attributes to leave out
        :param include: names of attributes to save although they are normally left out
        """
        self.algorithm = self._own_name()
        if self.env is not None:
            self.trained_protocol = protocol_of(self.env)
        self._note_state()
        if isinstance(path, io.BufferedIOBase):
            super().save(path, exclude, include)
            return
        with atomic_write(with_suffix(path, ".zip")) as file:
            super().save(file, exclude, include)  # type: ignore[arg-type]

    @classmethod
    def _check_changes(cls, saved: dict[str, Any], given: dict[str, Any]) -> None:
        """
        :param saved: attributes of a saved agent
        :param given: the keyword arguments of `load`
        :raises UserError: one that cannot be changed
        """

    def _note_state(self) -> None:
        """Put the states of the agent's parts, which are not saved themselves, where :meth:`save` finds them."""

    @classmethod
    def load(
        cls: type[SelfSafeFiles],
        path: PathOrFile,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        trust: bool = False,
        **kwargs: Any,
    ) -> SelfSafeFiles:
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
        if not (custom_objects is None or isinstance(custom_objects, dict)):
            raise InvalidType(f"custom_objects: got {describe(custom_objects)}, expected a dictionary of objects")
        model = open_model(path, trust)
        cls.check_holds_own(model)
        attributes = model.attributes(cls, custom_objects or {}, kwargs)
        cls._check_changes(attributes, kwargs)
        attributes |= _attributes_to_change(cls, attributes, kwargs)
        if "seed" in kwargs:  # the states the generators were saved in belong to the old one
            attributes["_generator_states"] = None
        if print_system_info:
            print("== CURRENT SYSTEM INFO ==")
            get_system_info()
            print(f"== SAVED MODEL SYSTEM INFO ==\n{model.system_info()}")
        _check_attributes(model, attributes, kwargs)
        env = cls._environment_for(attributes, env)
        if env is not None and force_reset:
            attributes["_last_obs"] = None
        # `load` is SB3's, step by step, except that each of them can say what is wrong with the file.
        agent = cls(policy=attributes["policy_class"], env=env, device=device, _init_setup_model=False)  # type: ignore[call-arg]
        vars(agent).update(attributes)
        if agent.ep_success_buffer is None:  # left out; SB3 makes both anew, or none
            agent.ep_info_buffer = None
        agent._setup_model()
        model.restore(agent)
        return agent

    @classmethod
    def _environment_for(cls, attributes: dict[str, Any], env: GymEnv | str | None) -> VecEnv | None:
        """The environment to go on with, or the one that `save` was told to include."""
        kept = attributes.pop("env", None)
        env = kept if env is None else env
        if env is None:
            return None
        env = cls._wrap_env(cls._make_env(env, attributes.get("trained_protocol")))
        check_same_spaces("load", attributes, env)
        attributes["n_envs"] = env.num_envs
        return env

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
        if isinstance(load_path_or_dict, dict):
            states, where, suffix = load_path_or_dict, "set_parameters: ", ""
        else:
            model = open_model(load_path_or_dict)
            self.check_holds_own(model)
            states, where, suffix = model.states(self, get_device(device)), f"{model.name}: ", ".pth"
        states = in_names_of(self, states)
        check_states(where, suffix, self, states, exact_match)
        super().set_parameters(states, exact_match, device)

    def set_env(self, env: GymEnv | str, force_reset: bool = True) -> None:
        """
        Go on in another environment with the same observations and actions.

        :param env: environment, vector environment of as many as before, or id
        :param force_reset: reset it before training goes on
        :raises InvalidValue: other observations, actions or number of environments
        """
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
        if not isinstance(env, str):
            return env
        return make_env(env, protocol or cls.atari_protocol, seed, cls.atari_envs)

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """Every environment comes through here, to the constructor as to :meth:`load` and :meth:`set_env`."""
        check_environment(env)
        return BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    @classmethod
    def _own_name(cls) -> str:
        """Name of the agent of ours that this class is or extends."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("sbbatch."))

    @classmethod
    def check_holds_own(cls, model: ModelFile) -> None:
        """
        :param model: an open file
        :raises InvalidValue: it holds another agent, or none that is known here
        """
        algorithm = model.algorithm
        if algorithm is None:
            raise InvalidValue(
                f"{model.name}: a model that was not written by sbbatch, nor by SB3's DQN, QRDQN or PPO; load it with "
                "the class that saved it"
            )
        if algorithm != cls._own_name():
            held = f"{algorithm}{model.library}"
            raise InvalidValue(f"{model.name}: holds a {held}, but {cls.__name__} was asked to load it")


def _check_attributes(model: ModelFile, attributes: dict[str, Any], given: dict[str, Any]) -> None:
    """What the agent does not check itself; the fault may be the file's, or that of an argument of `load`."""
    unusable = first_unusable(attributes)
    if unusable in given:
        raise InvalidValue(f"load: {unusable}: got {describe(given[unusable])}, which no agent can have")
    if unusable is not None:
        raise model.unusable(unusable)


def _attributes_to_change(cls: type[SafeFiles], saved: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `load`, under the names of the attributes they are meant for."""
    known = (set(saved) | set(inspect.signature(cls).parameters)) - _FIXED
    for name in given:
        if name not in known:
            raise InvalidType(f"load: unknown attribute '{name}'{did_you_mean(name, known)}")
    if given.get("head", saved.get("head")) != saved.get("head"):
        raise InvalidValue("load: head: a trained agent keeps its network; leave it out, or train a new agent")
    if given.get("policy_kwargs", saved["policy_kwargs"]) != saved["policy_kwargs"]:
        raise InvalidValue(
            f"load: policy_kwargs {given['policy_kwargs']} are not those of the model, {saved['policy_kwargs']}; a "
            "trained agent keeps its network, leave them out"
        )
    replaced = {cls.pending[name]: None for name in given if name in cls.pending}
    return replaced | {cls.kept_as.get(name, name): value for name, value in given.items()}


def trained_environment(path: Path) -> tuple[str | None, str | None]:
    """
    :param path: a model file
    :return: id of the environment it was trained in, and the Atari protocol; ``None`` for what the file does not tell
    :raises InvalidValue: a damaged file
    """
    saved = ModelFile(path).plain
    return saved.get("env_id"), saved.get("trained_protocol")
