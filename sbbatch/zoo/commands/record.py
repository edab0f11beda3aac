"""``sbbatch record``."""

from sbbatch.zoo.play.record import main

__all__ = ["main"]
