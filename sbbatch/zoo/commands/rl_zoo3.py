"""``sbbatch rl_zoo3``."""

from sbbatch.zoo.rl_zoo3 import main

__all__ = ["main"]
