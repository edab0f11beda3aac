"""``--resume``: a run that was killed or stopped goes on in its own folder, as if it had never had a break."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sbbatch import DQN, PPO
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.logs.folders import alone_in, open_run
from sbbatch.zoo.logs.kept_logs import kept_episodes, kept_evaluations, kept_table
from sbbatch.zoo.run import train
from sbbatch.zoo.run.resume import newest_model, read_resumption

REPOSITORY = Path(train.__file__).parents[2]
SHORT = ["--algo", "dqn", "--seed", "0", "--num-threads", "1", "--eval-freq", "70", "--eval-episodes", "2"]
PARAMS = ["-params", "learning_starts:50", "train_freq:4", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]
ADAPTIVE = "batch_size_callback:abs(8, 16, check_every=5, window=1, warmup=1)"
CHECKPOINTS = ["--save-freq", "100", "--save-replay-buffer"]


def run_folder(logs, algo="dqn"):
    return logs / algo / "CartPole-v1_1"


def resume(folder, *more):
    return train.main(["--resume", str(folder), "--no-progress", "--verbose", "0", *more])


def refusal(capsys, folder, *more):
    capsys.readouterr()
    assert resume(folder, *more) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("sbbatch: error: ")
    return lines[-1]


def evaluated_at(folder):
    with np.load(folder / "evaluations.npz") as arrays:
        assert len(arrays["timesteps"]) == len(arrays["results"]) == len(arrays["ep_lengths"])
        return arrays["timesteps"].tolist()


def steps_of(path):
    """The column of agent steps of one of a run's tables."""
    lines = path.read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    column = {"progress.csv": "time/total_timesteps", "batch_size.csv": "timesteps", "0.monitor.csv": "steps"}
    return [int(float(row[column[path.name]])) for row in rows]


@pytest.fixture(scope="module")
def killed_run(tmp_path_factory):
    """A run of 600 steps that SIGKILL ended some way behind its checkpoint at 300 steps."""
    logs = tmp_path_factory.mktemp("killed") / "logs"
    # Slowed down, so that the kill comes long before the next checkpoint however busy the machine is.
    slow = "import time; from sbbatch import DQN; step = DQN._on_step; "
    slow += "DQN._on_step = lambda self: (time.sleep(0.01 if self.num_timesteps > 300 else 0), step(self))[1]; "
    slow += "import sys; from sbbatch.zoo.run.train import main; main(sys.argv[1:])"
    words = [*SHORT, "-f", str(logs), "-n", "600", *CHECKPOINTS, *PARAMS, ADAPTIVE]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", slow, *words], env=environment, stdout=subprocess.DEVNULL)
    folder, deadline = run_folder(logs), time.monotonic() + 120
    while time.monotonic() < deadline:
        logged = (folder / "0.monitor.csv").exists() and steps_of(folder / "0.monitor.csv")
        if (folder / "rl_model_300_steps.zip").exists() and logged and logged[-1] > 310:
            break
        time.sleep(0.01)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    assert not (folder / "rl_model_400_steps.zip").exists()
    return logs


@pytest.fixture
def killed(killed_run, tmp_path):
    """A copy of it that a test may go on with."""
    return run_folder(Path(shutil.copytree(killed_run, tmp_path / "logs")))


def test_a_killed_run_goes_on_to_its_end_without_a_doubled_line(killed, capsys):
    before = {name: steps_of(killed / name) for name in ("0.monitor.csv", "progress.csv", "batch_size.csv")}
    assert before["0.monitor.csv"][-1] > 300
    assert resume(killed) == 0
    out = capsys.readouterr().out
    assert f"going on with {killed / 'rl_model_300_steps.zip'} at 300 of 600 agent steps" in out
    assert f"loaded {killed / 'rl_model_replay_buffer_300_steps.npz'}" in out
    assert evaluated_at(killed) == [70, 140, 210, 280, 350, 420, 490, 560, 600]
    for name, old in before.items():
        steps = steps_of(killed / name)
        kept = [step for step in old if step <= 300]
        assert steps[: len(kept)] == kept
        assert steps == sorted(steps)
        assert steps[-1] > 500
    episodes = steps_of(killed / "0.monitor.csv")
    assert len(set(episodes)) == len(episodes)
    model = DQN.load(killed / "CartPole-v1.zip")
    assert (model.num_timesteps, model._total_timesteps) == (600, 600)
    assert sorted(path.name for path in killed.glob("rl_model_?00_steps.zip")) == [
        f"rl_model_{n}00_steps.zip" for n in range(1, 6)
    ]


