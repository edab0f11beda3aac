"""Where things were before version 0.2: saved models, YAML files and code of users may still name the old places."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# old module -> new module
MODULES = {
    "sbbatch.algorithms": "sbbatch.agents",
    "sbbatch.algorithms.value": "sbbatch.agents.base.replay",
    "sbbatch.algorithms.scaling": "sbbatch.agents.base.agent",
    "sbbatch.algorithms.rollout": "sbbatch.agents.base.rollout",
    "sbbatch.algorithms.numerics": "sbbatch.agents.base.finite",
    "sbbatch.algorithms.network_defaults": "sbbatch.networks.network_defaults",
    "sbbatch.batch.timer": "sbbatch.batch.callback",
    "sbbatch.policies": "sbbatch.networks.value_policy",
    "sbbatch.recipe": "sbbatch.arguments",
    "sbbatch.rollout_policies": "sbbatch.networks.rollout_policy",
    "sbbatch.zoo.games": "sbbatch.settings.games",
    "sbbatch.zoo.screen": "sbbatch.zoo.play.screen",
    **{f"sbbatch.algorithms.{name}": f"sbbatch.agents.{name}" for name in ("dqn", "qrdqn", "iqn", "rainbow", "btr")},
    **{f"sbbatch.algorithms.{name}": f"sbbatch.agents.{name}" for name in ("pqn", "ppo")},
}
# old name -> new name of what is in them
NAMES = {"ValueAlgorithm": "ReplayAgent", "BatchScalingAgent": "Agent", "ResizableRollout": "RolloutAgent"}


class _OldNames(MetaPathFinder, Loader):
    """Finds a module by its old name, and fills it with what the new one has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=any(name.startswith(f"{fullname}.") for name in MODULES))

    def exec_module(self, module: ModuleType) -> None:
        new = importlib.import_module(MODULES[module.__name__])
        own = {name: value for name, value in vars(new).items() if not name.startswith("__")}
        vars(module).update({old: own[name] for old, name in NAMES.items() if name in own} | own)


def keep_old_names() -> None:
    """Let old names be imported; what they name are the classes of the new places."""
    if not any(isinstance(finder, _OldNames) for finder in sys.meta_path):
        sys.meta_path.append(_OldNames())
