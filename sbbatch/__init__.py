"""Deep reinforcement learning in which the batch size is a first-class, adaptive quantity, in the style of SB3."""

from sbbatch import openmp  # noqa: F401  # before PyTorch is imported

# isort: split
from sbbatch.agents import ALGORITHMS
from sbbatch.agents.base.finite import flush_denormals
from sbbatch.agents.btr import BTR
from sbbatch.agents.der import DER
from sbbatch.agents.dqn import DQN
from sbbatch.agents.drq import DrQ
from sbbatch.agents.iqn import IQN
from sbbatch.agents.ppo import PPO
from sbbatch.agents.pqn import PQN
from sbbatch.agents.qrdqn import QRDQN
from sbbatch.agents.rainbow import CompactRainbow, Rainbow
from sbbatch.agents.spr import SPR
from sbbatch.analysis import AnalysisMetrics
from sbbatch.batch import ABS, BatchSizeCallback, BatchSizeSchedule, GradientNoiseScale
from sbbatch.envs import make_ale_vec_env
from sbbatch.moved import keep_old_names
from sbbatch.version import __version__

flush_denormals()
keep_old_names()

__all__ = [
    "ABS",
    "ALGORITHMS",
    "BTR",
    "DER",
    "DQN",
    "IQN",
    "PPO",
    "PQN",
    "QRDQN",
    "SPR",
    "AnalysisMetrics",
    "BatchSizeCallback",
    "BatchSizeSchedule",
    "CompactRainbow",
    "DrQ",
    "GradientNoiseScale",
    "Rainbow",
    "__version__",
    "make_ale_vec_env",
]
