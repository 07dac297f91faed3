"""MetricValue refuses what a reader could mistake for a good number."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from mlipbench.metrics.values import Direction, Kind, MetricValue, Scale, Transform

GOOD = MetricValue("forces_mae", 0.25, "eV/Å", Direction.LOWER, 40, 0.2, 0.3, 10, None)


def test_round_trip_through_json():
    fields = json.loads(json.dumps(GOOD.to_dict()))
    assert fields == {
        "name": "forces_mae",
        "value": 0.25,
        "unit": "eV/Å",
        "direction": "lower",
        "n": 40,
        "ci_low": 0.2,
        "ci_high": 0.3,
        "n_clusters": 10,
        "reason": None,
        "design_effect": None,
    }
    back = MetricValue.from_dict(fields)
    assert back == GOOD
    assert back.direction is Direction.LOWER


@pytest.mark.parametrize("field", ["value", "ci_low", "ci_high"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(field, number):
    with pytest.raises(ValueError, match=f"forces_mae: {field} is"):
        replace(GOOD, **{field: number})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ci_low": None, "reason": "why"}, "two ends"),
        ({"ci_low": 0.4}, "upside down"),
        ({"n": -1}, "negative count"),
        ({"n_clusters": -1}, "negative count"),
        ({"ci_low": None, "ci_high": None}, "without a reason"),
        ({"value": None}, "without a reason"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **changes)


def test_missing_value_with_a_reason_is_kept():
    missing = replace(GOOD, value=None, ci_low=None, ci_high=None, reason="nothing to compare")
    assert MetricValue.from_dict(missing.to_dict()) == missing


def test_unknown_direction_is_refused():
    with pytest.raises(ValueError, match="sideways"):
        MetricValue.from_dict(GOOD.to_dict() | {"direction": "sideways"})


def test_unknown_field_is_refused():
    with pytest.raises(TypeError, match="colour"):
        MetricValue.from_dict(GOOD.to_dict() | {"colour": "red"})


@pytest.mark.parametrize("kind", [Kind.BOUNDED, Kind.FRACTION])
def test_only_a_positive_metric_has_a_root(kind):
    with pytest.raises(ValueError, match="no square root"):
        Scale(kind, Transform.SQRT)
