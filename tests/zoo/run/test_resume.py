"""``--resume``: a run that was killed or stopped goes on in its own folder, as if it had never had a break."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from run_tools import PARAMS, REPOSITORY, SHORT, arguments, cartpole, config, evaluations, run_folder
from run_tools import refusal as refused

from sbbatch import DQN, PPO
from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.options import BY_NAME, OPTIONS, train_parser
from sbbatch.zoo.commands.train import read_request
from sbbatch.zoo.logs.folders import alone_in, open_run
from sbbatch.zoo.logs.kept_logs import kept_evaluations, kept_rows
from sbbatch.zoo.run.resume import newest_model

ADAPTIVE = "batch_size_callback:abs(8, 16, check_every=5, window=1, warmup=1)"
CHECKPOINTS = ["--save-freq", "100", "--save-replay-buffer"]
PARAMS = [*PARAMS, "train_freq:4"]
PARAMS.remove("train_freq:16")


def resume(folder, *more):
    return train.main(["--resume", str(folder), "--no-progress", "--verbose", "0", *more])


def refusal(capsys, folder, *more):
    return refused(capsys, "--resume", str(folder), *more)


def evaluated_at(folder):
    return evaluations(folder)[0]


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
    code = "import os, sys; from sbbatch import DQN; from sbbatch.zoo.commands.train import main; step = DQN._on_step; "
    code += "DQN._on_step = lambda self: os.kill(os.getpid(), 9) if self.num_timesteps == 360 else step(self); "
    code += "main(sys.argv[1:])"
    words = [*SHORT, "--eval-freq", "70", "-f", str(logs), "-n", "600", *CHECKPOINTS, *PARAMS, ADAPTIVE]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.run([sys.executable, "-c", code, *words], env=environment, stdout=subprocess.DEVNULL)
    assert process.returncode == -signal.SIGKILL
    assert steps_of(run_folder(logs) / "0.monitor.csv")[-1] > 300
    return logs


@pytest.fixture
def killed(killed_run, tmp_path):
    """A copy of it that a test may resume."""
    return run_folder(Path(shutil.copytree(killed_run, tmp_path / "logs")))


def test_a_killed_run_is_resumed_to_its_end_as_if_without_a_break(killed, capsys, monkeypatch):
    seen, step, settings = [], DQN._on_step, config(killed)

    def spy(agent):
        seen.append((agent.num_timesteps, agent._current_progress_remaining))
        step(agent)

    monkeypatch.setattr(DQN, "_on_step", spy)
    old = {name: steps_of(killed / name) for name in ("0.monitor.csv", "progress.csv", "batch_size.csv")}
    assert resume(killed) == 0
    out = capsys.readouterr().out
    assert f"resuming from {killed / 'rl_model_300_steps.zip'} at 300 of 600 agent steps" in out
    assert f"loaded {killed / 'rl_model_replay_buffer_300_steps.npz'}" in out
    # Schedules, evaluations and checkpoints.
    assert (seen[0], seen[-1]) == ((301, pytest.approx(1 - 301 / 600)), (600, 0.0))
    assert evaluated_at(killed) == [70, 140, 210, 280, 350, 420, 490, 560, 600]
    saved = sorted(int(path.stem.split("_")[2]) for path in killed.glob("rl_model_?00_steps.zip"))
    assert saved == [100, 200, 300, 400, 500]
    model = DQN.load(killed / "CartPole-v1.zip")
    assert (model.num_timesteps, model._total_timesteps) == (600, 600)
    # Tables keep their lines up to the model, and none twice.
    for name, steps_before in old.items():
        steps, n_kept = steps_of(killed / name), sum(step <= 300 for step in steps_before)
        assert steps[:n_kept] == steps_before[:n_kept]
        assert steps == sorted(steps)
        assert steps[-1] > 500
    episodes = [line.split(",") for line in (killed / "0.monitor.csv").read_text().splitlines()[2:]]
    assert len({row[3] for row in episodes}) == len(episodes)
    seconds = [float(row[2]) for row in episodes]
    assert seconds == sorted(seconds)
    n_kept = sum(step <= 300 for step in old["0.monitor.csv"])
    assert seconds[n_kept] - seconds[n_kept - 1] < 30  # the break is no training
    # What is written down.
    assert config(killed) == settings
    first, second = (killed / "CartPole-v1/command.txt").read_text().splitlines()
    assert first.startswith("sbbatch train --algo dqn")
    assert second.startswith(f"sbbatch train --resume {killed}")
    written = arguments(killed)
    assert (written["n_timesteps"], written["seed"], written["steps_before"]) == (600, 0, 0)
    assert "resume" not in written


def test_a_complete_run_says_so_and_a_longer_one_trains_on(killed, capsys):
    assert resume(killed) == 0
    assert resume(killed) == 0
    assert f"the run in {killed} is complete after 600 agent steps; give -n to train on" in capsys.readouterr().out
    assert resume(killed, "-n", "640") == 0
    assert DQN.load(killed / "CartPole-v1.zip").num_timesteps == 640
    assert evaluated_at(killed)[-4:] == [560, 600, 630, 640]  # multiples of 70, and the two ends
    assert config(killed)["n_timesteps"] == arguments(killed)["n_timesteps"] == 640


def test_damaged_files_are_skipped_and_named(killed, capsys):
    for path in (killed / "rl_model_300_steps.zip", killed / "rl_model_replay_buffer_200_steps.npz"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert resume(killed) == 0
    captured = capsys.readouterr()
    assert f"resuming from {killed / 'rl_model_100_steps.zip'} at 100 of 600" in captured.out
    assert "rl_model_300_steps.zip is skipped" in captured.err
    assert "rl_model_replay_buffer_200_steps.npz is skipped" in captured.err
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


def test_without_any_replay_buffer_the_newest_model_starts_with_an_empty_one(killed, capsys):
    for path in killed.glob("*replay_buffer*"):
        path.unlink()
    _, steps, buffer = newest_model(open_run(killed), DQN, "CartPole-v1", False)
    assert (steps >= 300, buffer) == (True, None)
    assert resume(killed) == 0
    assert "it starts with an empty one (see --save-replay-buffer)" in capsys.readouterr().out
    assert DQN.load(killed / "CartPole-v1.zip").num_timesteps == 600


def test_a_best_model_of_steps_that_come_again_is_told(killed, capsys):
    model = DQN.load(killed / "rl_model_300_steps.zip")
    model.num_timesteps = 333
    model.save(killed / "best_model.zip")
    assert resume(killed) == 0
    assert "best_model.zip is of 333 agent steps, which are trained again; it stays" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--batch-size", "3"], "batch_size: got 3, but the run has 64"),
        (["-params", "gamma:0.5"], "gamma: got 0.5, but the run has"),
        (["--algo", "qrdqn"], "--algo: got qrdqn, but the run has dqn"),
        (["--env", "Acrobot-v1"], "--env: got Acrobot-v1, but the run has CartPole-v1"),
        (["--seed", "4"], "--seed: got 4, but the run has 0"),
        (["--vec-env", "subproc"], "--vec-env: got subproc, but the run has dummy"),
        (["-n", "500"], "--n-timesteps: got 500, but the run has 600"),
        (["--seeds", "0:3"], "--seeds: it is for new runs"),
        (["-i", "x.zip"], "--trained-agent: it is for new runs"),
    ],
)
def test_an_option_that_contradicts_the_run_is_refused(killed, capsys, more, message):
    before = {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()}
    assert message in refusal(capsys, killed, *more)
    assert {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()} == before


def test_an_option_that_says_what_the_run_says_is_none(killed):
    words = ["--algo", "dqn", "--env", "CartPole-v1", "--seed", "0", "--eval-freq", "70", "-n", "600", *PARAMS]
    request = read_request(["--resume", str(killed), *words, "--save-freq", "50"])
    assert (request.resumption.steps, request.resumption.total) == (300, 600)
    assert (request.save_freq, request.save_replay_buffer) == (50, True)


def test_every_option_is_declared_in_the_table():
    flags = [flag for option in OPTIONS for flag in option.flags]
    assert len(flags) == len(set(flags))
    actions = [action for action in train_parser()._actions if type(action).__name__ not in ("_HelpAction", "Refused")]
    assert {flag for action in actions for flag in action.option_strings} == set(flags)
    assert {action.dest for action in actions} == set(BY_NAME)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("args.yml", "env: os:CartPole-v1\n", "args.yml seed: "),
        ("args.yml", "env: os:CartPole-v1\nalgo: dqn\nseed: 0\n", "expected an id without a module"),
        ("args.yml", "env: CartPole-v1\nalgo: dqn\nseed: x\n", "args.yml: --seed: got x"),
        ("args.yml", "env: CartPole-v1\nalgo: dqn\nsave_replay_buffer: maybe\n", "which is not allowed"),
        ("args.yml", "env: CartPole-v1\nalgo: dqn\nseed: 0\n", "has evaluations of 1 episodes, not 5"),
        ("args.yml", "env: NoSuch-v1\nalgo: dqn\nseed: 0\n", "unknown environment"),
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
    for path in [*killed.glob("*.zip")]:
        path.unlink()
    assert "has no model to resume from; begin the run anew, see" in refusal(capsys, killed)


def test_nobody_resumes_a_run_in_progress(killed, capsys):
    with alone_in(open_run(killed)):
        assert f"the run in {killed} is still in progress" in refusal(capsys, killed)
    assert resume(killed) == 0


def test_a_run_that_began_with_a_model_ends_after_its_own_steps(tmp_path, capsys):
    assert cartpole(tmp_path, *CHECKPOINTS, n=100, params=PARAMS) == 0
    model = run_folder(tmp_path) / "CartPole-v1.zip"
    assert cartpole(tmp_path, *CHECKPOINTS, "-i", str(model), n=200, params=[]) == 0
    second = run_folder(tmp_path, 2)
    (second / "CartPole-v1.zip").unlink()
    assert resume(second) == 0
    assert "at 200 of 300 agent steps" in capsys.readouterr().out
    assert DQN.load(second / "CartPole-v1.zip").num_timesteps == 300


def test_a_normalized_run_is_resumed_with_the_statistics_of_its_model(tmp_path, capsys):
    words = ["--algo", "ppo", *SHORT[2:], "-f", str(tmp_path), "-n", "320", "--save-freq", "64", "--eval-freq", "70"]
    words += ["-params", "n_envs:1", "n_steps:32", "batch_size:32", "n_epochs:1", "normalize:True"]
    assert train.main([*words, "policy_kwargs:dict(net_arch=[8])"]) == 0
    folder = run_folder(tmp_path, algo="ppo")
    # A checkpoint is taken after the update, and misses none.
    models = [PPO.load(folder / f"rl_model_{n}_steps.zip") for n in (64, 128)]
    assert [model._n_updates for model in models] == [2, 4]
    for name in ("CartPole-v1.zip", "best_model.zip", "rl_model_vecnormalize_256_steps.npz"):
        (folder / name).unlink()
    assert resume(folder) == 0
    captured = capsys.readouterr()
    assert "rl_model_256_steps.zip is skipped" in captured.err
    assert "rl_model_192_steps.zip at 192 of 320 agent steps" in captured.out
    assert "replay buffer" not in captured.out
    assert PPO.load(folder / "CartPole-v1.zip").num_timesteps == 320
    # 320 steps and a reset at the beginning, and another where it was resumed.
    assert float(np.load(folder / "vecnormalize.npz")["obs..count"]) == pytest.approx(322, abs=0.1)


def test_what_a_kill_cut_off_is_dropped(tmp_path):
    path = tmp_path / "0.monitor.csv"
    path.write_text('#{"t_start": 1}\nr,l,t,steps\n1.0,5,0.5,5\n2.0,6,0.75,11\n3.0,7,1.0,18\n4.0,')
    text, columns, rows = kept_rows(path, "steps", 11)
    assert text.splitlines()[2:] == ["1.0,5,0.5,5", "2.0,6,0.75,11"]
    assert (columns, rows[-1][2]) == (["r", "l", "t", "steps"], "0.75")
    table = tmp_path / "progress.csv"
    table.write_text('a,time/total_timesteps\n"x, y",4\n1,8\n2,\n3,9\n')
    assert kept_rows(table, "time/total_timesteps", 8)[0] == 'a,time/total_timesteps\n"x, y",4\n1,8\n'
    assert kept_evaluations(tmp_path / "evaluations.npz", 8) == {}


def test_a_damaged_log_is_started_over_and_that_is_told(tmp_path, capsys):
    for name in ("progress.csv", "evaluations.npz"):
        (tmp_path / name).write_text("no table at all\n")
    assert not any(kept_rows(tmp_path / "progress.csv", "steps", 10))
    assert kept_evaluations(tmp_path / "evaluations.npz", 10) == {}
    assert capsys.readouterr().err.count("cannot be continued (damaged or another file); starting over") == 2
