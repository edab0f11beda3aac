"""``sbbatch enjoy``."""

from sbbatch.zoo.play.enjoy import main

__all__ = ["main"]
