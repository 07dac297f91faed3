"""Survival of replicas: a textbook's data, another program's values, and limits that are never without width."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mlipbench.metrics.survival import (
    Endings,
    kaplan_meier,
    paired_difference,
    restricted_mean,
    survival_band,
)

# Weeks in remission under 6-mercaptopurine (Freireich et al., Blood 21 (1963) 699), the example of Klein and
# Moeschberger, Survival Analysis, chapter 4; a minus sign marks censoring.
REMISSION = [6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35]


def endings(*signed: float) -> Endings:
    """Return endings of times that are negative where censored."""
    times = np.array(signed, dtype=np.float64)
    return Endings(np.abs(times), times > 0)


def test_survival_of_the_textbooks_patients() -> None:
    curve = kaplan_meier(endings(*REMISSION))
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    assert curve.failures.tolist() == [3, 1, 1, 1, 1, 1, 1]
    by_hand = [Fraction(18, 21)]
    for at_risk in (17, 15, 12, 11, 7, 6):
        by_hand.append(by_hand[-1] * Fraction(at_risk - 1, at_risk))
    np.testing.assert_allclose(curve.survival, [float(share) for share in by_hand], rtol=1e-14)
    np.testing.assert_allclose(
        curve.survival, [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], atol=5e-4
    )  # as printed


def test_limits_without_censoring_are_the_exact_binomial_ones() -> None:
    band = survival_band(endings(1, 2, 2, 5, 7))
    assert band.times.tolist() == [0, 1, 2, 5, 7]
    for alive, survival, low, high in zip([5, 4, 2, 1, 0], band.survival, band.low, band.high, strict=True):
        exact = stats.binomtest(alive, 5).proportion_ci(0.95, method="exact")
        assert (survival, low, high) == pytest.approx((alive / 5, exact.low, exact.high), abs=1e-12)


def test_limits_are_wider_where_some_are_censored() -> None:
    band = survival_band(endings(1, -2, 3))
    assert band.times.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(band.survival, [1, 2 / 3, 2 / 3, 0])
    # three replicas until one of two is censored; the other stands for 2/3, as one of 1.5 would
    assert band.low == pytest.approx([0.025 ** (1 / 3), 0.094299, 1 - 0.975 ** (1 / 1.5), 0], abs=1e-5)
    assert band.high[[0, 3]] == pytest.approx([1, 1 - 0.025 ** (1 / 1.5)])
    assert band.high[2] > band.high[1] == pytest.approx(0.991596, abs=1e-5)


def test_limits_when_all_are_censored_at_once() -> None:
    band = survival_band(endings(-4, -4, -4))
    assert (band.times.tolist(), band.survival.tolist(), band.high.tolist()) == ([0, 4], [1, 1], [1, 1])
    assert band.low == pytest.approx([0.025 ** (1 / 3)] * 2)


def test_restricted_mean_of_the_textbooks_patients() -> None:
    found = restricted_mean(endings(*REMISSION), 35.0)
    # the book gives 23.29 with the standard error 2.83; nine failures
    assert found.value == pytest.approx(23.29, abs=0.005)
    half = stats.t.ppf(0.975, 9) * 2.83 * np.sqrt(21 / 20)
    assert found.high - found.value == pytest.approx(half, abs=0.015)
    assert found.value - found.low == pytest.approx(half, abs=0.015)
    assert (found.n, found.n_failed, found.n_censored, found.reason) == (21, 9, 11, None)


@pytest.mark.parametrize(
    ("times", "horizon", "expected"),
    [  # restricted_mean_survival_time of lifelines 0.30.3
        (REMISSION, 35.0, 23.287394957983185),
        (REMISSION, 30.0, 21.04649859943977),
        (REMISSION, 20.0, 16.116526610644254),
        ([3.5, 10, -10, 12.25, 20, -50, -50, -41], 50.0, 29.025),
        ([3.5, 10, -10, 12.25, 20, -50, -50, -41], 15.0, 12.525),
    ],
)
def test_restricted_means_are_those_of_lifelines(times: list[float], horizon: float, expected: float) -> None:
    assert restricted_mean(endings(*times), horizon).value == pytest.approx(expected, rel=1e-12)


def test_without_censoring_the_interval_is_that_of_a_mean() -> None:
    times = [4.0, 11.0, 17.0, 29.0, 33.0, 41.0]
    found = restricted_mean(endings(*times), 50.0)
    expected = stats.ttest_1samp(times, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((22.5, expected.low, expected.high))


def test_survivors_are_no_degrees_of_freedom() -> None:
    found = restricted_mean(endings(10.0, 20.0, -50.0, -50.0, -50.0, -60.0, -70.0), 50.0)
    restricted = np.array([10.0, 20, 50, 50, 50, 50, 50])
    half = stats.t.ppf(0.975, 2) * restricted.std(ddof=1) / np.sqrt(7)
    assert found.value == pytest.approx(restricted.mean())
    assert found.low == pytest.approx(restricted.mean() - half)
    assert found.high == 50.0  # cut: nothing lasts longer than the horizon
    assert found.n_censored == 0


def test_variance_with_censoring_by_hand() -> None:
    # at risk 4 and 2: S = 3/4, then 3/8; areas 2, 3/4 · 3 = 9/4 and 3/8 · 5 = 15/8
    found = restricted_mean(endings(2.0, -3.0, 5.0, -10.0), 10.0)
    assert found.value == pytest.approx(2 + 9 / 4 + 15 / 8)
    variance = (9 / 4 + 15 / 8) ** 2 / (4 * 3) + (15 / 8) ** 2 / (2 * 1)
    half = stats.t.ppf(0.975, 2) * np.sqrt(variance * 4 / 3)
    assert found.low == pytest.approx(max(6.125 - half, 0))
    assert found.high == pytest.approx(min(6.125 + half, 10))
    assert found.n_censored == 1


@pytest.mark.parametrize("n", [1, 5, 20])
def test_without_failures_the_lower_limit_is_the_exact_binomial_one(n: int) -> None:
    found = restricted_mean(endings(*[-50.0] * n), 50.0)
    lower = stats.binomtest(n, n).proportion_ci(0.95, method="exact").low
    assert (found.value, found.low, found.high) == (50.0, pytest.approx(50 * lower), 50.0)
    assert found.reason == f"none of {n} replicas failed: exact binomial limits"


def test_replicas_cut_off_early_do_not_count_for_the_binomial_limit() -> None:
    found = restricted_mean(endings(-50.0, -50.0, -50.0, -12.0), 50.0)
    assert found.low == pytest.approx(50 * 0.025 ** (1 / 3))
    assert (found.n, found.n_failed, found.n_censored) == (4, 0, 1)


@pytest.mark.parametrize("time", [0.0, 7.0])
def test_failures_all_at_once_leave_room_too(time: float) -> None:
    found = restricted_mean(Endings(np.full(4, time), np.ones(4, dtype=bool)), 50.0)
    share = stats.binomtest(4, 4).proportion_ci(0.95, method="exact").low
    assert found.value == time
    assert found.low == pytest.approx(share * time)
    assert found.high == pytest.approx(share * time + (1 - share) * 50)
    assert found.reason == "4 of 4 replicas failed at the same time: exact binomial limits"


def test_what_nobody_saw_is_not_told() -> None:
    seen = endings(10.0, -20.0, -30.0)
    found = restricted_mean(seen, 50.0)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.reason == "none of those that had not failed was followed beyond 30 of 50 ps"
    assert restricted_mean(seen, 30.0).value == pytest.approx(10 + 20 * 2 / 3)
    assert restricted_mean(endings(10.0, -20.0, 30.0), 50.0).value == pytest.approx(
        10 + 20 * 2 / 3
    )  # all are gone at 30
    assert restricted_mean(seen.worst_case(50.0), 50.0).value == pytest.approx(20.0)


def test_the_worst_case_counts_the_censored_as_failed() -> None:
    worst = endings(10.0, -20.0, -50.0, 50.0, -60.0).worst_case(50.0)
    assert worst.times.tolist() == [10, 20, 50, 50, 50]
    assert worst.failed.tolist() == [True, True, False, False, False]


def test_rounding_does_not_cut_off_what_reached_the_horizon() -> None:
    found = restricted_mean(endings(-4000 * 0.0125 * (1 - 1e-15), 3 * 0.1, -49.99999999999999), 50.0)
    assert found.n_censored == 0


# --- differences


def test_differences_are_paired() -> None:
    first, second = endings(30.0, 22.0, -50.0, 44.0), endings(21.0, 18.0, 37.0, 33.0)
    found = paired_difference(first, second, 50.0)
    differences = np.array([9.0, 4.0, 13.0, 11.0])
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((9.25, expected.low, expected.high))
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)
    assert (found.n, found.n_failed, found.n_censored) == (4, 4, 0)
    back = paired_difference(second, first, 50.0)
    assert (back.value, back.low, back.high) == pytest.approx((-9.25, -expected.high, -expected.low))


def test_pairs_that_both_survive_are_no_degrees_of_freedom() -> None:
    first, second = endings(*[-50.0] * 6), endings(20.0, 40.0, *[-50.0] * 4)
    found = paired_difference(first, second, 50.0)
    differences = np.array([30.0, 10, 0, 0, 0, 0])
    half = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / np.sqrt(6)
    assert (found.value, found.low, found.high) == pytest.approx((40 / 6, 40 / 6 - half, 40 / 6 + half))
    assert found.n_failed == 2


def test_pairs_with_a_censored_member_are_left_out() -> None:
    first, second = endings(30.0, -12.0, 20.0, 25.0, -50.0), endings(20.0, 40.0, -15.0, 5.0, 35.0)
    found = paired_difference(first, second, 50.0)
    assert (found.value, found.n, found.n_censored) == (pytest.approx((10 + 20 + 15) / 3), 3, 2)
    worst = paired_difference(first.worst_case(50.0), second.worst_case(50.0), 50.0)
    assert worst.value == pytest.approx((10 - 28 + 5 + 20 + 15) / 5)


def test_two_models_that_never_fail_are_not_told_apart_exactly() -> None:
    found = paired_difference(endings(*[-50.0] * 5), endings(*[-50.0] * 5), 50.0)
    room = 50 * (1 - 0.025 ** (1 / 5))
    assert (found.value, found.low, found.high) == (0.0, pytest.approx(-room), pytest.approx(room))
    assert (found.p, found.reason) == (1.0, "all 5 pairs differ alike: exact binomial limits")
    alike = paired_difference(endings(0.3, 0.4, 0.5), endings(0.1, 0.2, 0.3), 50.0)  # 0.2, but for rounding
    assert alike.high - alike.low > 50


def test_where_every_pair_differs_by_the_horizon_the_p_value_is_that_of_the_sign_test() -> None:
    for n in (5, 6):
        at_once = Endings(np.zeros(n), np.ones(n, dtype=bool))
        found = paired_difference(endings(*[-50.0] * n), at_once, 50.0)
        assert found.p == pytest.approx(stats.binomtest(n, n).pvalue)
        assert (found.low > 0) is (found.p < 0.05)


def test_few_pairs_have_no_interval() -> None:
    found = paired_difference(endings(1.0, 2.0), endings(2.0, 5.0), 50.0)
    assert (found.value, found.low, found.reason) == (-2.0, None, "2 pairs of replicas, an interval needs 3")
    none = paired_difference(endings(-1.0), endings(2.0), 50.0)
    assert (none.value, none.reason) == (None, "in every pair a replica was censored before the horizon")


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"times of shape \(2,\)"):
        Endings(np.ones(2), np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match=r"times of shape \(0,\)"):
        Endings(np.ones(0), np.ones(0, dtype=bool))
    for time in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="replica 1 ended after"):
            Endings(np.array([1.0, time]), np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="2 replicas cannot be paired with 1"):
        paired_difference(endings(1.0, 2.0), endings(1.0), 50.0)
    for horizon in (0.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="horizon must be positive"):
            restricted_mean(endings(1.0), horizon)


def test_intervals_cover_the_truth() -> None:
    """Exponential times of mean τ, five replicas: the truth is (1 - 1/e) τ."""
    rng, truth = np.random.default_rng(0), 1 - np.exp(-1)
    inside = 0
    for times in rng.exponential(size=(400, 5)):
        found = restricted_mean(Endings(times, np.ones(5, dtype=bool)), 1.0)
        inside += found.low <= truth <= found.high
    assert 0.91 < inside / 400 < 0.995
