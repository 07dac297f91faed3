"""Curves whose shape is known: a Lennard-Jones pair, straight lines, and hand-made zigzags."""

import numpy as np
import pytest

from mlipbench.metrics.curves import (
    branch_correlations,
    count_inflections,
    count_minima,
    jump,
    sign_changes,
    tortuosity,
)

DISTANCES = np.linspace(0.8, 6.0, 200)


def lennard_jones(r):
    return 4.0 * (r**-12.0 - r**-6.0)


def test_a_pair_has_one_of_everything():
    energy = lennard_jones(DISTANCES)
    force = 4.0 * (12.0 * DISTANCES**-13.0 - 6.0 * DISTANCES**-7.0)
    assert count_minima(energy) == 1
    assert sign_changes(force, 1e-2) == 1
    assert count_inflections(DISTANCES, energy) == 1
    assert branch_correlations(DISTANCES, energy) == pytest.approx((-1.0, 1.0))
    assert tortuosity(energy) == pytest.approx(1.0)
    assert jump(energy) == 0.0


def test_signs_within_the_dead_zone_do_not_count():
    values = np.array([1.0, 0.005, -0.005, 0.005, 1.0, -1.0, -0.005, 0.005, -2.0])
    assert sign_changes(values, 1e-2) == 1
    assert sign_changes(values, 1e-3) == 5
    assert sign_changes(np.zeros(5), 1e-2) == 0


def test_minima_are_from_falling_to_rising():
    assert count_minima(np.array([3.0, 1.0, 2.0, 0.5, 4.0])) == 2
    assert count_minima(np.array([3.0, 2.0, 1.0])) == 0
    assert count_minima(np.array([1.0, 2.0, 1.0])) == 0
    # the dip of 0.5 meV is none
    assert count_minima(np.array([3.0, 1.0, 1.0005, 1.0, 2.0])) == 1


def test_tortuosity_is_the_way_over_the_direct_way():
    # 3 -> 1 -> 2 -> 0 -> 1: a way of 2 + 1 + 2 + 1 where 3 + 1 would do
    assert tortuosity(np.array([3.0, 1.0, 2.0, 0.0, 1.0])) == pytest.approx(6.0 / 4.0)
    assert tortuosity(np.full(4, 2.0)) == 1.0


def test_the_jump_leaves_out_one_well_and_counts_the_rest():
    # turns: at 1 (steps 2 and 1, a well), at 2 (1 and 2, a hill), at 0 (2 and 1, a well): one well of 3 is left out
    assert jump(np.array([3.0, 1.0, 2.0, 0.0, 1.0])) == pytest.approx(3.0 + 3.0)
    assert jump(np.array([0.0, 1.0, 3.0, 2.0])) == pytest.approx(3.0)


def test_correlations_of_what_is_out_of_order():
    distance = np.arange(6.0)
    # the minimum is at 3; before it 4 3 5 0 has ranks 3 2 4 1 against 1 2 3 4, so rho = 1 - 6 (4 + 0 + 1 + 9) / 60
    near, far = branch_correlations(distance, np.array([4.0, 3.0, 5.0, 0.0, 1.0, 2.0]))
    assert near == pytest.approx(1 - 6 * 14 / 60)
    assert far == pytest.approx(1.0)


def test_a_side_of_two_points_has_no_correlation():
    near, far = branch_correlations(np.arange(4.0), np.array([1.0, 0.0, 1.0, 2.0]))
    assert np.isnan(near)
    assert far == pytest.approx(1.0)
