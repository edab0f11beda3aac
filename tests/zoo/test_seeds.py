"""Several seeds in one command: a run folder each, one failing alone, and what they have in common."""

import argparse
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sbbatch.errors import InvalidValue, NumericalError
from sbbatch.settings.reader import read_yaml
from sbbatch.zoo.commands.options import seed_list
from sbbatch.zoo.run import seeds, train
from sbbatch.zoo.run.seeds import PrefixedStream, SeedResult, summary

REPOSITORY = Path(train.__file__).parents[2]
SHORT = ["--algo", "dqn", "--num-threads", "1", "--eval-freq", "150", "--eval-episodes", "1", "-n", "200"]
PARAMS = ["-params", "learning_starts:100", "train_freq:16", "gradient_steps:1", "policy_kwargs:dict(net_arch=[16])"]


def seed_of(folder):
    return read_yaml(folder / "CartPole-v1/args.yml")["seed"]


def results_of(folder):
    with np.load(folder / "evaluations.npz") as arrays:
        return arrays["results"].tolist()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0:5", [0, 1, 2, 3, 4]), ("0,3,7", [0, 3, 7]), ("4", [4]), ("0:3,7,10:12", [0, 1, 2, 7, 10, 11])],
)
def test_seeds_are_given_as_python_counts(text, numbers):
    assert seed_list(text) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5:5", "5:5 is empty: its end is not included"),
        ("5:2", "5:2 is empty"),
        ("1,2,1", "the seed 1 twice"),
        ("0:3,2", "the seed 2 twice"),
        ("-1", "expected a range such as 0:5"),
        ("a", "expected a range such as 0:5"),
        ("1,", "expected a range such as 0:5"),
        (":5", "expected a range such as 0:5"),
        ("0:2147483649", "expected seeds up to 2147483647"),
        ("0:2000000000", "more than 1000 seeds"),
    ],
)
def test_other_words_are_refused(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        seed_list(text)


def test_each_seed_has_a_run_of_its_own_and_the_table_their_mean(tmp_path, capsys):
    assert train.main([*SHORT, "-f", str(tmp_path / "many"), "--seeds", "3,5", "--verbose", "0", *PARAMS]) == 0
    table = capsys.readouterr().out.splitlines()[-4:]
    assert train.main([*SHORT, "-f", str(tmp_path / "one"), "--seed", "5", *PARAMS]) == 0
    runs = [tmp_path / "many/dqn" / f"CartPole-v1_{n}" for n in (1, 2)]
    assert [seed_of(run) for run in runs] == [3, 5]
    assert results_of(runs[1]) == results_of(tmp_path / "one/dqn/CartPole-v1_1")
    assert table[0].split("  ")[0] == "seed"
    last = [results_of(run)[-1][0] for run in runs]
    best = [max(row[0] for row in results_of(run)) for run in runs]
    for line, run, seed, at_last, at_best in zip(table[1:3], runs, (3, 5), last, best, strict=True):
        assert line.startswith(f"{seed}     {at_last:.1f} at 208")
        assert f"{at_best:.1f} at " in line
        assert line.endswith(str(run))
    assert table[3].startswith(f"mean  {np.mean(last):.1f} ± {np.std(last):.1f}")
    assert f"{np.mean(best):.1f} ± {np.std(best):.1f}" in table[3]


def test_processes_side_by_side_train_the_same_agents(tmp_path, capfd):
    words = [*SHORT, "-f", str(tmp_path), "--verbose", "0", *PARAMS]
    assert train.main([*words, "--seeds", "0:2", "--jobs", "2"]) == 0
    side_by_side = {seed_of(run): results_of(run) for run in (tmp_path / "dqn").iterdir()}
    out = capfd.readouterr().out
    assert "2 seeds, 2 side by side, with 1 thread each" in out
    assert "seed 1: last evaluation: return" in out
    assert out.splitlines()[-1].startswith("mean  ")
    assert train.main([*words, "--seed", "1"]) == 0
    assert side_by_side[1] == results_of(tmp_path / "dqn/CartPole-v1_3")
    assert sorted(side_by_side) == [0, 1]


def test_what_is_wrong_with_all_of_them_is_told_and_nothing_more_begun(tmp_path, capfd):
    words = [*SHORT, "-f", str(tmp_path), "--seeds", "0:3", *PARAMS[:-1], "policy:MultiInputPolicy"]
    assert train.main(words) == 2
    assert capfd.readouterr().err.count("expected a Dict") == 1
    assert train.main([*words, "--jobs", "2"]) == 2
    assert 1 <= capfd.readouterr().err.count("expected a Dict") <= 2  # those that were begun together
    assert not (tmp_path / "dqn").exists()


def test_numbers_that_broke_end_one_seed_only(tmp_path, capsys, monkeypatch):
    real = seeds.run

    def run(request, begun):
        if request.seed == 1:
            raise NumericalError("step 7: the loss became nan")
        return real(request, begun)

    monkeypatch.setattr(seeds, "run", run)
    assert train.main([*SHORT, "-f", str(tmp_path), "--seeds", "0:3", *PARAMS]) == 3
    captured = capsys.readouterr()
    assert "sbbatch: error: seed 1: step 7: the loss became nan" in captured.err
    rows = captured.out.splitlines()[-4:]
    assert rows[1].split() == ["1", "-", "-", "-", "failed"]
    assert rows[3].endswith("2 seeds")


def test_ctrl_c_ends_the_run_and_begins_no_other(tmp_path, capsys, monkeypatch):
    real = seeds.run

    def run(request, begun):
        def interrupt(folder):
            begun(folder)
            signal.setitimer(signal.ITIMER_REAL, 0.2)

        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        return real(request, interrupt)

    monkeypatch.setattr(seeds, "run", run)
    words = [*SHORT[:-1], "1000000", "-f", str(tmp_path), "--seeds", "0:3", *PARAMS]
    assert train.main(words) == 130
    rows = capsys.readouterr().out.splitlines()
    assert sum("stopped early" in row for row in rows) == 2  # its own line and that of the table
    assert sum(row.endswith("not begun") for row in rows) == 2
    assert (tmp_path / "dqn/CartPole-v1_1/CartPole-v1.zip").exists()
    assert not (tmp_path / "dqn/CartPole-v1_2").exists()


@pytest.mark.parametrize("to_all", [True, False])
def test_ctrl_c_ends_all_processes_with_their_models(tmp_path, to_all):
    """A terminal sends it to every process; ``kill`` only to the first."""
    script = [sys.executable, str(REPOSITORY / "scripts" / "train.py")]
    words = [*SHORT[:-1], "1000000", "--eval-freq", "-1", "-f", str(tmp_path), "--seeds", "0:3", "--jobs", "2", *PARAMS]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*script, *words], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("dqn/*/0.monitor.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130  # what was asked of it, not the SIGTERM that it sent on
    assert len(list(tmp_path.glob("dqn/*/CartPole-v1.zip"))) == 2
    assert sum(row.endswith("not begun") for row in out.splitlines()) == 1
    assert sum(row.endswith("stopped early") for row in out.splitlines()) == 2


def test_a_killed_process_is_told_and_takes_no_other_along(tmp_path, capfd, monkeypatch):
    real = seeds._start

    def start(request, seed, n_threads):
        process, connection = real(request, seed, n_threads)
        if seed == 1:
            process.kill()
        return process, connection

    monkeypatch.setattr(seeds, "_start", start)
    assert train.main([*SHORT, "-f", str(tmp_path), "--seeds", "0:2", "--jobs", "2", *PARAMS]) == 137
    captured = capfd.readouterr()
    assert "warning: seed 1 was killed by SIGKILL; give fewer --jobs if the memory is full\n" in captured.err
    rows = captured.out.splitlines()[-3:]
    assert rows[1].split() == ["1", "-", "-", "-", "killed"]
    assert rows[2].endswith("1 seed")


def test_a_killed_process_says_how_its_run_goes_on(tmp_path, capsys):
    seeds._tell_if_killed(SeedResult(3, -signal.SIGKILL, tmp_path))
    assert capsys.readouterr().err.endswith(f"; its run goes on with --resume {tmp_path}\n")
    seeds._tell_if_killed(SeedResult(3, -signal.SIGTERM, tmp_path))  # we asked it to end
    assert capsys.readouterr().err == ""


def test_a_stop_before_any_run_was_begun_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(seeds, "_side_by_side", lambda *_: 143)
    assert train.main([*SHORT, "-f", str(tmp_path), "--seeds", "0:3", "--jobs", "2", *PARAMS]) == 143
    assert capsys.readouterr().out == "stopped before any run was begun\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0:2", "--seed", "3"], "--seed and --seeds: got both; give one of them"),
        (["--jobs", "2"], "--jobs: got 2, but there is one run only"),
        (["--seeds", "0:2", "--jobs", "0"], "--jobs: got 0, expected an int between 1 and"),
        (["--seeds", "3:3"], "--seeds: got '3:3', but 3:3 is empty"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, words, message):
    assert train.main([*SHORT, "-f", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_trained_agent_goes_on_with_each_seed(tmp_path):
    assert train.main([*SHORT, "-f", str(tmp_path), "--seed", "0", *PARAMS]) == 0
    model = tmp_path / "dqn/CartPole-v1_1/CartPole-v1.zip"
    words = [
        "--algo",
        "dqn",
        "-n",
        "400",
        "-f",
        str(tmp_path),
        "-i",
        str(model),
        "--seeds",
        "1,2",
        "--eval-freq",
        "200",
    ]
    assert train.main(words) == 0
    first, second = (tmp_path / "dqn" / f"CartPole-v1_{n}" / "0.monitor.csv" for n in (2, 3))
    lengths = [[line.split(",")[1] for line in path.read_text().splitlines()[2:]] for path in (first, second)]
    assert lengths[0] != lengths[1]


def test_a_table_says_what_became_of_each_seed(tmp_path):
    np.savez(tmp_path / "evaluations.npz", timesteps=[1000, 2000], results=[[3.0, 5.0], [1.0, 2.0]])
    results = [SeedResult(0, 0, tmp_path), SeedResult(1, -15, tmp_path / "x"), SeedResult(2)]
    rows = summary(results)
    assert rows[1].startswith("0     1.5 at 2,000     4.0 at 1,000")
    assert rows[2].endswith("stopped early")
    assert rows[3].split() == ["2", "-", "-", "-", "not", "begun"]
    assert rows[4].startswith("mean  1.5 ± 0.0")
    assert [result.shell_code for result in results] == [0, 143, 0]


def test_lines_of_several_processes_are_written_in_one_piece():
    class Pieces(io.StringIO):
        def __init__(self):
            super().__init__()
            self.pieces = []

        def write(self, text):
            self.pieces.append(text)
            return len(text)

    target = Pieces()
    stream = PrefixedStream(target, "seed 3: ")
    for text in ("a", "b\nc", "\n\n", "half"):
        stream.write(text)
    assert target.pieces == ["seed 3: ab\n", "seed 3: c\n"]
    assert not stream.isatty()


def test_a_mistake_after_the_first_seed_still_shows_the_table(tmp_path, capsys, monkeypatch):
    real = seeds.run

    def run(request, begun):
        if request.seed == 1:
            raise InvalidValue("the disk is full")
        return real(request, begun)

    monkeypatch.setattr(seeds, "run", run)
    assert train.main([*SHORT, "-f", str(tmp_path), "--seeds", "0:3", *PARAMS]) == 2
    captured = capsys.readouterr()
    assert "the disk is full" in captured.err
    assert captured.out.splitlines()[-1].endswith("1 seed")
