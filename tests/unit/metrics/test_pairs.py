"""Nearest images and counts of pairs, against loops over many images, ASE and hand computation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase.geometry import find_mic
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlipbench.metrics import pairs
from mlipbench.metrics.pairs import LOWEST, Bins, Lattice, count_pairs, pair_lengths

BINS = Bins(6.0, 500)
LIPS_LIKE = np.array([[12.0, 0.0, -2.8], [-3.6, 11.1, -3.7], [0.0, 0.1, 12.4]])
numbers = st.floats(-8.0, 8.0, allow_nan=False)
cells = st.lists(numbers, min_size=9, max_size=9).map(lambda values: np.array(values).reshape(3, 3))


def shortest(vectors: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the length of the shortest image of each vector, among all that can be shorter than a known one."""
    inverse = np.linalg.inv(cell)
    scaled = vectors @ inverse
    near = (scaled - np.rint(scaled)) @ cell
    reach = np.ceil(np.linalg.norm(near, axis=1).max() * np.linalg.norm(inverse, axis=0) + 0.5).astype(int)
    images = np.array(list(itertools.product(*[range(-n, n + 1) for n in reach]))) @ cell
    return np.array([np.linalg.norm(vector + images, axis=1).min() for vector in near])


def counted_by_loop(positions, cell, edges, first, second, reach=1):
    """Return what `numpy.histogram` makes of the smallest distances of all ordered pairs, frame by frame."""
    images = np.array(list(itertools.product(range(-reach, reach + 1), repeat=3))) @ cell
    counts = []
    for frame in positions:
        scaled = frame @ np.linalg.inv(cell)
        wrapped = (scaled - np.floor(scaled)) @ cell
        found = [
            np.linalg.norm(wrapped[j] + images - wrapped[i], axis=1).min()
            for i, j in itertools.product(np.flatnonzero(first), np.flatnonzero(second))
        ]
        counts.append(np.histogram([distance for distance in found if distance != 0], edges)[0])
    return np.array(counts)


@given(cells, st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_nearest_images_are_those_among_many_in_cells_of_any_shape(cell, seed):
    lengths = np.linalg.norm(cell, axis=1)
    assume(lengths.min() > 0.5)
    assume(abs(np.linalg.det(cell / lengths[:, None])) > 0.02)
    vectors = np.random.default_rng(seed).uniform(-20.0, 20.0, (20, 3))
    lattice = Lattice.of(cell)
    expected = shortest(vectors, cell)
    np.testing.assert_allclose(np.linalg.norm(lattice.nearest(vectors), axis=1), expected, atol=1e-9)
    np.testing.assert_allclose(lattice.lengths((vectors @ lattice.inverse).T), expected, atol=1e-7)
    whole = (lattice.nearest(vectors) - vectors) @ np.linalg.inv(cell)
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-9)


def test_nearest_images_are_those_of_ase_in_a_very_skewed_cell():
    cell = np.array([[4.0, 0.0, 0.0], [23.0, 4.0, 0.0], [-17.0, 9.0, 5.0]])
    vectors = np.random.default_rng(1).uniform(-30.0, 30.0, (500, 3))
    expected, lengths = find_mic(vectors, cell)
    found = Lattice.of(cell).nearest(vectors)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), lengths, atol=1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_right_angled_cells_need_no_images_beyond_rounding():
    assert len(Lattice.of(np.diag([3.0, 5.0, 11.0])).images) == 0
    assert len(Lattice.of(LIPS_LIKE).images) > 0
    assert Lattice.of(np.diag([3.0, 5.0, 11.0])).volume == pytest.approx(165.0)
    assert Lattice.of(np.diag([3.0, 5.0, 11.0])).unmistakable == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.diag([1.0, 1.0, 0.0]), "no lattice vector"),
        (np.ones((3, 3)), "linearly dependent"),
        (np.full((3, 3), np.nan), "not finite"),
    ],
)
def test_cells_without_volume_are_refused(cell, message):
    with pytest.raises(ValueError, match=message):
        Lattice.of(cell)


