#!/usr/bin/env bash
# On a fresh machine: make .venv, install, train QR-DQN with batch size 8 on an Atari game for some ten minutes, compare
# it with a random policy, and leave a learning curve and a GIF. Arguments go to `sbbatch quickstart`, e.g. --seed 1.
source "$(dirname "$0")/venv.sh" plots
exec .venv/bin/python -m sbbatch.zoo.commands.quickstart "$@"
