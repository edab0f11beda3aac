"""``sbbatch train``."""

from sbbatch.zoo.run.train import main

__all__ = ["main"]
