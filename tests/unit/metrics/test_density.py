"""Counts of force components by hand, and on the edges of bins worked out from their definition."""

import math

import numpy as np
import pytest

from mlipbench.metrics.density import BINS, LIMIT, LINEAR, ForceDensity

MIDDLE = BINS // 2


def edge(number):
    """Return the lower edge of a bin: the definition solved for the force."""
    scaled = (2 * number / BINS - 1) * math.log1p(LIMIT / LINEAR)
    return math.copysign(LINEAR * math.expm1(abs(scaled)), scaled)


def test_components_are_counted_by_reference_and_prediction():
    reference = np.array([[0.0, 0.0, 50.0], [-50.0, 0.001, -0.001]])
    predicted = np.array([[0.0, 0.004, -50.0], [50.0, 0.0, 1.0]])
    density = ForceDensity.of(reference, predicted)
    found = {(i, j): density.counts[i, j] for i, j in np.argwhere(density.counts)}
    one = int((math.log1p(1 / 0.05) / math.log1p(1000) + 1) / 2 * 81)  # the bin of 1 eV/Å
    assert found == {(MIDDLE, MIDDLE): 3, (BINS - 1, 0): 1, (0, BINS - 1): 1, (MIDDLE, one): 1}
    assert (density.reference_beyond, density.predicted_beyond) == (0, 0)


@pytest.mark.parametrize("number", [1, 17, MIDDLE, MIDDLE + 1, BINS - 1])
def test_a_bin_ends_where_its_definition_says(number):
    inside = np.array([edge(number) + 1e-9, edge(number) - 1e-9])
    density = ForceDensity.of(inside, np.zeros(2))
    assert density.counts[number, MIDDLE] == 1
    assert density.counts[number - 1, MIDDLE] == 1


def test_bins_are_as_wide_as_documented():
    assert edge(MIDDLE + 1) - edge(MIDDLE) == pytest.approx(0.009, abs=0.0005)
    assert edge(BINS) / edge(BINS - 1) == pytest.approx(1.19, abs=0.005)


def test_what_lies_beyond_the_range_is_counted_apart():
    reference = np.array([60.0, -60.0, 1.0, 1.0, np.inf])
    predicted = np.array([1.0, 70.0, -1e9, 50.0, 0.0])
    density = ForceDensity.of(reference, predicted)
    assert (density.reference_beyond, density.predicted_beyond) == (3, 1)
    assert density.counts.sum() == 1


def test_parts_add_up():
    rng = np.random.default_rng(0)
    reference, predicted = rng.normal(0, 20, (2, 300))
    whole = ForceDensity.of(reference, predicted)
    parts = ForceDensity.of(reference[:100], predicted[:100]) + ForceDensity.of(reference[100:], predicted[100:])
    np.testing.assert_array_equal(parts.counts, whole.counts)
    assert (parts.reference_beyond, parts.predicted_beyond) == (whole.reference_beyond, whole.predicted_beyond)
    assert whole.counts.sum() + whole.reference_beyond + whole.predicted_beyond == 300


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="against"):
        ForceDensity.of(np.zeros(3), np.zeros(4))
