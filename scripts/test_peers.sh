#!/usr/bin/env bash
# SB3's and sb3-contrib's own published tests of DQN, PPO and QRDQN, with our classes standing in for theirs.
# Needs the package index (the tests are in the sdists). docs/parity.md lists the tests that cannot pass, and why.
source "$(dirname "$0")/venv.sh" tests
root="$PWD"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
for package in stable-baselines3 sb3-contrib; do
    version="$(.venv/bin/python -c "import importlib.metadata as m; print(m.version('$package'))")"
    .venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: \
        --dest "$folder" "$package==$version"
done
for archive in "$folder"/*.tar.gz; do tar -xzf "$archive" -C "$folder"; done
.venv/bin/python -m pip install --quiet --disable-pip-version-check pandas # SB3's tests of its logger read CSV with it

status=0
for suite in "$folder"/stable_baselines3-*/tests "$folder"/sb3_contrib-*/tests; do
    echo "== $(basename "$(dirname "$suite")")"
    (cd "$suite" && PYTHONPATH="$root/tests/peers" OMP_NUM_THREADS=1 "$root/.venv/bin/python" -m pytest \
        -p stand_in -q -p no:cacheprovider -W ignore -k "DQN or dqn or PPO or ppo" .) || status=1
done
exit "$status"