def test_episodes_and_their_times_go_on(killed):
    old = [line.split(",") for line in (killed / "0.monitor.csv").read_text().splitlines()[2:]]
    assert resume(killed) == 0
    new = [line.split(",") for line in (killed / "0.monitor.csv").read_text().splitlines()[2:]]
    kept = [row for row in old if int(row[3]) <= 300]
    assert new[: len(kept)] == kept
    seconds = [float(row[2]) for row in new]
    assert seconds == sorted(seconds)
    # The break is no training: no episode of CartPole lasts as long as this test did until here.
    assert seconds[len(kept)] - seconds[len(kept) - 1] < 30


def test_the_schedules_go_on_with_the_total_of_the_run(killed, monkeypatch):
    seen = []
    step = DQN._on_step

    def spy(agent):
        seen.append((agent.num_timesteps, agent._current_progress_remaining))
        step(agent)

    monkeypatch.setattr(DQN, "_on_step", spy)
    assert resume(killed) == 0
    assert seen[0] == (301, pytest.approx(1 - 301 / 600))
    assert seen[-1] == (600, 0.0)


def test_the_command_is_written_down_and_the_settings_stay(killed):
    before = read_yaml(killed / "CartPole-v1/config.yml")
    assert resume(killed) == 0
    assert read_yaml(killed / "CartPole-v1/config.yml") == before
    first, second = (killed / "CartPole-v1/command.txt").read_text().splitlines()
    assert first.startswith("sbbatch train --algo dqn")
    assert second.startswith(f"sbbatch train --resume {killed}")
    written = read_yaml(killed / "CartPole-v1/args.yml")
    assert (written["n_timesteps"], written["seed"], written["steps_before"]) == (600, 0, 0)
    assert "resume" not in written


def test_a_run_that_is_done_says_so_and_a_longer_one_trains_on(killed, capsys):
    assert resume(killed) == 0
    assert resume(killed) == 0
    assert f"the run in {killed} has done its 600 agent steps; give -n for more" in capsys.readouterr().out
    assert resume(killed, "-n", "640") == 0
    assert DQN.load(killed / "CartPole-v1.zip").num_timesteps == 640
    assert evaluated_at(killed)[-4:] == [560, 600, 630, 640]  # multiples of 70, and the two ends
    assert read_yaml(killed / "CartPole-v1/config.yml")["n_timesteps"] == 640
    assert resume(killed) == 0  # up to its new length
    assert "640 agent steps; give -n" in capsys.readouterr().out


