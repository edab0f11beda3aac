"""The house rules that a machine can hold: layers import downwards only, files stay readable, imports stay cheap."""

import ast
import configparser
import subprocess
import sys
from pathlib import Path

import pytest

import sbbatch

PACKAGE = Path(sbbatch.__file__).parent
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
# Lower layers must not import higher ones. Modules of one layer may know each other.
LAYERS = [
    {"errors", "version", "files", "recipe", "safe_pickle"},
    {"functional", "analysis"},
    {"networks", "replay", "envs", "batch"},
    {"components"},
    {"policies", "rollout_policies"},
    {"algorithms", "interop"},
    {"zoo"},
    {"studies"},
]


def layer_of(name):
    for level, members in enumerate(LAYERS):
        if name in members:
            return level
    raise AssertionError(f"sbbatch.{name} has no layer: add it to LAYERS")


def imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sbbatch."):
            yield node.module.split(".")[1]
        assert not isinstance(node, ast.Import) or not any(name.name.startswith("sbbatch.") for name in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_layers_import_downwards_only(path):
    relative = path.relative_to(PACKAGE)
    if relative.name == "__init__.py" and len(relative.parts) == 1:
        return  # the public names
    own = relative.with_suffix("").parts[0]
    for part in imported_parts(path):
        assert layer_of(part) <= layer_of(own), f"{relative} imports sbbatch.{part}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_below_500_lines(path):
    assert len(path.read_text().splitlines()) <= 500


def test_importing_sbbatch_leaves_the_heavy_and_the_global_alone():
    code = "import sys, sbbatch; print([m for m in ('rl_zoo3', 'matplotlib', 'optuna', 'ray') if m in sys.modules])"
    # SB3's own logger imports matplotlib's figure if it is installed; it is not for us to add anything.
    bare = code.replace("sys, sbbatch", "sys, stable_baselines3, sb3_contrib")
    runs = [subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True) for c in (code, bare)]
    assert runs[0].stdout == runs[1].stdout


def test_every_folder_of_the_package_is_in_the_wheel():
    setup = PACKAGE.parent / "setup.cfg"
    if not setup.exists():
        pytest.skip("installed without the repository")
    config = configparser.ConfigParser()
    config.read(setup)
    folders = {".".join((PACKAGE.name, *path.parent.relative_to(PACKAGE).parts)) for path in SOURCES}
    listed = config["options"]["packages"].split()
    assert listed == sorted(folders | {"sbbatch.hyperparams"})
    data = {pattern.strip() for pattern in config["options.package_data"]["sbbatch.hyperparams"].split(",")}
    kept = PACKAGE.parent / "hyperparams"
    files = {path for path in kept.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files == {path for pattern in data for path in kept.glob(pattern)}
