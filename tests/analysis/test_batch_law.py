"""Power laws of the batch size and the learning rate: the published ones, by hand, and their uncertainty."""

import numpy as np
import pytest
from scipy.stats import linregress

from sbbatch.analysis.batch_law import BatchLaw
from sbbatch.errors import InvalidValue

# prestonfu/qscaled experiments/outputs/grid_proposed_hparams/*_sweep/shared_fitted.csv, rounded there
RATIOS = [0.25, 0.5, 1, 2, 4, 8, 16]
ANT = {
    "ratio": RATIOS,
    "batch_size": [638, 515, 415, 335, 270, 218, 176],
    "learning_rate": [2.23e-4, 1.83e-4, 1.5e-4, 1.23e-4, 1.01e-4, 8.31e-5, 6.82e-5],
}
HUMANOID = {
    "ratio": RATIOS,
    "batch_size": [481, 388, 313, 252, 203, 164, 132],
    "learning_rate": [2.83e-4, 2.32e-4, 1.91e-4, 1.56e-4, 1.28e-4, 1.05e-4, 8.65e-5],
}
CARTPOLE = {
    "ratio": RATIOS,
    "batch_size": [1038, 740, 527, 376, 268, 191, 136],
    "learning_rate": [1.21e-3, 9.73e-4, 7.79e-4, 6.24e-4, 5e-4, 4e-4, 3.21e-4],
}


def together(**tables):
    columns = {name: [value for table in tables.values() for value in table[name]] for name in ANT}
    return columns | {"environment": [name for name in tables for _ in RATIOS]}


def test_the_published_law_of_ant_comes_out():
    law = BatchLaw.fit({"ratio": [0.25, 4, 16], **{k: [ANT[k][i] for i in (0, 4, 6)] for k in list(ANT)[1:]}})
    for ratio, size, rate in zip(RATIOS, ANT["batch_size"], ANT["learning_rate"], strict=True):
        suggestion = law.suggest(ratio)  # also where nothing was measured
        assert suggestion.batch_size == pytest.approx(size, abs=1)
        assert suggestion.learning_rate == pytest.approx(rate, rel=6e-3)
        assert suggestion.inside
    assert not law.suggest(0.2).inside
    assert not law.suggest(17).inside


@pytest.mark.parametrize(
    ("table", "size", "rate"),
    [(together(ant=ANT, humanoid=HUMANOID), -0.31, -0.285), (together(cartpole=CARTPOLE), -0.49, -0.32)],
)
def test_the_published_slopes_come_out(table, size, rate):
    law = BatchLaw.fit(table)
    assert law.batch_size.slope == pytest.approx(size, abs=0.004)
    assert law.learning_rate.slope == pytest.approx(rate, abs=0.004)


def test_environments_share_the_slope_and_not_the_level():
    law = BatchLaw.fit(together(ant=ANT, humanoid=HUMANOID))
    assert law.suggest(1, "ant").batch_size == 415
    assert law.suggest(1, "humanoid").batch_size == 313
    for wrong in (None, "walker"):
        with pytest.raises(InvalidValue, match="expected one of ant, humanoid"):
            law.suggest(1, wrong)


def test_the_uncertainty_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    noisy = ANT | {"batch_size": np.array(ANT["batch_size"]) * np.exp(rng.normal(0, 0.2, 7))}
    law = BatchLaw.fit(noisy).batch_size
    line = linregress(np.log(RATIOS), np.log(noisy["batch_size"]))
    assert law.slope == pytest.approx(line.slope)
    assert np.sqrt(np.diag(law.covariance)) == pytest.approx([line.stderr, line.intercept_stderr])
    low, high = law.slope_interval()
    assert high - low == pytest.approx(2 * 2.570582 * line.stderr)  # Student's t, 5 degrees of freedom
    wide, narrow = BatchLaw.fit(noisy).suggest(100).batch_sizes, BatchLaw.fit(noisy).suggest(2).batch_sizes
    assert wide[1] / wide[0] > narrow[1] / narrow[0] > 1


def runs(noise, n_seeds=8):
    """Scores fall with the distance from a batch of ``256 / sqrt(ratio)`` and a learning rate of 1e-3."""
    rng, rows = np.random.default_rng(1), []
    for ratio in (0.25, 1, 4):
        for size in (64, 128, 256, 512):
            for rate in (2.5e-4, 1e-3, 4e-3):
                best = np.log2(size * np.sqrt(ratio) / 256) ** 2 + np.log(rate / 1e-3) ** 2
                rows += [(ratio, size, rate, rng.normal(-best, noise)) for _ in range(n_seeds)]
    return dict(zip(("ratio", "batch_size", "learning_rate", "score"), zip(*rows, strict=True), strict=True))


def test_of_runs_what_scores_best_is_fitted_and_their_noise_counts():
    exact = BatchLaw.fit(runs(noise=0.0))
    assert exact.batch_size.slope == pytest.approx(-0.5)
    assert exact.learning_rate.slope == pytest.approx(0, abs=1e-9)
    assert [exact.suggest(ratio).batch_size for ratio in (0.25, 1, 4)] == [512, 256, 128]
    noisy = BatchLaw.fit(runs(noise=1.0))
    assert noisy.batch_size.slope == pytest.approx(-0.5, abs=0.2)
    assert noisy.batch_size.covariance[0, 0] > exact.batch_size.covariance[0, 0]
    assert str(noisy.batch_size.slope_interval()) == str(BatchLaw.fit(runs(noise=1.0)).batch_size.slope_interval())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ratio": [0, *RATIOS[1:]]}, "ratio: got 0"),
        ({"batch_size": [-1, *RATIOS[1:]]}, "batch_size: got -1"),
        ({"ratio": [1] * 7}, "too few"),
        ({"environment": list("abcdefg")}, "too few"),
    ],
)
def test_a_table_that_says_nothing_is_refused(change, named):
    with pytest.raises(InvalidValue, match=named):
        BatchLaw.fit(ANT | change)
    with pytest.raises(InvalidValue, match="no column 'learning_rate'; did you mean 'learning_rates'"):
        BatchLaw.fit({("learning_rates" if name == "learning_rate" else name): ANT[name] for name in ANT})
