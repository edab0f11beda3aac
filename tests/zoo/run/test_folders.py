"""Run folders: the zoo's layout, never shared, refused in one sentence when they cannot be written."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from sbbatch.errors import UserError
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.logs.folders import create_run_folder, describe_run, find_run, folder_name, probe_folder


def test_the_layout_is_the_zoos(tmp_path):
    run = create_run_folder(tmp_path, "qrdqn", "ALE/Breakout-v5")
    assert run.path == tmp_path / "qrdqn" / "ALE-Breakout-v5_1"
    assert run.parameters == run.path / "ALE-Breakout-v5"
    assert run.last_model == run.path / "ALE-Breakout-v5.zip"
    assert run.best_model == run.path / "best_model.zip"


def test_slashes_and_colons_never_make_folders():
    assert folder_name("ALE/Breakout-v5") == "ALE-Breakout-v5"
    assert folder_name("module:Env-v0") == "module-Env-v0"


def test_the_next_run_gets_the_next_number(tmp_path):
    for number in (1, 2, 3):
        assert create_run_folder(tmp_path, "dqn", "CartPole-v1").path.name == f"CartPole-v1_{number}"
    (tmp_path / "dqn" / "CartPole-v1_7").mkdir()
    assert create_run_folder(tmp_path, "dqn", "CartPole-v1").path.name == "CartPole-v1_8"


def test_runs_that_start_at_once_never_share_a_folder(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda _: create_run_folder(tmp_path, "dqn", "CartPole-v1").path, range(48)))
    assert len(set(runs)) == 48


def test_a_uuid_is_appended_and_found_again(tmp_path):
    unique = "123e4567-e89b-12d3-a456-426614174000"
    run = create_run_folder(tmp_path, "dqn", "CartPole-v1", unique)
    assert run.path.name == f"CartPole-v1_1_{unique}"
    assert find_run(tmp_path, "dqn", "CartPole-v1").path == run.path
    assert create_run_folder(tmp_path, "dqn", "CartPole-v1").path.name == "CartPole-v1_2"


def test_what_is_written_down_loads_as_plain_yaml(tmp_path):
    run = create_run_folder(tmp_path, "dqn", "CartPole-v1")
    describe_run(run, {"learning_rate": 1e-5, "train_freq": (1, "step")}, {"folder": tmp_path}, ["train.py", "a b"])
    assert read_yaml(run.parameters / "config.yml") == {"learning_rate": 1e-5, "train_freq": [1, "step"]}
    assert read_yaml(run.parameters / "args.yml") == {"folder": str(tmp_path)}
    assert (run.parameters / "command.txt").read_text() == "train.py 'a b'\n"


def test_a_missing_run_names_those_that_exist(tmp_path):
    with pytest.raises(UserError, match="no run of dqn on CartPole-v1"):
        find_run(tmp_path, "dqn", "CartPole-v1")
    create_run_folder(tmp_path, "dqn", "CartPole-v1")
    with pytest.raises(UserError, match=r"run 5 of dqn on CartPole-v1.*runs there: 1"):
        find_run(tmp_path, "dqn", "CartPole-v1", 5)


def test_trying_a_folder_leaves_nothing_behind(tmp_path):
    probe_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


def test_a_file_on_the_way_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(UserError, match="taken is a file, not a folder"):
        create_run_folder(tmp_path / "taken" / "logs", "dqn", "CartPole-v1")
