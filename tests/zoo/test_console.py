"""What a person sees while a command runs, also when nobody looks any more."""

import os
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from sbbatch import PQN
from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.cli import guarded
from sbbatch.zoo.console.progress import Progress, episodes_bar, say, size_now, warn

SHORT = ["--algo", "dqn", "-n", "200", "--seed", "0", "--num-threads", "1", "--eval-freq", "100"]
PARAMS = ["-params", "learning_starts:100", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]


def without_reader():
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


def test_a_reader_who_leaves_does_not_end_a_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", without_reader())
    assert train.main([*SHORT, "-f", str(tmp_path), "--no-progress", *PARAMS]) == 0
    assert (tmp_path / "dqn/CartPole-v1_1/CartPole-v1.zip").exists()
    told = capsys.readouterr().err
    assert "standard output is lost ([Errno 32] Broken pipe); going on without it" in told
    assert told.count("warning") == 1


@pytest.mark.parametrize("device", [None, "/dev/full"])  # None: the shell closed it
def test_a_full_disk_or_no_output_at_all_does_not_matter(capsys, monkeypatch, device):
    with nullcontext() if device is None else open(device, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert guarded(lambda argv=None: say("one") or print("two") or say("three") or 0)() == 0
        assert ("No space left on device" in capsys.readouterr().err) == (device is not None)


def test_lost_warnings_do_not_end_a_run(monkeypatch):
    monkeypatch.setattr(sys, "stderr", without_reader())
    assert guarded(lambda argv=None: warn("nobody reads this") or warn("nor this") or 0)() == 0


def test_lines_are_neither_wrapped_nor_marked_up(capsys):
    path = "logs/[red]/" + 40 * "long" + " 50% ± 3"
    say(path)
    warn(path)
    assert capsys.readouterr() == (f"{path}\n", f"sbbatch: warning: {path}\n")


def test_progress_tells_batch_size_and_mean_divergence(capsys):
    history = []
    model = SimpleNamespace(
        batch_size=24, batch_size_callback=SimpleNamespace(history=history), _total_timesteps=100, ep_info_buffer=None
    )
    progress = Progress(terminal=False)
    progress.model, progress.num_timesteps = model, 50
    progress._on_training_start()
    progress._on_training_end()
    assert "divergence" not in capsys.readouterr().out
    history.append({"timesteps": 50, "divergence_mean": 0.12345, "size": 24})
    progress._on_training_end()
    assert "batch 24, divergence 0.123, " in capsys.readouterr().out
    history.append({"timesteps": 60, "noise_scale": 812.3, "size": 24})
    progress._on_training_end()
    assert "batch 24, noise scale 812, " in capsys.readouterr().out
    history.append({"timesteps": 70, "size": 24})
    progress._on_training_end()
    assert "batch 24, ? left" in capsys.readouterr().out
    assert size_now(PQN("MlpPolicy", "CartPole-v1", n_steps=16)) == "rollout 16"


def test_the_bar_of_a_terminal_says_the_same(capsys):
    progress = Progress(terminal=True)
    progress.model = SimpleNamespace(batch_size=8, _total_timesteps=100, ep_info_buffer=[{"r": 12.34}])
    progress._on_training_start()
    progress.num_timesteps = 150  # the last rollout may be longer than what was asked for
    progress._on_training_end()
    shown = capsys.readouterr().err
    assert "100/100 agent steps" in shown
    assert "steps/s, return 12.3, batch 8" in shown


@pytest.mark.parametrize("wanted", [False, True])
def test_a_bar_counts_episodes_if_it_is_wanted(capsys, wanted):
    with episodes_bar(4, wanted) as tell:
        tell(3, 50)
    assert ("/4" in capsys.readouterr().err) == wanted


def test_without_a_terminal_lines_count_episodes(capsys, monkeypatch):
    monkeypatch.setattr("sbbatch.zoo.console.progress._LINE_SECONDS", 0.0)
    with episodes_bar(4) as tell:
        tell(3, 5_000)
    with episodes_bar(None) as tell:
        tell(1, 10)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" of each")[0] for line in lines] == [
        "3/4 episodes have ended after 5,000 agent steps",
        "1 episodes have ended after 10 agent steps",
    ]
