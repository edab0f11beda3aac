"""Deep reinforcement learning in which the batch size is a first-class, adaptive quantity, in the style of SB3."""

from sbbatch.algorithms.btr import BTR
from sbbatch.algorithms.dqn import DQN
from sbbatch.algorithms.iqn import IQN
from sbbatch.algorithms.numerics import flush_denormals
from sbbatch.algorithms.ppo import PPO
from sbbatch.algorithms.pqn import PQN
from sbbatch.algorithms.qrdqn import QRDQN
from sbbatch.algorithms.rainbow import CompactRainbow, Rainbow
from sbbatch.algorithms.scaling import BatchScalingAgent
from sbbatch.batch import ABS, BatchSizeCallback, BatchSizeSchedule, GradientNoiseScale
from sbbatch.envs import make_ale_vec_env
from sbbatch.version import __version__

flush_denormals()

# The only registry: command line, contract tests and studies read it.
ALGORITHMS: dict[str, type[BatchScalingAgent]] = {
    "dqn": DQN,
    "qrdqn": QRDQN,
    "iqn": IQN,
    "rainbow": Rainbow,
    "compact_rainbow": CompactRainbow,
    "btr": BTR,
    "pqn": PQN,
    "ppo": PPO,
}

__all__ = [
    "ABS",
    "ALGORITHMS",
    "BTR",
    "DQN",
    "IQN",
    "PPO",
    "PQN",
    "QRDQN",
    "BatchSizeCallback",
    "BatchSizeSchedule",
    "CompactRainbow",
    "GradientNoiseScale",
    "Rainbow",
    "__version__",
    "make_ale_vec_env",
]
