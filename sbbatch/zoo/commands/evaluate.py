"""``sbbatch evaluate``."""

from sbbatch.zoo.play.evaluate import main

__all__ = ["main"]
