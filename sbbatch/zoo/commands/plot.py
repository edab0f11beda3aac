"""``sbbatch plot``."""

from sbbatch.zoo.plot.curves import main

__all__ = ["main"]