@pytest.mark.parametrize("chunk", [1, 100, 1 << 16])
@pytest.mark.parametrize("elements", [(None, None), (3, None), (3, 16), (16, 3)])
def test_counts_are_those_of_a_loop_over_all_ordered_pairs(monkeypatch, chunk, elements):
    monkeypatch.setattr(pairs, "_CHUNK", chunk)
    rng = np.random.default_rng(5)
    kinds = np.array([3] * 5 + [16] * 7)
    positions = rng.uniform(-15.0, 25.0, (4, 12, 3))  # atoms inside and outside the cell
    chosen = [None if z is None else kinds == z for z in elements]
    found = count_pairs(positions, Lattice.of(LIPS_LIKE), Bins(6.0, 40), *chosen)
    first = np.ones(12, dtype=bool) if chosen[0] is None else chosen[0]
    second = first if chosen[1] is None else chosen[1]
    expected = counted_by_loop(positions, LIPS_LIKE, np.linspace(1e-6, 6, 41), first, second)
    np.testing.assert_array_equal(found.counts, expected)
    assert (found.n_first, found.n_second) == (first.sum(), second.sum())
    assert found.n_shared == (first & second).sum()
    assert found.volume == pytest.approx(abs(np.linalg.det(LIPS_LIKE)))


def test_open_boundaries_count_plain_distances():
    positions = np.array([[[0.0, 0, 0], [3.0, 4.0, 0], [0, 0, 1.0]]])
    found = count_pairs(positions, None, Bins(10.0, 10))
    # distances 5, 1 and sqrt(26) = 5.099, each in both directions; edges at 1e-6 + k (10 - 1e-6) / 10
    assert found.counts[0].tolist() == [2, 0, 0, 0, 2, 2, 0, 0, 0, 0]  # 1 lies just below 1.0000009, 5 below 5.0000005
    assert found.volume is None


@pytest.mark.parametrize("limit", [6.0, 10.0, 0.7, 3.3])
def test_edges_belong_to_the_bin_above_them_and_the_last_edge_to_the_last_bin(limit):
    assert BINS.edges[0] == LOWEST
    np.testing.assert_array_equal(BINS.edges, np.linspace(1e-6, 6, 501))
    for n in (*range(1, 60), 500):  # of some, rounding puts an edge into the bin below, of others above
        bins = Bins(limit, n)
        around = np.concatenate([bins.edges, np.nextafter(bins.edges, 0), np.nextafter(bins.edges, 99)])[None]
        expected, _ = np.histogram(around, bins.edges)
        np.testing.assert_array_equal(pairs._histogram(around, bins)[0], expected)


def test_coincident_atoms_are_not_counted():
    positions = np.zeros((1, 3, 3))
    positions[0, 2] = [1.0, 0, 0]
    assert count_pairs(positions, None, BINS).counts.sum() == 4  # the pair at distance 0 is dropped as in MDSim


def test_some_frames():
    positions = np.random.default_rng(2).uniform(0, 5, (10, 4, 3))
    found = count_pairs(positions, None, BINS)
    np.testing.assert_array_equal(found.frames(2, 9, 3).counts, count_pairs(positions[2:9:3], None, BINS).counts)


def test_lengths_of_chosen_pairs():
    positions = np.array([[0.5, 0.5, 0.5], [9.5, 0.5, 0.5], [0.5, 4.5, 0.5]])
    lattice = Lattice.of(np.diag([10.0, 10.0, 10.0]))
    i, j = np.array([0, 0, 1]), np.array([1, 2, 2])
    np.testing.assert_allclose(pair_lengths(positions, i, j, lattice), [1.0, 4.0, np.sqrt(17)])
    np.testing.assert_allclose(pair_lengths(positions, i, j, None), [9.0, 4.0, np.sqrt(97)])


def test_bad_input_is_refused():
    positions = np.zeros((3, 2, 3))
    positions[1, 0, 0] = np.nan
    with pytest.raises(ValueError, match="frame 1 has positions that are not finite"):
        count_pairs(positions, None, BINS)
    with pytest.raises(ValueError, match=r"expected \(n_frames, n_atoms, 3\)"):
        count_pairs(np.zeros((2, 3)), None, BINS)
    with pytest.raises(ValueError, match="expected bool of"):
        count_pairs(np.zeros((1, 2, 3)), None, BINS, np.array([0, 1]))
    for limit, n in ((6.0, 0), (0.0, 10), (np.nan, 10), (np.inf, 10)):
        with pytest.raises(ValueError, match="hold nothing"):
            Bins(limit, n)
