"""
How PyTorch's threads wait for each other. By default they spin, for milliseconds at every one of thousands of barriers,
so that two threads beside another busy process are far slower than one (docs/speed.md). A short spin costs nothing when
cores are free. OpenMP reads this once, when PyTorch is imported: import sbbatch first. What the user says wins, also by
the other variable, which ours would override.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
