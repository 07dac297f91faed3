"""Times of models that were measured in the same rounds, against hand computation."""

from __future__ import annotations

import math

import pytest

from mlipbench.cost import Call, Stage
from mlipbench.metrics.paired_costs import call_change, same_rounds, time_ratio


def calls(seconds: list[float], beside: list[float | None], stage: Stage = Stage.LATENCY) -> list[Call]:
    """Return one call a round; a tenth of its time is for preparing."""
    return [
        Call(stage, number, 0, 0, 0, 1, 8, 0.1 * own, 0.9 * own, own, 0, 0.0, reference, None, None, 1000)
        for number, (own, reference) in enumerate(zip(seconds, beside, strict=True))
    ]


REFERENCE: list[float | None] = [0.11, 0.12, 0.13, 0.14, 0.15, 0.16]


def test_equal_times_of_the_reference_tell_that_rounds_were_the_same() -> None:
    a = calls([1.0] * 6, REFERENCE)
    assert same_rounds(a, calls([2.0] * 6, REFERENCE))
    assert same_rounds(a, calls([2.0] * 3, REFERENCE[:3]))  # it ran out of time
    assert not same_rounds(a, calls([2.0] * 6, [*REFERENCE[:5], 0.161]))
    assert not same_rounds(calls([1.0], [None]), calls([2.0], [None]))
    assert not same_rounds(a, [])
    assert not same_rounds(calls([1.0], [0.1], Stage.THROUGHPUT), calls([1.0], [0.1], Stage.THROUGHPUT))


def test_ratios_in_the_same_rounds() -> None:
    """Six rounds, all twice as long: of 2^6 signs two are as extreme."""
    a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = call_change("latency_p50", calls(a, REFERENCE), calls([2 * own for own in a], REFERENCE))
    assert (found.a, found.b) == (pytest.approx(3500.0), pytest.approx(7000.0))
    assert found.difference == (pytest.approx(3500.0), None, None)
    assert found.relative == pytest.approx((1.0, 1.0, 1.0))
    assert found.p == pytest.approx(2 / 64)
    assert found.n == 6


def test_the_interval_of_a_ratio_excludes_none_where_its_p_value_does() -> None:
    """One round of six goes the other way: 4 of 64 rankings of signs are as extreme, and the interval holds 0."""
    b = [2.0, 2.1, 2.2, 2.3, 2.4, 0.9]
    found = call_change("latency_forward", calls([1.0] * 6, REFERENCE), calls(b, REFERENCE))
    assert found.p == pytest.approx(4 / 64)
    assert found.relative is not None
    assert found.relative.low is not None
    assert found.relative.low < 0 < found.relative.value


def test_few_rounds_and_calls_without_time() -> None:
    few = call_change("latency_p50", calls([1.0] * 5, REFERENCE[:5]), calls([2.0] * 5, REFERENCE[:5]))
    assert few.p is None
    assert few.relative == (pytest.approx(1.0), None, None)
    assert few.reason == "too few rounds for an interval: 5"
    none = call_change("latency_p50", calls([0.0] * 6, REFERENCE), calls([1.0] * 6, REFERENCE))
    assert none.difference is None
    assert call_change("latency_energy", calls([1.0], [0.1]), calls([1.0], [0.1])).difference is None
    same = call_change("latency_p50", calls([1.0] * 6, REFERENCE), calls([1.0] * 6, REFERENCE))
    assert same.p == 1.0


def test_the_noise_of_a_ratio_is_that_of_its_rounds() -> None:
    """Ratios 1.1 times e to the power of 0, ±s, ±2s: their median absolute deviation is s, 0.674 of a normal one's."""
    s, a = 0.01, [1.0, 2.0, 3.0, 4.0, 5.0]
    away = [0.0, s, -s, 2 * s, -2 * s]
    b = [1.1 * own * math.exp(one) for own, one in zip(a, away, strict=True)]
    found = time_ratio(calls(a, REFERENCE[:5]), calls(b, REFERENCE[:5]))
    assert found.ratio.value == pytest.approx(1.1)
    assert found.noise == pytest.approx(math.sqrt(math.pi / 3) * s / 0.6744897501960817 / math.sqrt(5))
    assert found.least == pytest.approx(math.exp(5 * found.noise) - 1)
    assert found.fine
    assert not found.slower  # five rounds have no interval
    assert found.a == pytest.approx(3000.0)


@pytest.mark.parametrize(
    ("ratio", "scatter", "slower"),
    [
        (1.10, 0.01, True),
        (1.06, 0.01, True),
        (1.04, 0.001, False),  # less than a twentieth
        (1.10, 0.10, False),  # the interval holds 1, or the noise is too large
        (0.90, 0.01, False),
    ],
)
def test_what_counts_as_slower(ratio: float, scatter: float, slower: bool) -> None:
    away = [scatter * (place - 4.5) / 4.5 for place in range(10)]
    beside: list[float | None] = [0.1] * 10
    b = [ratio * math.exp(one) for one in away]
    assert time_ratio(calls([1.0] * 10, beside), calls(b, beside)).slower is slower


def test_nothing_in_common_has_no_ratio() -> None:
    with pytest.raises(ValueError, match="no calls that can be divided"):
        time_ratio(calls([1.0], [0.1]), [])
