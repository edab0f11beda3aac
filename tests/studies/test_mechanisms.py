"""The mechanisms: their arithmetic, and the whole way with next to no work."""

import numpy as np
import pytest

from sbbatch.studies import mechanisms
from sbbatch.studies.mechanisms import affine_fit, one_sample, over_seeds, read_rows, slope


def test_a_line_is_found_and_its_parts_are_not_negative():
    sizes = np.array([1, 8, 32, 256])
    assert affine_fit(sizes, 5 + 0.1 * sizes) == pytest.approx((5, 0.1))
    assert affine_fit(sizes, 0.1 * sizes - 0.01)[0] == 0
    assert 0 < affine_fit(sizes, 5 - 0.01 * sizes)[1] < 1e-9  # there is a ratio all the same


def test_a_power_is_a_slope_and_batches_tell_of_one_sample():
    assert slope([4, 8, 64], [3 / 4, 3 / 8, 3 / 64]) == pytest.approx(-1)
    assert one_sample({4: 3 / 4, 8: 3 / 8}) == pytest.approx(3)


def test_intervals_over_seeds():
    n, mean, low, high = over_seeds([1.0, 2.0, 3.0])
    assert (n, mean, high - mean) == pytest.approx((3, 2.0, 4.302653 / np.sqrt(3)), abs=1e-5)
    assert mean - low == pytest.approx(high - mean)
    assert over_seeds([1.0, 4.0], geometric=True)[1] == pytest.approx(2.0)


def test_everything_is_measured_written_and_drawn(tmp_path, monkeypatch):
    small = {"STAGES": (2, 4), "SIZES": (4, 8), "TIMED_SIZES": (1, 8), "WEIGHED_SIZES": (1, 64)}
    small |= {"N_LOSSES": 512, "N_GRADIENTS": 8, "N_PARTS": 16, "N_TIMED": 1, "N_WEIGHED": 64}
    small |= {"MINATAR_PAIR": mechanisms.MINATAR_PAIR[:1]}
    for name, value in small.items():
        monkeypatch.setattr(mechanisms, name, value)
    mechanisms.main(["--seeds", "1", "-o", str(tmp_path)])
    rows = read_rows(tmp_path / "mechanisms.csv")
    assert {row.mechanism for row in rows} == {"M1", "M2", "M3", "M4", "training"}
    weights = [row.value for row in rows if row.quantity == "mean importance weight, beta 1"]
    assert weights[0] == 1.0 > weights[1] > 0
    drawn = (tmp_path / "summary.csv").read_text()
    mechanisms.main(["--draw", "-o", str(tmp_path)])
    assert [line.split(",")[:7] for line in (tmp_path / "summary.csv").read_text().splitlines()] == [
        line.split(",")[:7] for line in drawn.splitlines()
    ]
