"""Times of models that were measured in the same rounds, against hand computation."""

from __future__ import annotations

import pytest

from mlipbench.cost import Call, Stage
from mlipbench.metrics.paired_costs import call_change, same_rounds


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
    assert few.reason == "5 rounds are too few for an interval"
    none = call_change("latency_p50", calls([0.0] * 6, REFERENCE), calls([1.0] * 6, REFERENCE))
    assert none.difference is None
    assert call_change("latency_energy", calls([1.0], [0.1]), calls([1.0], [0.1])).difference is None
    same = call_change("latency_p50", calls([1.0] * 6, REFERENCE), calls([1.0] * 6, REFERENCE))
    assert same.p == 1.0
