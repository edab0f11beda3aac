"""``python scripts/benchmark``: our agents beside their peers on the same work, in one run."""

from compare import main

if __name__ == "__main__":
    raise SystemExit(main())
