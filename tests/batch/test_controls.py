"""Controls of an adaptive batch size: another run's sizes, ABS turned around, schedules as text."""

import numpy as np
import pytest

from sbbatch import PQN
from sbbatch.batch import ABS, AdaptiveBatchScheduler, BatchSizeSchedule, ReversedABS, Yoked
from sbbatch.batch.controls import ReversedScheduler
from sbbatch.errors import InvalidValue


def write_log(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("timesteps,divergence,size\n" + "".join(f"{steps},,{size}\n" for steps, size in rows))
    return path


def train(callback, seed):
    model = PQN("MlpPolicy", "CartPole-v1", n_steps=8, n_minibatches=2, seed=seed, batch_size_callback=callback)
    lengths = []
    update = model.train
    model.train = lambda: (lengths.append((model.num_timesteps, model.n_steps)), update())
    model.learn(600)
    return lengths


def test_a_yoked_run_has_the_rollouts_of_the_other_one_at_the_same_steps(tmp_path):
    adaptive = ABS(4, 32, low=0.01, high=0.5, check_every=1, warmup=1, ema=0.5)
    lengths = train(adaptive, seed=0)
    assert len({size for _, size in lengths}) > 3  # there is something to replay
    log = write_log(tmp_path / "pqn" / "batch_size.csv", [(row["timesteps"], row["size"]) for row in adaptive.history])
    assert train(Yoked(tmp_path), seed=1) == lengths
    assert train(Yoked(log), seed=2) == lengths


def test_a_yoked_run_needs_one_readable_file(tmp_path):
    with pytest.raises(InvalidValue, match="found 0"):
        Yoked(tmp_path)
    with pytest.raises(InvalidValue, match="found no"):
        Yoked(tmp_path / "batch_size.csv")
    with pytest.raises(InvalidValue, match="order"):
        Yoked(write_log(tmp_path / "a" / "batch_size.csv", [(10, 8), (0, 16)]))
    with pytest.raises(InvalidValue, match="damaged"):
        Yoked(write_log(tmp_path / "a" / "batch_size.csv", [(0, "many")]))
    write_log(tmp_path / "b" / "batch_size.csv", [(0, 8)])
    with pytest.raises(InvalidValue, match="found 2"):
        Yoked(tmp_path)


def test_the_reversed_scheduler_is_the_mirror_image():
    forward, backward = (
        cls(8, 128, low=0.05, high=0.5, warmup=2) for cls in (AdaptiveBatchScheduler, ReversedScheduler)
    )
    assert (forward.size, backward.size) == (8, 128)
    for divergence in np.random.default_rng(0).uniform(0, 0.6, size=40):
        assert forward.update(divergence) + backward.update(divergence) == pytest.approx(136, abs=1)  # of rounding
    # Settled for ever: ABS ends at 128, this at 8.
    assert [backward.update(0.0) for _ in range(200)][-1] == 8


def test_reversed_abs_is_abs_with_that_scheduler():
    callback = ReversedABS(4, 32, check_every=2, warmup=1, ema=0.5, low=0.01, high=0.02)
    lengths = train(callback, seed=0)
    assert lengths[0][1] == 32
    assert isinstance(callback.scheduler, ReversedScheduler)
    assert callback._identity() != ABS(4, 32, check_every=2, warmup=1, ema=0.5, low=0.01, high=0.02)._identity()


def test_a_schedule_as_text_is_the_piecewise_one():
    text, sizes = BatchSizeSchedule("0:8 0.5:32 0.8:128"), BatchSizeSchedule.piecewise({0: 8, 0.5: 32, 0.8: 128})
    assert text.config() == sizes.config()
    for wrong in ("", "8 32", "0.5:8", "0:8 0:16", "0:8:16", "0:eight"):
        with pytest.raises(InvalidValue):
            BatchSizeSchedule(wrong)
