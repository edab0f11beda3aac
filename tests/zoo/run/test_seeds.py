"""Several seeds in one command: a run folder each, one failing alone, and what they have in common."""

import argparse
import io
import os
import signal
import time

import numpy as np
import pytest
from run_tools import (
    PARAMS,
    SHORT,
    arguments,
    cartpole,
    episode_lengths,
    evaluations,
    interrupt_when,
    refusal,
    run_folder,
)

from sbbatch.errors import InvalidValue, NumericalError
from sbbatch.zoo.commands import train
from sbbatch.zoo.commands.options import seed_list
from sbbatch.zoo.commands.train import read_request
from sbbatch.zoo.run import processes, seeds
from sbbatch.zoo.run.processes import in_own_process
from sbbatch.zoo.run.seeds import PrefixedStream, SeedResult, run_seeds, summary

WORDS = [*SHORT[:2], *SHORT[4:], "-n", "150", "--eval-freq", "100"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0:5", [0, 1, 2, 3, 4]), ("0,3,7", [0, 3, 7]), ("4", [4]), ("0:3,7,10:12", [0, 1, 2, 7, 10, 11])],
)
def test_seeds_are_given_as_python_counts(text, numbers):
    assert seed_list(text) == numbers


@pytest.mark.parametrize("text", ["5:5", "5:2", "0:3,2", "-1", "a", "1,", ":5", "0:2147483649", "0:2000000000"])
def test_other_words_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="got '"):
        seed_list(text)


def test_each_seed_has_a_run_of_its_own_and_the_table_their_mean(tmp_path, capsys):
    assert train.main([*WORDS, "-f", str(tmp_path / "many"), "--seeds", "3,5", "--verbose", "0", *PARAMS]) == 0
    table = capsys.readouterr().out.splitlines()[-4:]
    assert train.main([*WORDS, "-f", str(tmp_path / "one"), "--seed", "5", *PARAMS]) == 0
    runs = [run_folder(tmp_path / "many", n) for n in (1, 2)]
    assert [arguments(run)["seed"] for run in runs] == [3, 5]
    assert evaluations(runs[1]) == evaluations(run_folder(tmp_path / "one"))
    last = [evaluations(run)[1][-1][0] for run in runs]
    assert table[0].startswith("seed")
    for line, run, seed, at_last in zip(table[1:3], runs, (3, 5), last, strict=True):
        assert line.startswith(f"{seed}     {at_last:.1f} at 160")
        assert line.endswith(str(run))
    assert table[3].startswith(f"mean  {np.mean(last):.1f} ± {np.std(last, ddof=1):.1f}")


