"""What happens inside of an agent while it learns, measured now and then: the quantities of the papers' analyses."""

from __future__ import annotations

import csv
import math
import warnings
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sbbatch.agents.base.agent import Agent
from sbbatch.agents.base.measuring import in_parts, undisturbed
from sbbatch.agents.base.replay import ReplayAgent
from sbbatch.analysis import diagnostics
from sbbatch.analysis.look import (
    GradientNorm,
    before_sync,
    behavior_of,
    divergence_of,
    features_of,
    network_of,
    q_values,
    some_states,
)
from sbbatch.arguments import Count, Within, checked
from sbbatch.batch.protocol import HasGradientParts
from sbbatch.errors import UnwritableFile
from sbbatch.files import write_csv
from sbbatch.functional.noise_scale import gradient_noise_scale

FILE_NAME = "metrics.csv"
TAUS = (0.0, 0.025, 0.1)  # thresholds of dormancy
# Columns of the file, and what they are called in pictures.
LABELS = {
    "loss_variance": "loss variance across updates (loss²)",
    "gradient_norm": "gradient norm, training batches",
    "gradient_norm_probe": "gradient norm, 256 samples",
    "representation_norm": "representation norm",
    "srank": "effective rank (dimensions)",
    **{f"dormant_{tau:g}": f"dormant neurons, tau {tau:g} (share)" for tau in TAUS},
    "noise_scale": "gradient noise scale (samples)",
    "policy_churn": "policy churn, one gradient step (share of states; PPO: nats)",
    "behavioral_divergence": "Behavioral Divergence (share of states; PPO: nats)",
    "target_distance": "mean |Q - Q target| (return)",
    "target_disagreement": "greedy action not the target's (share of states)",
    "target_parameter_distance": "distance to target (share of its norm)",
    "mean_importance_weight": "mean importance weight",
}
_RAW = ("gradient_noise", "gradient_signal")  # both halves of one measurement of the noise scale
COLUMNS = ("timesteps", "updates", "batch_size", *LABELS, *_RAW)
_PARTS, _PART_SIZE = 8, 32  # of the batch behind the probed gradient and the noise scale
_COMPARED = 512  # states in which two networks are compared
NORM_EVERY = 10  # updates between two of those whose gradient norms are averaged
_SMOOTHING = 0.2  # weight of a new measurement in the two halves of the noise scale
_OF_A_RUN = ("model", "locals", "globals", "parent", "_logger", "_handles", "_norm")

Row = dict[str, float]


