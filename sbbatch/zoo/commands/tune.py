"""``sbbatch tune``."""

from sbbatch.zoo.tune.search import main

__all__ = ["main"]
