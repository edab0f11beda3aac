#!/usr/bin/env bash
# Lint, types and tests. Arguments go to pytest, e.g. `scripts/test.sh -m slow` for the tests that train for minutes.
source "$(dirname "$0")/venv.sh" tests
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n "${WORKERS:-2}" --durations=10 "$@"
