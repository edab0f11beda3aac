"""
Environments instead of steps as what makes a rollout large (Mayor et al. 2025): the same number of samples from few
environments for long, or from many for a short time.

The number is fixed in each arm. To let it grow during a run, an agent would need a vector environment that steps only
some of its members and goes on with the others later: SB3's ``VecEnv.step`` takes an action for each of them, its
rollout buffer is laid out by their number, and a new vector environment begins new episodes, whose starts would then be
what the larger batch is made of. With the product fixed, what is compared is the same: samples of a rollout,
minibatches and gradient steps are equal, and only where the samples come from differs. Beside it stands a product of
twice the size, so that the effect of many environments can be told from that of large batches.
"""

from __future__ import annotations

from dataclasses import replace

from sbbatch.studies.abs.minatar import EVALUATION, SCALES, SETTINGS
from sbbatch.studies.arms import versus
from sbbatch.studies.study import Study

_SAMPLES = 2_048  # of a rollout, 64 environments for 32 steps


def _arms(n_samples: int) -> dict[str, dict[str, int]]:
    sizes = {n_envs: n_samples // n_envs for n_envs in (16, 64, 256)}
    return {f"{n} envs x {steps}": {"n_envs": n, "n_steps": steps} for n, steps in sizes.items()}


_SAME, _DOUBLE = _arms(_SAMPLES), _arms(2 * _SAMPLES)

STUDY = Study(
    id="abs/environments",
    title="Many environments or long rollouts",
    question="Is a rollout of the same size better from many environments or from long stretches of few?",
    claim="More environments are better than longer rollouts (Mayor et al. 2025, for PPO and PQN).",
    arms=_SAME | _DOUBLE,
    scales=SCALES | {"smoke": replace(SCALES["smoke"], settings={})},
    rules=(
        *versus("256 envs x 8", ("64 envs x 32", "16 envs x 128"), score="area"),
        *versus("256 envs x 16", ("64 envs x 64", "16 envs x 256"), score="area"),
        *versus("64 envs x 64", ("64 envs x 32",), score="area"),
    ),
    settings=SETTINGS,
    options=EVALUATION,
    evaluations=1,
    eval_episodes=100,
)
