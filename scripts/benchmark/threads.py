"""
``python scripts/benchmark/threads.py``: gradient steps per second of QR-DQN at batch size 8, with one and two threads,
alone and beside busy processes, with OpenMP's own spin and with sbbatch's. A table for docs/speed.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

BUSY = "while True: pass"


def measure(seconds: float) -> float:
    """Gradient steps per second of this process, whose environment says how many threads there are."""
    from sbbatch import QRDQN

    agent = QRDQN("CnnPolicy", "ALE/Breakout-v5", batch_size=8, learning_starts=200, buffer_size=2_000, seed=0).learn(
        300
    )
    agent.train(20, 8)
    began, n_steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        agent.train(5, 8)
        n_steps += 5
    return n_steps / (time.perf_counter() - began)


def run(n_threads: int, spin: str, n_busy: int, seconds: float) -> float:
    """The same in a process of its own, beside so many that only count."""
    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(n_busy)]
    try:
        spins = {} if spin == "sbbatch" else {"GOMP_SPINCOUNT": spin}
        environment = {**os.environ, **spins, "OMP_NUM_THREADS": str(n_threads)}
        words = [sys.executable, __file__, "--measure", "--seconds", str(seconds)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    args = parser.parse_args()
    if args.measure:
        print(measure(args.seconds))
        return
    print("| threads | spin | alone | beside one busy process | beside two |\n|---|---|---|---|---|")
    # libgomp spins 300,000 times by default (its manual, GOMP_SPINCOUNT).
    for n_threads, spin in ((1, "sbbatch"), (2, "300000"), (2, "sbbatch")):
        rates = [run(n_threads, spin, n_busy, args.seconds) for n_busy in (0, 1, 2)]
        print(f"| {n_threads} | {spin} | {' | '.join(f'{rate:.0f}' for rate in rates)} |", flush=True)


if __name__ == "__main__":
    main()
