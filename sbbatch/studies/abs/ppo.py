"""
abs05 and A2: PPO with ABS on the KL divergence, on MuJoCo. Settings are those of hyperparams/ppo_abs.yml on both tasks;
at a million steps the authors' clock of 10 rollouts would pass a tenth of the training before anything moves, so that
it ticks every second one. v5 of the tasks; the authors have v4.
"""

from __future__ import annotations

from sbbatch.studies.arms import versus
from sbbatch.studies.games import MUJOCO_PAIR
from sbbatch.studies.study import Scale, Study

_CLOCK = "check_every=2"
_SETTINGS = {
    "algo": "ppo",
    "normalize": "dict(norm_obs=True, clip_obs=10.0, norm_reward=True, clip_reward=10.0)",
    "n_envs": 1,
    "n_steps": 2048,
    "batch_size": 64,
    "n_epochs": 10,
    "learning_rate": "lin_3e-4",
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "clip_range_vf": 0.2,
    "ent_coef": 0.0,
    "vf_coef": 0.25,
    "max_grad_norm": 0.5,
    "policy_kwargs": "dict(net_arch=[64, 64])",
}
_ABS = f"abs(1024, 8192, {_CLOCK})"
_RIVALS = {
    **{f"fixed {n}": {"batch_size_callback": f"abs({n}, {n}, {_CLOCK})"} for n in (1024, 2048, 8192)},
    "linear": {"batch_size_callback": "schedule(1024, 8192)"},
    "ABS reversed": {"batch_size_callback": f"reversed_abs(1024, 8192, {_CLOCK})"},
    "ABS, fixed minibatch size": {"batch_size_callback": _ABS, "hold": "minibatch_size"},
}

STUDY = Study(
    id="abs/ppo",
    title="A2: PPO with rollouts that adapt",
    question="Does PPO gain from rollouts that grow as its policy settles?",
    claim="ABS improves PPO on MuJoCo (Park 2026).",
    arms={**_RIVALS, "ABS": {"batch_size_callback": _ABS}},
    scales={
        "smoke": Scale(1_000, 1, MUJOCO_PAIR[:1], 300.0, {"n_epochs": 1, "batch_size": 256}),
        "laptop": Scale(1_000_000, 5, MUJOCO_PAIR, 300.0),
        "paper": Scale(5_000_000, 5, MUJOCO_PAIR, 300.0),
    },
    rules=versus("ABS", _RIVALS),
    settings=_SETTINGS,
    figure="PPO",
)
