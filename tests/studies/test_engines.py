"""Engines: whatever is killed on the way, the table of a study is that of an undisturbed run."""

import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from drive import STUDY
from studies import commands_of

from sbbatch.errors import UserError
from sbbatch.studies.engines import LocalPool, Ray, Slurm
from sbbatch.studies.runner import run_missing

DRIVE = Path(__file__).with_name("drive.py")


def table(root):
    """What the runs came to, but for the time they took."""
    numbers = {one.run.id: one.result().numbers() for one in commands_of(STUDY, root)}
    return {(run, name): str(value) for run, of in numbers.items() for name, value in of.items() if name != "seconds"}


def drive(root, *engine):
    """Begin a process that runs what is missing."""
    with (root / "driven.txt").open("a") as output:
        return subprocess.Popen([sys.executable, DRIVE, root, *engine], stdout=output, stderr=subprocess.STDOUT)


def workers(root):
    """Trainings of the study, and workers of Ray."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or [""]
        if words[0] == "ray::execute" or any(str(root) in word and word.endswith("/train") for word in words):
            found.append(process)
    return found


def run_with_kills(root, engine, n_kills, seed):
    """Run the study to its end, beginning it again whenever it is over too soon; the number of processes killed."""
    generator, killed = random.Random(seed), 0
    driver = drive(root, *engine)
    while any(one.state != "done" for one in commands_of(STUDY, root)):
        if driver.poll() is not None:
            driver = drive(root, *engine)
        time.sleep(generator.uniform(0.1, 4.0))
        victims = workers(root)
        if killed < n_kills and victims:  # something is under way
            if generator.random() < 0.1:
                victims = [psutil.Process(driver.pid)]
            with suppress(psutil.NoSuchProcess):
                generator.choice(victims).kill()
                killed += 1
    driver.wait()
    return killed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    commands = commands_of(STUDY, root)
    assert [outcome for _, outcome in run_missing(commands, LocalPool(2))] == ["done"] * len(commands)
    return table(root)


@pytest.fixture
def cluster():
    """Two nodes of Ray on this machine, with one core each."""
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


@pytest.mark.slow
def test_twenty_kills_on_this_machine_change_nothing(tmp_path, undisturbed):
    assert run_with_kills(tmp_path, ["pool"], 20, seed=0) == 20
    assert table(tmp_path) == undisturbed


@pytest.mark.slow
def test_twenty_kills_on_a_cluster_of_two_nodes_change_nothing(tmp_path, undisturbed, cluster):
    assert run_with_kills(tmp_path, ["ray", cluster.address], 20, seed=1) == 20
    assert table(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_node_that_dies_takes_no_result_with_it(tmp_path, undisturbed, cluster):
    driver = drive(tmp_path, "ray", cluster.address)
    while sum(one.state == "done" for one in commands_of(STUDY, tmp_path)) < 2:
        assert driver.poll() is None, (tmp_path / "driven.txt").read_text()
        time.sleep(0.5)
    (node,) = cluster.worker_nodes
    cluster.remove_node(node, allow_graceful=False)
    assert driver.wait() == 0, (tmp_path / "driven.txt").read_text()
    assert table(tmp_path) == undisturbed


@pytest.mark.slow
def test_submitit_runs_a_study_too(tmp_path, undisturbed):
    assert drive(tmp_path, "slurm").wait() == 0, (tmp_path / "driven.txt").read_text()
    assert table(tmp_path) == undisturbed


@pytest.mark.parametrize("engine", [Ray("auto"), Slurm(Path("jobs"), options={"slurm_partitoin": "cpu"})])
def test_where_there_is_no_cluster_one_line_says_so(tmp_path, monkeypatch, engine):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--(ray|slurm)"):
        list(engine.map(commands_of(STUDY, tmp_path)))