def test_damaged_files_are_left_aside_with_their_names(killed, capsys):
    for path in (killed / "rl_model_300_steps.zip", killed / "rl_model_replay_buffer_200_steps.npz"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert resume(killed) == 0
    captured = capsys.readouterr()
    assert f"going on with {killed / 'rl_model_100_steps.zip'} at 100 of 600" in captured.out
    assert "rl_model_300_steps.zip is left aside" in captured.err
    assert "rl_model_replay_buffer_200_steps.npz is left aside" in captured.err
    assert evaluated_at(killed)[:3] == [70, 140, 210]
    assert len(evaluated_at(killed)) == 9
    assert DQN.load(killed / "CartPole-v1.zip").num_timesteps == 600


def test_a_run_without_any_evaluation_yet_evaluates_as_if_it_had_had_no_break(killed):
    for path in [*killed.glob("*00_steps.*"), *killed.glob("best*"), killed / "evaluations.npz"]:
        if "100_steps" not in path.name:
            path.unlink()
    words = ["--eval-freq", "200", "--save-freq", "150"]
    arguments = killed / "CartPole-v1/args.yml"
    arguments.write_text(arguments.read_text().replace("eval_freq: 70", "eval_freq: 200"))
    assert resume(killed, *words) == 0
    assert evaluated_at(killed) == [200, 400, 600]
    saved = sorted(int(path.stem.split("_")[2]) for path in killed.glob("rl_model_*_steps.zip"))
    assert saved == [100, 252, 404, 556]


def test_without_any_replay_buffer_the_newest_model_goes_on_with_an_empty_one(killed, capsys):
    for path in killed.glob("*replay_buffer*"):
        path.unlink()
    newest = newest_model(open_run(killed), DQN, "CartPole-v1", False)
    assert (newest.steps >= 300, newest.replay_buffer) == (True, None)
    assert resume(killed) == 0
    assert "it starts with an empty one (see --save-replay-buffer)" in capsys.readouterr().out
    assert DQN.load(killed / "CartPole-v1.zip").num_timesteps == 600


def test_a_best_model_of_steps_that_come_again_is_told(killed, capsys):
    model = DQN.load(killed / "rl_model_300_steps.zip")
    model.num_timesteps = 333
    model.save(killed / "best_model.zip")
    assert resume(killed) == 0
    assert "best_model.zip is of 333 agent steps, which come again; it stays" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", "3"], "--batch-size: got 3, but the run in"),
        (["-params", "gamma:0.5"], "gamma: got 0.5, but the run in"),
        (["--algo", "qrdqn"], "--algo: got qrdqn, but the run in"),
        (["--env", "Acrobot-v1"], "--env: got Acrobot-v1, but the run in"),
        (["--seed", "4"], "--seed: got 4, but the run in"),
        (["--eval-freq", "71"], "--eval-freq: got 71, but the run in"),
        (["--vec-env", "subproc"], "--vec-env: got subproc, but the run in"),
        (["-n", "500"], "--n-timesteps: got 500, but the run in"),
        (["--seeds", "0:3"], "--seeds: it is for new runs, and --resume goes on with one; remove it"),
        (["-i", "x.zip"], "--trained-agent: it is for new runs"),
        (["-conf", "x.yml"], "it is for new runs"),
    ],
)
def test_an_option_that_contradicts_the_run_is_refused(killed, capsys, more, message):
    before = {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()}
    assert message in refusal(capsys, killed, *more)
    assert {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()} == before


def test_an_option_that_says_what_the_run_says_is_none(killed):
    words = ["--algo", "dqn", "--env", "CartPole-v1", "--seed", "0", "--eval-freq", "70", "-n", "600", *PARAMS[:-1]]
    request = read_resumption(["--resume", str(killed), *words, PARAMS[-1], "--save-freq", "50"])
    assert (request.resumption.steps, request.resumption.total) == (300, 600)
    assert (request.args.save_freq, request.args.save_replay_buffer) == (50, True)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("args.yml", "env: os:CartPole-v1\n", "expected an id without a module"),
        ("args.yml", "env: CartPole-v1\nalgo: dqn\nseed: x\n", "args.yml: --seed: got 'x'"),
        ("args.yml", "env: CartPole-v1\nalgo: dqn\nsave_replay_buffer: maybe\n", "args.yml: "),
        ("args.yml", "env: CartPole-v1\nalgo: dqn\nseed: 0\n", "has evaluations of 2 games, expected 5"),
        ("args.yml", "env: NoSuch-v1\nalgo: dqn\nseed: 0\n", "give --gym-packages again"),
        ("config.yml", "n_timesteps: 600\ncallback: [{subprocess.Popen: {args: [ls]}}]\n", "known to be harmless"),
    ],
)
def test_the_files_of_a_run_are_not_trusted(killed, capsys, name, text, message):
    (killed / "CartPole-v1" / name).write_text(text)
    assert message in refusal(capsys, killed)
    assert (killed / "rl_model_300_steps.zip").exists()


def test_a_folder_that_is_no_run_is_refused_with_the_nearest_one(killed, capsys):
    assert f"did you mean {killed}?" in refusal(capsys, killed.parent)
    assert f"did you mean {killed}?" in refusal(capsys, killed.parent / "CartPole-v1_9")
    assert f"did you mean {killed}?" in refusal(capsys, killed / "CartPole-v1.zip")
    shutil.copytree(killed / "CartPole-v1", killed / "copy")
    assert "config.yml and args.yml lie in CartPole-v1 and copy; remove all but" in refusal(capsys, killed)
    shutil.rmtree(killed / "copy")
    for path in [*killed.glob("*.zip")]:
        path.unlink()
    assert "has no model to go on with; begin the run anew, see" in refusal(capsys, killed)


