"""Blocks and their intervals, by hand, against scipy, and on series with a memory of known length."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.signal import lfilter

from mlipbench.metrics.blocks import cut, half_width, series_mean, student


def remembering(n: int, memory: float, seed: int) -> np.ndarray:
    """Return a series of mean 0 and variance 1 that forgets as exp(-frames / memory)."""
    kept = np.exp(-1 / memory)
    noise = np.random.default_rng(seed).normal(size=n + 20 * int(memory))
    return lfilter([np.sqrt(1 - kept**2)], [1, -kept], noise)[-n:]


def test_blocks_leave_out_the_start() -> None:
    blocks = cut(np.arange(107.0))
    assert blocks is not None
    assert blocks.shape == (10, 10)
    assert blocks[0].tolist() == list(range(7, 17))
    assert blocks[-1].tolist() == list(range(97, 107))
    assert cut(np.arange(99.0)) is None


def test_intervals_are_those_of_students_t() -> None:
    values = np.array([1.0, 4.0, 2.0, 8.0])
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert half_width(values) == pytest.approx((expected.high - expected.low) / 2)
    assert student(3) == pytest.approx(3.182446)  # tables


def test_the_mean_of_a_series() -> None:
    series = np.arange(100.0)
    found = series_mean(series)
    assert (found.value, found.n_blocks, found.reason) == (49.5, 10, None)
    # block means 4.5, 14.5 ... 94.5
    assert found.high - 49.5 == pytest.approx(2.262157 * 10 * np.std(np.arange(10), ddof=1) / np.sqrt(10), rel=1e-6)
    assert found.low == pytest.approx(99 - found.high)
    short = series_mean(series[:99])
    assert (short.value, short.low, short.n_blocks) == (49.0, None, 0)
    assert short.reason == "99 frames, 10 blocks of 10 need 100"
    with pytest.raises(ValueError, match="no frames"):
        series_mean(series[:0])


def test_intervals_cover_the_mean_of_a_series_with_memory() -> None:
    inside, naive = 0, 0
    for seed in range(200):
        series = remembering(3000, memory=10.0, seed=seed)
        found = series_mean(series)
        inside += found.low <= 0.0 <= found.high
        naive += abs(series.mean()) < 1.96 * series.std() / np.sqrt(3000)
    assert 180 <= inside <= 199
    assert naive < 120  # frames taken for independent would mislead
