# Sourced by the other scripts: make .venv if it is missing, and install what the extras named in "$1" need.
# Only files of this repository decide what is installed; a second call does nothing while they are unchanged.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extras="$1"
python_command="${PYTHON:-python3}"

if ! "$python_command" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "sbbatch needs Python 3.10 or newer, but '$python_command' is $("$python_command" --version 2>&1 || true);" \
        "set PYTHON to a newer one" >&2
    exit 2
fi
# Not the interpreter: a `venv` that fails for want of ensurepip (Debian without python3-venv) leaves it behind.
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    echo "making .venv"
    "$python_command" -m venv --clear .venv
fi
stamp=".venv/installed-$extras"
wanted="$(cat setup.cfg pyproject.toml | cksum)"
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "installing sbbatch[$extras] into .venv (the first time takes a few minutes)"
    # Named first and exactly: this is the release the test suite runs with.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
    # As a folder on the path, which type checkers see too, and not by an import hook.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat \
        --editable ".[$extras]"
    echo "$wanted" > "$stamp"
fi