def test_nobody_goes_on_with_a_run_that_is_still_going_on(killed, capsys):
    with alone_in(open_run(killed)):
        assert f"the run in {killed} is still going on" in refusal(capsys, killed)
    assert resume(killed) == 0


def test_a_run_that_began_with_a_model_ends_after_its_own_steps(tmp_path, capsys):
    words = [*SHORT, "-f", str(tmp_path), *CHECKPOINTS]
    assert train.main([*words, "-n", "100", *PARAMS]) == 0
    model = run_folder(tmp_path) / "CartPole-v1.zip"
    assert train.main([*words, "-n", "200", "-i", str(model)]) == 0
    second = tmp_path / "dqn/CartPole-v1_2"
    (second / "CartPole-v1.zip").unlink()
    assert resume(second) == 0
    assert "at 200 of 300 agent steps" in capsys.readouterr().out
    assert DQN.load(second / "CartPole-v1.zip").num_timesteps == 300


def test_a_normalized_run_goes_on_with_the_statistics_of_its_model(tmp_path, capsys):
    words = ["--algo", "ppo", *SHORT[2:], "-f", str(tmp_path), "-n", "320", "--save-freq", "64", "-params", "n_envs:1"]
    words += ["n_steps:32", "batch_size:32", "n_epochs:1", "normalize:True", "policy_kwargs:dict(net_arch=[8])"]
    assert train.main(words) == 0
    folder = run_folder(tmp_path, "ppo")
    for name in ("CartPole-v1.zip", "best_model.zip", "rl_model_vecnormalize_256_steps.npz"):
        (folder / name).unlink()
    assert resume(folder) == 0
    captured = capsys.readouterr()
    assert "rl_model_256_steps.zip is left aside" in captured.err
    assert "rl_model_192_steps.zip at 192 of 320 agent steps" in captured.out
    assert "replay buffer" not in captured.out
    assert PPO.load(folder / "CartPole-v1.zip").num_timesteps == 320
    # 320 steps and a reset at the beginning, and another where it went on.
    assert float(np.load(folder / "vecnormalize.npz")["obs..count"]) == pytest.approx(322, abs=0.1)


def test_a_checkpoint_is_taken_after_the_update_and_misses_none(tmp_path):
    words = ["--algo", "ppo", *SHORT[2:], "-f", str(tmp_path), "-n", "96", "--save-freq", "32", "--eval-freq", "-1"]
    assert train.main([*words, "-params", "n_envs:1", "n_steps:32", "batch_size:32", "n_epochs:1"]) == 0
    models = [PPO.load(run_folder(tmp_path, "ppo") / f"rl_model_{n}_steps.zip") for n in (32, 64)]
    assert [model._n_updates for model in models] == [1, 2]


def test_what_a_kill_cut_off_is_dropped(tmp_path):
    path = tmp_path / "0.monitor.csv"
    path.write_text('#{"t_start": 1}\nr,l,t,steps\n1.0,5,0.5,5\n2.0,6,0.75,11\n3.0,7,1.0,18\n4.0,')
    text, seconds = kept_episodes(path, 11)
    assert text.splitlines()[2:] == ["1.0,5,0.5,5", "2.0,6,0.75,11"]
    assert seconds == 0.75
    table = tmp_path / "progress.csv"
    table.write_text('a,time/total_timesteps\n"x, y",4\n1,8\n2,\n3,9\n')
    assert kept_table(table, 8) == ('a,time/total_timesteps\n"x, y",4\n1,8\n', ["a", "time/total_timesteps"])
    assert kept_evaluations(tmp_path / "evaluations.npz", 8) == {}


@pytest.mark.parametrize("content", ["no table at all\n", "a,b\n1,2\n"])
def test_a_log_that_cannot_be_gone_on_with_is_begun_anew_and_that_is_told(tmp_path, capsys, content):
    for name, kept in (("0.monitor.csv", kept_episodes), ("progress.csv", kept_table)):
        (tmp_path / name).write_text(content)
        assert not any(kept(tmp_path / name, 10))
        assert f"{name} cannot be gone on with" in capsys.readouterr().err
    (tmp_path / "evaluations.npz").write_text(content)
    assert kept_evaluations(tmp_path / "evaluations.npz", 10) == {}
    assert "evaluations.npz cannot be gone on with" in capsys.readouterr().err
