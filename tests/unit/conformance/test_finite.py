"""Derivatives whose values are known."""

import math

import numpy as np
import pytest

from mlipbench.conformance.finite import CLOSE, LADDER, scatter, slope, slopes


def test_a_smooth_function_in_double_precision():
    found = slope(lambda x: math.exp(3 * x) + 50, noise=50 * np.finfo(np.float64).eps)
    assert found.value == pytest.approx(3, abs=1e-9)
    assert abs(found.value - 3) <= found.error < 1e-7


def test_a_smooth_function_in_single_precision_is_right_where_a_fixed_step_is_not():
    def energy(x):
        return float(np.float32(math.sin(2 * x + 0.3) - 50))

    noise = 50 * float(np.finfo(np.float32).eps)
    truth = 2 * math.cos(0.3)
    found = slope(energy, noise)
    assert abs(found.value - truth) <= found.error < 0.02
    fixed = (energy(3e-4) - energy(-3e-4)) / 6e-4
    assert abs(found.value - truth) < abs(fixed - truth)


@pytest.mark.parametrize("place", [1e-4, 2e-3, 2e-2])
def test_a_jump_beside_the_point_is_left_out(place):
    found = slope(lambda x: 0.7 * x + 1e-3 * (x > place), noise=1e-15)
    if place > LADDER[1]:  # at least one pair of steps does not reach it
        assert found.value == pytest.approx(0.7, abs=1e-10)
    else:  # every step crosses it: the error says that nothing is known
        assert found.error >= 0.5 * abs(found.value - 0.7) > 1e-3


def test_several_functions_at_once_have_the_slopes_that_they_have_alone():
    functions = [math.sin, lambda x: 1e-3 * (x > 2e-3) + 0.7 * x, lambda x: math.nan if x > 0 else x, math.exp]
    ends = np.array([[[f(step) for f in functions], [f(-step) for f in functions]] for step in LADDER])
    values, errors = slopes(ends, 1e-15)
    for place, function in enumerate(functions):
        alone = slope(function, 1e-15)
        np.testing.assert_array_equal([values[place], errors[place]], [alone.value, alone.error])


def test_rounding_is_what_a_parabola_leaves():
    smooth = np.stack([3 * CLOSE**2 - 2 * CLOSE + 1, np.full(9, 5.0)], axis=1)
    assert scatter(smooth) < 1e-15
    # the middle one of nine points is off by 1e-4; the parabola through all takes 59/231 of it with it
    smooth[4, 1] += 1e-4
    assert scatter(smooth) == pytest.approx(1e-4 * (1 - 59 / 231), rel=1e-6)
    smooth[4, 1] = np.nan
    assert scatter(smooth) == 0.0


def test_a_function_that_is_not_finite_has_no_slope():
    found = slope(lambda x: math.nan if x > 0 else x, noise=0.0)
    assert math.isnan(found.value)
    assert math.isinf(found.error)
