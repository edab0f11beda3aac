"""Gymnasium's vector environments behind SB3's interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import iterate
from gymnasium.wrappers.vector import DictInfoToList
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sbbatch.envs.judged import judged
from sbbatch.errors import InvalidValue


class GymVecEnv(VecEnv):
    """
    A vector environment of Gymnasium (``gymnasium.make_vec``) as SB3's.

    SB3 expects the first observation of the next episode in the step that ends one, with the final observation in
    ``infos[i]["terminal_observation"]``. So does Gymnasium's mode ``SAME_STEP``. In its other modes an ended episode
    is reset by this class at once, through the option ``reset_mask``, so that no step is lost for the reset. What the
    environments of a ``SyncVectorEnv`` return is judged, see :class:`~sbbatch.envs.judged.JudgedEnv`.

    :param envs: the vector environment, with or without wrappers
    :raises InvalidValue: one that resets with its next step only
    """

    def __init__(self, envs: VectorEnv) -> None:
        base, mode = judged(envs).unwrapped, envs.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        # A process without shared memory forgets to take note of such a reset.
        takes_mask = isinstance(base, SyncVectorEnv) or (isinstance(base, AsyncVectorEnv) and base.shared_memory)
        if mode is AutoresetMode.NEXT_STEP and not takes_mask:
            raise InvalidValue(
                f"env: got {type(base).__name__}, which resets an environment only with the step after its episode has "
                "ended; make it with gymnasium.make_vec(..., vectorization_mode='sync'), or, if it takes that, "
                "autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP"
            )
        self.vector, self._listed = envs, DictInfoToList(envs)
        self._resets_itself = mode is AutoresetMode.SAME_STEP
        self._actions: np.ndarray | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def reset(self) -> VecEnvObs:
        """The first observations of all environments; they take seeds and options as a whole, the first one's."""
        options = self._options[0] or None
        observations, self.reset_infos = self._listed.reset(seed=self._seeds[0], options=options)
        self._reset_seeds()
        self._reset_options()
        return self._as_sb3(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Note what is to be played."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """One step of all environments."""
        observations, rewards, terminated, truncated, infos = self._listed.step(self._actions)
        dones = np.logical_or(terminated, truncated)
        if dones.any():
            last = observations
            if not self._resets_itself:
                observations, reset_infos = self._listed.reset(options={"reset_mask": dones})
            finals = None if self._resets_itself else list(iterate(self.vector.observation_space, last))
            for i in np.flatnonzero(dones):
                own = infos[i]
                if finals is None:
                    final = own.pop("final_obs")
                    reset_info, own = own, own.pop("final_info", {})
                else:
                    final, reset_info = finals[i], reset_infos[i]
                self.reset_infos[i] = reset_info
                infos[i] = {**own, "terminal_observation": final}
        for info, timeout in zip(infos, truncated & ~terminated, strict=True):
            info["TimeLimit.truncated"] = bool(timeout)
        return self._as_sb3(observations), np.asarray(rewards, dtype=np.float32), dones, infos

    def _as_sb3(self, observations: Any) -> Any:
        """Copies: the vector environment may write the next observations where these are. Texts come as tuples."""
        if isinstance(observations, dict):
            return {key: self._as_sb3(part) for key, part in observations.items()}
        return np.array(observations)

    def close(self) -> None:
        """Close all environments."""
        self.vector.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Pictures of all environments, if they are drawn."""
        pictures: Any = self.vector.render()
        return [None] * self.num_envs if pictures is None else list(pictures)

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environments, or of the vector environment if they are none of their own."""
        base: Any = self.vector.unwrapped
        if hasattr(base, "get_attr"):
            values = base.get_attr(attr_name)
        else:
            values = [getattr(self.vector, attr_name)] * self.num_envs
        return [values[i] for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the environments."""
        self._require_all("set_attr", indices)
        self.vector.unwrapped.set_attr(attr_name, value)  # type: ignore[attr-defined]

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """What a method of the environments returns."""
        self._require_all("env_method", indices)
        return list(self.vector.unwrapped.call(method_name, *method_args, **method_kwargs))  # type: ignore[attr-defined]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Nothing of SB3's is around them."""
        return [False for _ in self._get_indices(indices)]

    def _require_all(self, method: str, indices: VecEnvIndices) -> None:
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise NotImplementedError(f"{method}: Gymnasium's vector environments know no indices; leave them out")