class AnalysisMetrics(BaseCallback):
    """
    Measures what the papers' analyses look at, on any agent of ours and on SB3's ``DQN`` and sb3-contrib's ``QRDQN``,
    and writes it into ``metrics.csv`` in the folder of the logger (that of the run), to the logger (``metrics/...``)
    and into ``history``. What an agent does not have is an empty column: target networks of PQN, importance weights of
    uniform replay.

    ============================  ==================================================================================
    column                        meaning
    ============================  ==================================================================================
    ``loss_variance``             variance of the batch loss across the last ``window`` updates, as it is optimized
                                  (with importance weights); of SB3's agents where an update is one gradient step
    ``gradient_norm``             before clipping; mean over every tenth update since the last row
    ``gradient_norm_probe``       of the mean of 256 samples, which compares across batch sizes
    ``representation_norm``       of the last convolution's output, after its activation; without convolutions, of the
                                  last hidden layer's
    ``srank``                     effective rank of the last hidden layer, delta 0.01 (of two streams, the value's)
    ``dormant_0`` ...             share of units whose activity is at most tau times their layer's mean; a channel of a
                                  convolution is one unit, all layers with an activation count
    ``noise_scale``               of the gradient, from ``gradient_noise / gradient_signal`` of 8 parts of 32 samples,
                                  each smoothed over measurements; empty where the smoothed signal is not positive
    ``policy_churn``              share of the states whose greedy action one gradient step changes (PPO: KL, nats)
    ``behavioral_divergence``     the same across the updates that ABS looks across: 8 gradient steps on replay, all of
                                  those on one rollout
    ``target_distance``           mean ``|Q - Q_target|`` right before the target network is next synchronised; empty
                                  if that comes after the next row
    ``target_disagreement``       share of the states in which the two have different greedy actions, then
    ``target_parameter_distance`` ``|theta - theta_target| / |theta_target|``, then
    ``mean_importance_weight``    mean since the last row
    ============================  ==================================================================================

    States are a fixed probe, drawn once before the first update: from what was played until then, mostly at random, so
    that with agents on replay they are the same whatever the batch size. Two networks are compared in 512 of them.
    Networks are asked in evaluation mode, without noise and at fixed fractions of implicit quantiles. Nothing is drawn
    from the agent's random streams: the weights are those of a training without this callback, bit for bit.

    :param every: gradient steps between measurements; the first is made at the first update
    :param n_states: states in the probe, at most
    :param window: updates behind the loss variance, at most
    :param delta: of the effective rank
    :param folder: where ``metrics.csv`` goes; None: the logger's folder, if it has one
    :param verbose: as in SB3
    :raises InvalidType: when training starts: an agent without action values that is not ours
    """

    @checked
    def __init__(
        self,
        every: Count = 5_000,
        n_states: Count = 2048,
        window: Annotated[int, Within(2)] = 1_000,
        delta: Annotated[float, Within(0.0, 1.0)] = 0.01,
        folder: str | None = None,
        verbose: Annotated[int, Within(0, 2)] = 0,
    ) -> None:
        super().__init__(verbose)
        self.every, self.n_states, self.window, self.delta, self.folder = every, n_states, window, delta, folder
        self.history: list[Row] = []
        self.probe: Any = None  # states ``(states, *shape)``
        self._handles: list[Any] = []

    # ------------------------------------------------------------------------------------------------ when to look

    def _on_training_start(self) -> None:
        seed = getattr(self.model, "seed", None)
        self._rng = np.random.default_rng(None if seed is None else (seed, 7))
        where = self.folder or self.logger.dir
        self._path = Path(where) / FILE_NAME if where else None
        if not self.history and self._path is not None and self.num_timesteps and self._path.is_file():
            self.history = read_metrics(self._path)  # of the run that goes on
        self.history = [row for row in self.history if row["timesteps"] <= self.num_timesteps]
        self._n_steps = getattr(self.model, "_n_gradient_steps", self.model._n_updates)  # gradient steps
        self._losses: deque[float] = deque(maxlen=self.window)
        self._norms: list[float] = []
        self._weights: list[float] = []
        self._noise: np.ndarray | None = None  # noise and signal, smoothed
        self._row: Row | None = None  # that is being measured
        self._norm: GradientNorm | None = None
        self._due = self._n_noted = self._n_steps
        self._stop_watching()
        optimizer = self.model.policy.optimizer
        self._handles = [
            optimizer.register_step_pre_hook(lambda *_: self._before_step()),
            optimizer.register_step_post_hook(lambda *_: self._after_step()),
        ]

    def _on_training_end(self) -> None:
        self._finish()
        self._stop_watching()

    def _stop_watching(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _on_rollout_start(self) -> None:
        """After an update, whose numbers the logger has, and before the next steps."""
        logged, made = self.logger.name_to_value, self._n_steps - self._n_noted
        if made == 1 and not isinstance(self.model, Agent) and "train/loss" in logged:
            self._losses.append(float(logged["train/loss"]))
        if made and "train/mean_importance_weight" in logged:
            self._weights.append(float(logged["train/mean_importance_weight"]))
        self._n_noted = self._n_steps
        if self._row is not None and self._rollouts and "behavioral_divergence" not in self._row:
            self._compare("behavioral_divergence")

    def _before_step(self) -> None:
        if self._norm is not None:
            self._norms.append(self._norm.take())
            self._norm = None
        # Of a rollout the first gradient step, so that Behavioral Divergence is that of the whole update.
        begins = not self._rollouts or self._n_steps == self._n_noted
        if self._n_steps >= self._due and begins:
            self._finish()  # the one before, if it still waits for its target
            self._due = (self._n_steps // self.every + 1) * self.every
            self._row = self._begin()

    def _after_step(self) -> None:
        self._n_steps += 1
        if isinstance(self.model, Agent):
            self._losses.append(getattr(self.model, "last_loss", math.nan))
        if self._row is not None:
            made = self._n_steps - self._row["updates"]
            if made == 1:
                self._compare("policy_churn")
            if not self._rollouts and made == self._span:
                self._compare("behavioral_divergence")
        if self._n_steps % NORM_EVERY == 0:
            groups = self.model.policy.optimizer.param_groups
            self._norm = GradientNorm(parameter for group in groups for parameter in group["params"])

    def _on_step(self) -> bool:
        """After a step in the environment; the target network is synchronised right after."""
        if self._row is not None and "target_distance" not in self._row and before_sync(self.model):
            self._look_at_target()
        if self._row is not None and set(self._awaited) <= self._row.keys():
            self._finish()
        return True

    # ------------------------------------------------------------------------------------------------- what is seen

    @property
    def _rollouts(self) -> bool:
        return isinstance(self.model, Agent) and not isinstance(self.model, ReplayAgent)

    @property
    def _span(self) -> int:
        return self.model.batch_scaling.updates if isinstance(self.model, Agent) else 8

    @property
    def _awaited(self) -> list[str]:
        """What completes a row."""
        targets = ["target_distance"] if network_of(self.model, target=True) is not None else []
        return ["policy_churn", "behavioral_divergence", *targets]

    def _begin(self) -> Row:
        """Everything that can be seen at once, before the parameters change."""
        if self.probe is None:
            self.probe = some_states(self.model, self.n_states, self._rng)
        row: Row = {"timesteps": self.num_timesteps, "updates": self._n_steps}
        row["batch_size"] = self.model.batch_size  # type: ignore[attr-defined]
        row["loss_variance"] = diagnostics.loss_variance(th.tensor(self._losses))
        row["gradient_norm"] = float(np.mean(self._norms)) if self._norms else math.nan
        row["mean_importance_weight"] = float(np.mean(self._weights)) if self._weights else math.nan
        self._norms, self._weights = [], []
        with undisturbed(self.model.policy):
            features = features_of(self.model, self.probe)
        if features is not None:
            row["representation_norm"] = features.norm
            row["srank"] = diagnostics.srank(features.last_hidden, self.delta)
            row |= {f"dormant_{tau:g}": diagnostics.dormant_fraction(features.dormancy, tau) for tau in TAUS}
        if isinstance(self.model, HasGradientParts):
            row |= self._gradients(self.model)
        self._few = next(in_parts(self.probe, _COMPARED))
        self._behavior = behavior_of(self.model, self._few)
        return row

    def _gradients(self, model: HasGradientParts) -> Row:
        n_parts = min(_PARTS, self.model.n_steps * self.model.n_envs) if self._rollouts else _PARTS  # type: ignore
        if n_parts < 2:
            return {}
        parts, size = model.gradient_parts(n_parts, _PART_SIZE)
        found = np.array(gradient_noise_scale(parts, size))
        self._noise = found if self._noise is None else _SMOOTHING * found + (1 - _SMOOTHING) * self._noise
        noise, signal = self._noise
        row = {"gradient_norm_probe": diagnostics.global_norm([parts.mean(dim=0)])}
        row |= {"noise_scale": float(noise / signal) if signal > 0 else math.nan}
        return row | dict(zip(_RAW, found.tolist(), strict=True))

    def measure(self) -> Row:
        """All of a row now, whether or not anything has changed: what it costs."""
        self._row = self._begin()
        for name in ("policy_churn", "behavioral_divergence"):
            self._compare(name)
        if network_of(self.model, target=True) is not None:
            self._look_at_target()
        row, self._row = self._row, None
        return row

    def _compare(self, name: str) -> None:
        assert self._row is not None
        self._row[name] = divergence_of(self.model, self._behavior, behavior_of(self.model, self._few))

    def _look_at_target(self) -> None:
        assert self._row is not None
        own, targets = (q_values(self.model, self._few, target) for target in (False, True))
        networks = [network_of(self.model, target) for target in (False, True)]
        self._row["target_distance"] = (own - targets).abs().mean().item()
        self._row["target_disagreement"] = diagnostics.greedy_disagreement(own, targets)
        self._row["target_parameter_distance"] = diagnostics.parameter_distance(
            *(network.parameters() for network in networks if network is not None)
        )

    def _finish(self) -> None:
        """Write the row down, as far as it came."""
        row, self._row = self._row, None
        if row is None:
            return
        self.history.append(row)
        for name, value in row.items():
            if name != "timesteps" and not math.isnan(value):
                self.logger.record(f"metrics/{name}", value)
        if self._path is not None:
            try:
                write_csv(self._path, COLUMNS, [[_text(one.get(name)) for name in COLUMNS] for one in self.history])
            except UnwritableFile as error:
                warnings.warn(f"{error}; training goes on", stacklevel=2)

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy of an agent that learns: what it knows of the run stays behind."""
        return {name: value for name, value in vars(self).items() if name not in _OF_A_RUN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, locals={}, globals={}, parent=None, _handles=[], _norm=None)


def _text(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.8g}"


def read_metrics(path: Path) -> list[Row]:
    """
    The rows of a ``metrics.csv``, without what is empty.

    :param path: the file
    """
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]
