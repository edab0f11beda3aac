"""The study of fixed, adaptive and scheduled rollouts: its arithmetic by hand, and every arm in a moment."""

import json

import numpy as np
import pytest

from sbbatch import ABS, BatchSizeSchedule
from sbbatch.errors import InvalidValue
from sbbatch.studies import abs_minatar
from sbbatch.studies.abs_minatar import ARMS, Run, calibrated, callback_of, learning_curve, mean_size, read_thresholds
from sbbatch.studies.abs_minatar_report import report, summary


def result(game="Breakout", arm="fixed 32", seed=0, final=1.0, curve=(0.0, 2.0), divergences=(0.1, 0.2)):
    history = [{"timesteps": 0, "size": 32}]
    history += [
        {"timesteps": 10 * (i + 1), "divergence": d, "divergence_mean": d, "target": 32, "size": 32}
        for i, d in enumerate(divergences)
    ]
    run = {"game": game, "arm": arm, "seed": seed, "n_timesteps": 100}
    return {"run": run, "final_return": final, "curve": list(curve), "history": history, "mean_size": 32.0} | {
        "gradient_steps": 8,
        "seconds": 1.0,
    }


def test_a_curve_averages_the_episodes_of_each_span_and_repeats_where_none_ended():
    curve = learning_curve([1, 2, 40, 100], [1.0, 3.0, 5.0, 7.0], 100)
    assert len(curve) == 40
    assert curve[0] == 2.0  # steps 1 and 2 of 100 are in the first of 40 spans
    assert curve[1] == 2.0  # none ended
    assert curve[15] == 5.0
    assert curve[-1] == 7.0


def test_nothing_has_ended_yet_is_a_return_of_zero():
    assert learning_curve([90], [4.0], 100)[:2] == [0.0, 0.0]


def test_sizes_are_averaged_over_steps():
    history = [{"timesteps": 0, "size": 8}, {"timesteps": 75, "size": 128}]
    assert mean_size(history, 100) == 0.75 * 8 + 0.25 * 128


def test_thresholds_are_the_outer_tenths_of_all_runs():
    runs = [result(divergences=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), result(divergences=[0.7, 0.8, 0.9, 1.0, 0.0])]
    assert calibrated(runs) == pytest.approx((0.1, 0.9))  # of 0.0, 0.1, ... 1.0
    with pytest.raises(InvalidValue, match="nothing to follow"):
        calibrated([result(divergences=[0.0, 0.0])])


def test_thresholds_are_made_once(tmp_path):
    run = Run("Breakout", "ABS 8-128", 0, 100)
    with pytest.raises(InvalidValue, match="'fixed 32' must run first"):
        read_thresholds(tmp_path, run)
    first = Run("Breakout", "fixed 32", 0, 100).file(tmp_path)
    first.parent.mkdir()
    first.write_text(json.dumps(result(divergences=[0.1, 0.3])))
    Run("Breakout", "fixed 32", 0, 999).file(tmp_path).write_text(
        json.dumps(result(divergences=[0.9]))
    )  # another length
    made = read_thresholds(tmp_path, run)
    assert made == pytest.approx((0.12, 0.28))
    Run("Breakout", "fixed 32", 1, 100).file(tmp_path).write_text(json.dumps(result(divergences=[0.9])))
    assert read_thresholds(tmp_path, run) == made


def test_every_run_has_a_file_of_its_own(tmp_path):
    runs = [Run(g, a, s, n) for g in abs_minatar.GAMES for a in ARMS for s in range(3) for n in (100, 200)]
    assert len({run.file(tmp_path) for run in runs}) == len(runs)


def test_arms_are_what_they_are_called():
    fixed, adaptive, line = (callback_of(arm, (0.1, 0.5)) for arm in ("fixed 128", "ABS 8-128", "linear 8-128"))
    assert isinstance(fixed, ABS)
    assert (fixed.config()["min_size"], fixed.config()["max_size"]) == (128, 128)
    assert {"min_size": 8, "max_size": 128, "low": 0.1, "high": 0.5}.items() <= adaptive.config().items()
    assert isinstance(line, BatchSizeSchedule)
    assert [line.schedule(at) for at in (0, 0.5, 1)] == [8, 68, 128]


def test_scores_of_both_games_are_relative_to_the_reference():
    results = [
        result(g, a, s, f)
        for g, scale in (("Breakout", 1.0), ("Asterix", 10.0))
        for a, s, f in [
            ("fixed 32", 0, scale),
            ("fixed 32", 1, 3 * scale),
            ("ABS 8-128", 0, 4 * scale),
            ("ABS 8-128", 1, 4 * scale),
        ]
    ]
    rows = {(what, game, arm): row for what, game, arm, *row in summary(results)}
    assert rows["final greedy return", "Breakout", "fixed 32"][:2] == [2, 2.0]
    assert rows["final greedy return", "both, rel.", "ABS 8-128"] == [2, 2.0, 2.0, 2.0]  # 4 / 2 and 40 / 20
    assert rows["mean training return", "Asterix", "ABS 8-128"][1] == 1.0


def test_tables_and_the_picture_are_written(tmp_path):
    report(tmp_path, [result(arm=arm, seed=seed, final=float(seed)) for arm in ARMS for seed in range(2)])
    assert (tmp_path / "summary.csv").read_text().startswith("what,game,arm,runs,iqm,low,high\n")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_every_arm_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("minatar", reason="MinAtar's games are an extra")
    monkeypatch.setattr(abs_minatar, "N_ENVS", 4)
    monkeypatch.setattr(abs_minatar, "evaluate_policy", lambda *args, **kwargs: (1.0, 0.0))
    monkeypatch.setattr(abs_minatar, "calibrated", lambda results: (0.01, 0.5))
    for arm in ("fixed 32", *ARMS):
        abs_minatar.train(Run("Breakout", arm, 0, 600), tmp_path)
    results = abs_minatar.write_tables(tmp_path, 600)
    assert sorted(one["run"]["arm"] for one in results) == sorted(ARMS)
    sizes = {one["run"]["arm"]: [row["size"] for row in one["history"]] for one in results}
    assert set(sizes["fixed 8"]) == {8}
    assert sizes["linear 8-128"][-1] > sizes["linear 8-128"][0] == 8
    assert all(np.isfinite(one["curve"]).all() for one in results)
    lines = (tmp_path / "runs.csv").read_text().splitlines()
    assert len(lines) == 1 + len(ARMS)