def kill_seed_1(folder):
    """At the end of a run, in its process."""
    if arguments(folder.path)["seed"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def test_side_by_side_the_same_agents_are_trained_and_a_kill_takes_no_other_along(tmp_path, capfd):
    words = [*WORDS, "-f", str(tmp_path), "--verbose", "0", *PARAMS]
    assert run_seeds(read_request(words), [0, 1], 2, kill_seed_1) == 137
    captured = capfd.readouterr()
    runs = {arguments(run)["seed"]: run for run in (tmp_path / "dqn").iterdir()}
    assert [runs[seed].name for seed in (0, 1)] == ["CartPole-v1_1", "CartPole-v1_2"]
    assert "2 seeds, 2 side by side, with 1 thread each" in captured.out
    assert "seed 0: last evaluation: return" in captured.out
    assert f"seed 1 was killed; give fewer --jobs if memory is short; resume its run with --resume {runs[1]}\n" in (
        captured.err
    )
    rows = captured.out.splitlines()[-3:]
    assert rows[1].endswith("killed")
    assert rows[2].startswith("mean  ")
    assert cartpole(tmp_path / "one", eval_freq=100) == 0
    assert evaluations(runs[0]) == evaluations(run_folder(tmp_path / "one"))


def test_what_is_wrong_with_all_of_them_is_told_once_and_nothing_more_begun(tmp_path, capsys, monkeypatch):
    begun = []

    def refuse(_, request, *__):
        begun.append(request.seed)
        time.sleep(0.1)
        raise InvalidValue("no such thing")

    monkeypatch.setattr(processes, "in_own_process", refuse)
    monkeypatch.setattr(processes, "_POLL_SECONDS", 0.05)
    words = [*WORDS, "-f", str(tmp_path), "--seeds", "0:9", "--jobs", "2", *PARAMS]
    assert train.main(words) == 2
    assert capsys.readouterr().err == "sbbatch: error: no such thing\n"
    assert len(begun) < 5


@pytest.mark.parametrize(
    ("error", "code"), [(NumericalError("step 7: the loss became nan"), 3), (InvalidValue("the disk is full"), 2)]
)
def test_numbers_that_broke_end_one_seed_and_a_mistake_the_rest(tmp_path, capsys, monkeypatch, error, code):
    real = seeds.run

    def run(request, begun):
        if request.seed == 1:
            raise error
        return real(request, begun)

    monkeypatch.setattr(seeds, "run", run)
    assert train.main([*WORDS, "-f", str(tmp_path), "--seeds", "0:3", *PARAMS]) == code
    captured = capsys.readouterr()
    assert ("seed 1: " * (code == 3)) + str(error) in captured.err
    rows = captured.out.splitlines()[-4:]
    assert rows[1].split()[-1] == ("failed" if code == 3 else "begun")
    assert rows[3].endswith("2 seeds" if code == 3 else "1 seed")


def test_ctrl_c_ends_the_run_and_begins_no_other(tmp_path, capsys, monkeypatch):
    real = seeds.run

    def run(request, begun):
        def interrupt(folder):
            begun(folder)
            signal.setitimer(signal.ITIMER_REAL, 0.2)

        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        return real(request, interrupt)

    monkeypatch.setattr(seeds, "run", run)
    words = [*WORDS, "-n", "1000000", "-f", str(tmp_path), "--seeds", "0:3", *PARAMS]
    assert train.main(words) == 130
    rows = capsys.readouterr().out.splitlines()
    assert sum("stopped early" in row for row in rows) == 2  # its own line and that of the table
    assert sum(row.endswith("not begun") for row in rows) == 2
    assert (run_folder(tmp_path) / "CartPole-v1.zip").exists()
    assert not run_folder(tmp_path, 2).exists()


def test_a_process_of_its_own_leaves_ctrl_c_to_the_first_one():
    assert in_own_process(signal.raise_signal, signal.SIGINT) is None  # a terminal sends it to all of them


def test_ctrl_c_ends_all_processes_with_their_models(tmp_path, capsys):
    words = [*WORDS, "-n", "1000000", "--eval-freq", "-1", "-f", str(tmp_path), "--seeds", "0:3", "--jobs", "2"]
    interrupt_when(lambda: len(list(tmp_path.glob("dqn/*/0.monitor.csv"))) == 2)
    assert train.main([*words, *PARAMS]) == 130  # what was asked of it, not the SIGTERM that it sent on
    assert len(list(tmp_path.glob("dqn/*/CartPole-v1.zip"))) == 2
    out = capsys.readouterr().out.splitlines()
    assert sum(row.endswith("not begun") for row in out) == 1
    assert sum(row.endswith("stopped early") for row in out) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0:2", "--seed", "3"], "--seed and --seeds: got both; give one of them"),
        (["--jobs", "2"], "--jobs: got 2, but there is one run only"),
        (["--seeds", "0:2", "--jobs", "0"], "--jobs: got 0, expected an int between 1 and"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path, capsys, words, message):
    assert message in refusal(capsys, *WORDS, "-f", str(tmp_path), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_trained_agent_is_trained_further_with_each_seed(tmp_path, dqn_run):
    model = str(dqn_run / "CartPole-v1.zip")
    words = [*WORDS, "-f", str(tmp_path), "-i", model, "--seeds", "1,2", "--eval-freq", "-1"]
    assert train.main(words) == 0
    first, second = (episode_lengths(run_folder(tmp_path, n)) for n in (1, 2))
    assert first != second


def test_a_table_says_what_became_of_each_seed(tmp_path):
    np.savez(tmp_path / "evaluations.npz", timesteps=[1000, 2000], results=[[3.0, 5.0], [1.0, 2.0]])
    rows = summary([SeedResult(0, 0, tmp_path), SeedResult(1, 143, tmp_path / "x"), SeedResult(2)])
    assert rows[1].startswith("0     1.5 at 2,000     4.0 at 1,000")
    assert rows[2].endswith("stopped early")
    assert rows[3].split() == ["2", "-", "-", "-", "not", "begun"]
    assert rows[4].split() == ["mean", "1.5", "4.0", "1", "seed"]  # one has no deviation


def test_lines_of_several_processes_are_written_in_one_piece():
    pieces = []
    target = io.StringIO()
    target.write = pieces.append
    stream = PrefixedStream(target, "seed 3: ")
    for text in ("a", "b\nc", "\n\n", "half"):
        stream.write(text)
    assert pieces == ["seed 3: ab\n", "seed 3: c\n"]
    assert not stream.isatty()
