"""
How PyTorch's threads wait for each other. By default they spin, for milliseconds at every one of thousands of barriers,
so that two threads beside another busy process are far slower than one (docs/speed.md). A short spin costs nothing when
cores are free. OpenMP reads this once, when PyTorch is imported: import sbbatch first. A value of the user's own wins.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
