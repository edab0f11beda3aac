"""Playing whole episodes with raw rewards during training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from sbbatch.analysis.metrics import describe_returns
from sbbatch.errors import InvalidValue
from sbbatch.files import atomic_write
from sbbatch.zoo.console.progress import say
from sbbatch.zoo.logs.kept_logs import kept_evaluations
from sbbatch.zoo.logs.logger import WriteErrors
from sbbatch.zoo.run.build import save_model
from sbbatch.zoo.run.callbacks import StopRequest


class _StoppedError(Exception):
    """Leaves SB3's evaluation loop when the user wants to stop: an episode can last minutes."""


class Evaluation(EvalCallback):
    """
    SB3's ``EvalCallback`` whose period counts agent steps, and which also evaluates when training ends. It is due at
    the first step at or after each multiple of the period, however many environments step at once. Actions are greedy.
    Results go to ``evaluations.npz``, the best model to ``best_model.zip``.

    :param eval_env: whole episodes, raw rewards
    :param stop: ends an evaluation that is under way
    :param began_at: agent steps at which a resumed run began: it keeps its evaluations up to the model's step counter,
        and evaluates when it would have done so without a break (``None``: a new run)
    """

    def __init__(
        self,
        eval_env: VecEnv,
        folder: Path,
        eval_freq: int,
        n_eval_episodes: int,
        stop: StopRequest,
        announce: bool = True,
        began_at: int | None = None,
    ) -> None:
        # Without a log_path: SB3 would rewrite the file in place, and a kill would take earlier evaluations along.
        super().__init__(eval_env, n_eval_episodes=n_eval_episodes, eval_freq=eval_freq, verbose=0)
        self.path, self.best_path = folder / "evaluations.npz", folder / "best_model.zip"
        self.stop = stop
        self.announce = announce
        self.began_at = began_at
        self._errors, self._best_errors = WriteErrors(), WriteErrors()
        self._best = -np.inf  # mean return of the best model that could be saved

    def _init_callback(self) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Training and eval env are not of the same type")  # StuckLimit
            super()._init_callback()

    def _on_training_start(self) -> None:
        self._first_step = self.num_timesteps if self.began_at is None else self.began_at
        self._evaluated_at = self._first_step
        if self.began_at is not None:
            self._restore(kept_evaluations(self.path, self.num_timesteps))

    def _restore(self, kept: dict[str, list[Any]]) -> None:
        counts = {len(returns) for returns in kept.get("results", [])} - {self.n_eval_episodes}
        if counts:
            raise InvalidValue(f"{self.path} has evaluations of {min(counts)} episodes, not {self.n_eval_episodes}")
        for name in ("timesteps", "results", "length", "successes"):  # as SB3 calls them
            setattr(self, f"evaluations_{name}", kept.get("ep_lengths" if name == "length" else name, []))
        if self.evaluations_timesteps:
            self._best = max(float(np.mean(returns)) for returns in self.evaluations_results)
            self._evaluated_at = self.evaluations_timesteps[-1]
            self._save()
        else:
            self.path.unlink(missing_ok=True)  # all of them come again

    def _on_step(self) -> bool:
        periods_done = (self._evaluated_at - self._first_step) // self.eval_freq
        is_due = (self.num_timesteps - self._first_step) // self.eval_freq > periods_done
        return self._evaluate() if is_due else True

    def _on_training_end(self) -> None:
        # SB3 may call this twice; an interrupted run ends without another evaluation.
        if self._evaluated_at != self.num_timesteps and not self.stop.requested:
            self._evaluate()

    def _evaluate(self) -> bool:
        """Let the parent evaluate now: it does so when its own period, counted in calls, is one."""
        self._evaluated_at = self.num_timesteps
        period, self.eval_freq = self.eval_freq, 1
        try:
            super()._on_step()
        except _StoppedError:
            return False
        finally:
            self.eval_freq = period
        self._write_down()
        if self.announce:
            say(f"evaluation at {self.num_timesteps:,} agent steps: {describe_returns(self._returns)}")
        return True

    def _write_down(self) -> None:
        if self.last_mean_reward > self._best:
            with self._best_errors.told(self.best_path):
                save_model(self.model, self.best_path)
                self._best = self.last_mean_reward
        self.evaluations_timesteps.append(self.num_timesteps)
        self.evaluations_results.append(self._returns)
        self.evaluations_length.append(self._lengths)
        if self._is_success_buffer:
            self.evaluations_successes.append(self._is_success_buffer)
        self._save()

    def _save(self) -> None:
        """``evaluations.npz`` as SB3 writes it, but whole at any instant."""
        arrays: dict[str, Any] = {"timesteps": self.evaluations_timesteps, "results": self.evaluations_results}
        arrays["ep_lengths"] = self.evaluations_length
        if self.evaluations_successes:
            arrays["successes"] = self.evaluations_successes
        with self._errors.told(self.path), atomic_write(self.path) as file:
            np.savez(file, **arrays)

    def _log_success_callback(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        # The lists that `evaluate_policy` still fills.
        self._returns, self._lengths = locals_["episode_rewards"], locals_["episode_lengths"]
        if self.stop.requested:
            raise _StoppedError
        super()._log_success_callback(locals_, globals_)
