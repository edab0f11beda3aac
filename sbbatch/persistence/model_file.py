"""What is in a model file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import json_to_data

from sbbatch.errors import InvalidValue
from sbbatch.files import PathOrFile, check_zip, find_file
from sbbatch.persistence.unpickle import UnknownName

T = TypeVar("T")

_VARIABLES = "pytorch_variables.pth"
# Without these no agent can be built; any other attribute may have been left out by `save(exclude=...)`.
REQUIRED = {"policy_class": type, "policy_kwargs": dict, "n_envs": int}
REQUIRED |= {"observation_space": spaces.Space, "action_space": spaces.Space}


class ModelFile:
    """
    A model file: an archive with SB3's layout, whose checksums have been compared.

    :param path: file, with or without ``.zip``, or open file
    :raises FileNotFoundError: no such file
    :raises InvalidValue: a damaged file, or one that holds no model
    """

    library = ""  # the other one that wrote it, for messages

    def __init__(self, path: PathOrFile) -> None:
        self._file = path if isinstance(path, io.BufferedIOBase) else find_file(path, ".zip", "model")
        self.name = "the model file" if isinstance(path, io.BufferedIOBase) else str(self._file)
        check_zip(self._file, "model")
        with zipfile.ZipFile(self._file) as archive:
            self.members = archive.namelist()
        self.plain: dict[str, Any] = self._read("data", lambda data: dict(json.loads(data)))

    def _read(self, member: str, parse: Callable[[bytes], T]) -> T:
        try:
            with zipfile.ZipFile(self._file) as archive:
                return parse(archive.read(member))
        except Exception as error:  # PyTorch alone has a dozen words for bytes it did not write
            raise self._incomplete(f"its member '{member}' is missing or cannot be read") from error

    def _incomplete(self, what: str) -> InvalidValue:
        return InvalidValue(f"{self.name}: not a complete model file, {what}")

    def _tensors(self, member: str, device: th.device) -> Any:
        return self._read(member, lambda data: th.load(io.BytesIO(data), map_location=device, weights_only=True))

    def system_info(self) -> str:
        """The system the model was saved on, for people."""
        present = "system_info.txt" in self.members
        return self._read("system_info.txt", lambda data: data.decode(errors="replace")) if present else "unknown"

    @property
    def algorithm(self) -> str | None:
        """The name of the agent it holds; ``None`` if nothing says so."""
        return self.plain.get("algorithm")

    def attributes(self, agent_class: Any, custom_objects: dict[str, Any], replaced: Collection[str]) -> dict[str, Any]:
        """
        The attributes of an agent of ``agent_class``. Some were pickled: only for files you trust.

        :param custom_objects: objects that replace the saved ones, by name
        :param replaced: names of arguments that get another value afterwards, and need not be read
        """
        return self._values(self.plain, custom_objects)

    def _values(self, names: Iterable[str], custom_objects: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name in names:
            try:
                values |= {name: custom_objects[name]} if name in custom_objects else self._value(name)
            except UnknownName as error:
                raise InvalidValue(
                    f"{self.name}: '{name}' in its member 'data' needs {error}, which is not one of SB3's own classes; "
                    "if you trust the file to import and run it pass trust=True (--trust), or another value with "
                    f"custom_objects={{'{name}': ...}}"
                ) from None
            except Exception as error:  # a pickle may raise anything
                raise self._incomplete(f"'{name}' in its member 'data' cannot be read; see custom_objects") from error
        for name, kind in REQUIRED.items():
            if not isinstance(values.get(name), kind):
                raise self._incomplete(f"its member 'data' has no usable '{name}'")
        return values

    def _value(self, name: str) -> dict[str, Any]:
        """One attribute under its name, or nothing where its class is gone, as SB3 does."""
        return json_to_data(json.dumps({name: self.plain[name]}))

    def states(self, agent: BaseAlgorithm, device: th.device) -> dict[str, Any]:
        """The parameters of networks and optimizer that ``agent`` is to have, as ``get_parameters`` gives them."""
        members = [member for member in self.members if member.endswith(".pth") and member != _VARIABLES]
        return {member.removesuffix(".pth"): self._tensors(member, device) for member in members}

    def variables(self, device: th.device) -> dict[str, Any]:
        """Tensors that belong to no network, by name; no agent of ours has any."""
        return self._tensors(_VARIABLES, device) or {}
