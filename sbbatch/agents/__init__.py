"""The agents: one recipe a file."""

from sbbatch.agents.base.agent import Agent
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

# The only registry: command line, contract tests and studies read it.
ALGORITHMS: dict[str, type[Agent]] = {
    "dqn": DQN,
    "qrdqn": QRDQN,
    "iqn": IQN,
    "rainbow": Rainbow,
    "compact_rainbow": CompactRainbow,
    "der": DER,
    "drq": DrQ,
    "spr": SPR,
    "btr": BTR,
    "pqn": PQN,
    "ppo": PPO,
}
