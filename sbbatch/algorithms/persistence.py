"""Saving and loading without half-written files, and with a sentence for files that do not fit."""

from __future__ import annotations

import inspect
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sbbatch.envs.make import make_env, protocol_of
from sbbatch.errors import InvalidType, InvalidValue, did_you_mean
from sbbatch.files import PathOrFile, atomic_write, check_zip, find_file, load_arrays, save_arrays, with_suffix
from sbbatch.replay.buffer import FrameReplayBuffer

SelfSafeFiles = TypeVar("SelfSafeFiles", bound="SafeFiles")


class SafeFiles(OffPolicyAlgorithm):
    """
    SB3's model files, written atomically and checked before they are read; replay memory as plain arrays.

    A model file keeps SB3's layout, with the name of the algorithm added. It contains pickled objects, as SB3's do:
    load only files you trust. A replay buffer of ours contains none.
    """

    atari_protocol: ClassVar[str] = "dopamine"  # of games given by their name
    atari_envs: ClassVar[int] = 1  # copies of them
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
        self._note_generators()
        if isinstance(path, io.BufferedIOBase):
            super().save(path, exclude, include)
            return
        with atomic_write(with_suffix(path, ".zip")) as file:
            super().save(file, exclude, include)  # type: ignore[arg-type]

    def _note_generators(self) -> None:
        """Put the states of the agent's own generators where :meth:`save` finds them."""

    @classmethod
    def load(
        cls: type[SelfSafeFiles],
        path: PathOrFile,
        env: GymEnv | str | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **kwargs: Any,
    ) -> SelfSafeFiles:
        """
        Load a model from a file.

        :param path: file, with or without ``.zip``, or open file
        :param env: environment to go on with, or its id; not needed to predict
        :param device: where the networks go
        :param custom_objects: objects that replace the saved ones, by name
        :param print_system_info: print the systems the model was saved and is loaded on
        :param force_reset: reset the environment before training goes on
        :param kwargs: attributes to change, e.g. ``batch_size=8``
        :raises FileNotFoundError: no such file
        :raises InvalidValue: a damaged file, a model of another algorithm, or of other spaces than the environment's
        :raises InvalidType: an attribute that does not exist
        """
        file = path if isinstance(path, io.BufferedIOBase) else find_file(path, ".zip", "model")
        check_zip(file, "model")
        saved = _read_attributes(file)
        cls._check_fits(saved, str(path) if not isinstance(path, io.BufferedIOBase) else "the model file", kwargs)
        if isinstance(env, str):
            protocol = saved.get("trained_protocol") or cls.atari_protocol
            env = make_env(env, protocol, atari_envs=cls.atari_envs)
        if env is not None:
            env = cls._wrap_env(env, 0)
            _check_spaces(saved, env)
        return BaseAlgorithm.load.__func__(  # type: ignore[attr-defined]
            cls, file, env, device, custom_objects, print_system_info, force_reset, **kwargs
        )

    @classmethod
    def _own_name(cls) -> str:
        """Name of the agent of ours that this class is or extends."""
        return next(base.__name__ for base in cls.__mro__ if base.__module__.startswith("sbbatch."))

    @classmethod
    def _check_fits(cls, saved: dict[str, Any], name: str, overrides: dict[str, Any]) -> None:
        algorithm = saved.get("algorithm")
        if algorithm is None:
            raise InvalidValue(f"{name}: a model that was not written by sbbatch; load it with the class that saved it")
        if algorithm != cls._own_name():
            raise InvalidValue(f"{name}: holds a {algorithm}, but {cls.__name__} was asked to load it")
        known = set(saved) | set(inspect.signature(cls).parameters)
        for override in overrides:
            if override not in known:
                raise InvalidType(f"load: unknown attribute '{override}'{did_you_mean(override, known)}")

    def save_replay_buffer(self, path: PathOrFile) -> None:
        """
        Save the replay buffer; ours as an archive of plain arrays, SB3's as SB3 does.

        :param path: file (``.npz`` is added if it has no suffix) or open file
        """
        if isinstance(self.replay_buffer, FrameReplayBuffer):
            save_arrays(path, self.replay_buffer.get_state())
        else:
            super().save_replay_buffer(path)  # type: ignore[arg-type]

    def load_replay_buffer(self, path: PathOrFile, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer. If the file is damaged or does not fit, the present buffer stays.

        :param path: file or open file
        :param truncate_last_traj: for SB3's hindsight replay only
        :raises FileNotFoundError: no such file
        :raises InvalidValue: damaged, or of another size or other observations
        """
        buffer_class = self.replay_buffer_class or FrameReplayBuffer
        if not issubclass(buffer_class, FrameReplayBuffer):
            super().load_replay_buffer(path, truncate_last_traj)  # type: ignore[arg-type]
            return
        state = load_arrays(path, "replay buffer")
        buffer = self._make_replay_buffer()
        assert isinstance(buffer, FrameReplayBuffer)
        buffer.set_state(state)
        buffer.device = self.device
        self.replay_buffer = buffer

    def _make_replay_buffer(self) -> Any:
        raise NotImplementedError  # the algorithm knows how


def _read_attributes(file: Path | io.BufferedIOBase) -> dict[str, Any]:
    """The JSON part of a model file: plain values as they are, others as dictionaries that describe them."""
    with zipfile.ZipFile(file) as archive:
        if "data" not in archive.namelist():
            raise InvalidValue(f"{file}: an archive, but not a model (it has no member 'data')")
        attributes = json.loads(archive.read("data"))
    if not isinstance(file, os.PathLike):
        file.seek(0)
    return attributes


def trained_environment(path: Path) -> tuple[str | None, str | None]:
    """
    :param path: a model file
    :return: id of the environment it was trained in, and the Atari protocol; ``None`` for what the file does not tell
    :raises InvalidValue: a damaged file
    """
    check_zip(path, "model")
    saved = _read_attributes(path)
    return saved.get("env_id"), saved.get("trained_protocol")


def _check_spaces(saved: dict[str, Any], env: Any) -> None:
    """Compare what the file tells in plain text; SB3 compares the spaces themselves afterwards."""
    facts = {
        "observations of shape": ("observation_space", "_shape", "shape"),
        "a number of actions of": ("action_space", "n", "n"),
    }
    for what, (space, key, attribute) in facts.items():
        trained, given = saved[space].get(key), getattr(getattr(env, space), attribute, None)
        if trained is not None and _plain(trained) != _plain(given):
            raise InvalidValue(
                f"load: the model was trained with {what} {_plain(trained)}, the environment has {_plain(given)}; "
                "give it the environment it was trained in"
            )


def _plain(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, (list, tuple)) else str(value)
