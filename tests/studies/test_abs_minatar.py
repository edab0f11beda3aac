"""The study of fixed, adaptive and scheduled rollouts: its arithmetic by hand, and every arm in a moment."""

import csv
import json

import numpy as np
import pytest

from sbbatch import ABS, BatchSizeSchedule
from sbbatch.errors import InvalidValue
from sbbatch.studies import abs_minatar as study
from sbbatch.studies.abs_minatar import ARMS, Run, report


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
    curve = study._learning_curve([4, 5, 40, 100], [1.0, 3.0, 5.0, 7.0], 100)
    assert len(curve) == 40
    assert curve[:3] == [0.0, 2.0, 2.0]  # steps 4 and 5 of 100 are in the second of 40 spans
    assert (curve[15], curve[-1]) == (5.0, 7.0)


def test_sizes_are_averaged_over_steps():
    history = [{"timesteps": 0, "size": 8}, {"timesteps": 75, "size": 128}]
    assert study._mean_size(history, 100) == 0.75 * 8 + 0.25 * 128


def test_thresholds_are_the_outer_tenths_of_all_runs_of_a_length_and_made_once(tmp_path):
    run = Run("Breakout", "ABS 8-128", 0, 100)
    with pytest.raises(InvalidValue, match="'fixed 32' must run first"):
        study._read_thresholds(tmp_path, run)
    (tmp_path / "runs").mkdir()
    halves = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.7, 0.8, 0.9, 1.0, 0.0]
    for seed, length, divergences in ((0, 100, halves[0]), (1, 100, halves[1]), (0, 999, [0.9])):
        file = Run("Breakout", "fixed 32", seed, length).file(tmp_path)
        file.write_text(json.dumps(result(divergences=divergences)))
    assert study._read_thresholds(tmp_path, run) == pytest.approx((0.1, 0.9))  # of 0.0, 0.1, ... 1.0
    Run("Breakout", "fixed 32", 2, 100).file(tmp_path).write_text(json.dumps(result(divergences=[0.9] * 9)))
    assert study._read_thresholds(tmp_path, run) == pytest.approx((0.1, 0.9))
    with pytest.raises(InvalidValue, match="nothing for ABS to follow"):
        study._calibrated([result(divergences=[0.0, 0.0])])


def test_arms_are_what_they_are_called():
    fixed, adaptive, line = (study._callback_of(arm, (0.1, 0.5)) for arm in ("fixed 128", "ABS 8-128", "linear 8-128"))
    assert isinstance(fixed, ABS)
    assert (fixed.config()["min_size"], fixed.config()["max_size"]) == (128, 128)
    assert {"min_size": 8, "max_size": 128, "low": 0.1, "high": 0.5}.items() <= adaptive.config().items()
    assert isinstance(line, BatchSizeSchedule)
    assert [line.schedule(at) for at in (0, 0.5, 1)] == [8, 68, 128]


def test_scores_of_both_games_are_relative_to_the_reference(tmp_path, capsys):
    report(
        tmp_path,
        [
            result(game, arm, seed, final * scale)
            for game, scale in (("Breakout", 1.0), ("Asterix", 10.0))
            for arm, seed, final in [("fixed 32", 0, 1), ("fixed 32", 1, 3), ("ABS 8-128", 0, 4), ("ABS 8-128", 1, 4)]
        ],
    )
    with (tmp_path / "summary.csv").open() as file:
        rows = {(row["what"], row["game"], row["arm"]): row for row in csv.DictReader(file)}
    of_reference = rows["final greedy return", "Breakout", "fixed 32"]
    assert (of_reference["runs"], of_reference["iqm"]) == ("2", "2.0")
    both = rows["final greedy return", "both, rel.", "ABS 8-128"]
    assert [both[name] for name in ("iqm", "low", "high")] == ["2.0"] * 3  # 4 / 2 and 40 / 20
    assert rows["mean training return", "Asterix", "ABS 8-128"]["iqm"] == "1.0"
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_every_arm_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("minatar", reason="MinAtar's games are an extra")
    monkeypatch.setattr(study, "N_ENVS", 4)
    monkeypatch.setattr(study, "evaluate_policy", lambda *args, **kwargs: (1.0, 0.0))
    monkeypatch.setattr(study, "_calibrated", lambda results: (0.01, 0.5))
    for arm in ("fixed 32", *ARMS):
        study.train(Run("Breakout", arm, 0, 600), tmp_path)
    results = study._read_results(tmp_path, "*_600_*")
    sizes = {one["run"]["arm"]: [row["size"] for row in one["history"]] for one in results}
    assert sorted(sizes) == sorted(ARMS)
    assert set(sizes["fixed 8"]) == {8}
    assert sizes["linear 8-128"][-1] > sizes["linear 8-128"][0] == 8
    assert all(np.isfinite(one["curve"]).all() for one in results)
    report(tmp_path, results)
    assert len((tmp_path / "runs.csv").read_text().splitlines()) == 1 + len(ARMS)
