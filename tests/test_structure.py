"""House rules that a machine can hold: no circles, small folders and files, cheap imports, a zoo that only shrinks."""

import ast
import configparser
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import architecture
import pytest

import sbbatch

PACKAGE = Path(sbbatch.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
ZOO_SHARE = 0.37  # of the lines of the package; may only fall
MOST_LINES, MOST_FILES = 500, 15


def n_lines(paths):
    return sum(len(path.read_text().splitlines()) for path in paths)


def test_no_circle_of_files():
    list(TopologicalSorter(architecture.file_imports()).static_order())  # raises CycleError and names them


def test_packages_import_downwards_only():
    """The order itself is the contract in setup.cfg."""
    done = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_folders_stay_small():
    folders = Counter(path.parent for top in (PACKAGE, ROOT / "tests", ROOT / "scripts") for path in top.rglob("*.py"))
    own = Counter(path.parent for top in (PACKAGE, ROOT / "tests") for path in top.rglob("__init__.py"))
    assert {str(folder): n for folder, n in (folders - own).items() if n > MOST_FILES} == {}


def test_the_zoo_only_shrinks():
    assert n_lines((PACKAGE / "zoo").rglob("*.py")) / n_lines(SOURCES) <= ZOO_SHARE


def test_no_name_stands_twice_in_the_zoo():
    names = Counter()
    for path in (PACKAGE / "zoo").rglob("*.py"):
        defined = (ast.FunctionDef, ast.ClassDef)
        names.update(node.name for node in ast.parse(path.read_text()).body if isinstance(node, defined))
    own = {"main", "make_parser", "register"}  # of each command, and of the face of the zoo
    assert [name for name, n in names.items() if n > 1 and name not in own and not name.startswith("_")] == []


def test_the_picture_of_the_architecture_is_that_of_the_code():
    assert architecture.PICTURE.read_text() == architecture.draw(), "python scripts/architecture.py"


def test_importing_sbbatch_leaves_the_heavy_and_the_global_alone():
    heavy = ("ale_py", "rl_zoo3", "matplotlib", "optuna", "ray")
    code = f"import sys, sbbatch; print([m for m in {heavy} if m in sys.modules])"
    # SB3's own logger imports matplotlib's figure if it is installed; it is not for us to add anything.
    bare = code.replace("sys, sbbatch", "sys, stable_baselines3, sb3_contrib")
    runs = [subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True) for c in (code, bare)]
    assert runs[0].stdout == runs[1].stdout


def test_every_folder_of_the_package_is_in_the_wheel():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    folders = {".".join((PACKAGE.name, *path.parent.relative_to(PACKAGE).parts)) for path in SOURCES}
    listed = config["options"]["packages"].split()
    assert listed == sorted(folders | {"sbbatch.hyperparams"})
    data = {pattern.strip() for pattern in config["options.package_data"]["sbbatch.hyperparams"].split(",")}
    kept = ROOT / "hyperparams"
    files = {path for path in kept.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files == {path for pattern in data for path in kept.glob(pattern)}
