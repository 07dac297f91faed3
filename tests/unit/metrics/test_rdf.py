"""g(r), h(r) and collapse against perfect crystals, an ideal gas, loops from the definitions, ASE and MDAnalysis."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.geometry.rdf import get_rdf
from scipy.spatial.distance import cdist

from mlipbench.metrics import rdf
from mlipbench.metrics.pairs import Bins, Lattice, PairCounts, count_pairs
from mlipbench.metrics.rdf import (
    bond_collapse,
    curve_mae,
    distance_density,
    find_bonds,
    largest_deviations,
    mdsim_radial_distribution,
    mean_bond_lengths,
    radial_distribution,
    wasserstein,
    window_collapse,
)

BINS = Bins(6.0, 500)
SKEWED = np.array([[14.0, 0.0, 0.0], [-4.0, 14.0, 0.0], [3.0, -5.0, 15.0]])


def gas(n_frames: int, n_atoms: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n_frames, n_atoms, 3)) @ SKEWED


def by_definition(positions, cell, edges, first, second):
    """Return MDSim's g(r) written out: 27 images of each ordered pair, zeros dropped, T N_a N_b pairs."""
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ cell
    distances = []
    for frame in positions:
        between = frame[first][:, None] - frame[second][None]
        distances.append(np.linalg.norm(between[:, :, None] + images, axis=-1).min(axis=2).ravel())
    distances = np.concatenate(distances)
    counts, _ = np.histogram(distances[distances != 0], edges)
    density = len(distances) / abs(np.linalg.det(cell))
    return counts / (density * 4 / 3 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3))


# --- curves


def test_an_ideal_gas_has_no_structure() -> None:
    n_frames, n_atoms = 4000, 6
    bins = Bins(6.0, 30)  # all within half the smallest height of the cell, where the nearest image is the only one
    counts = count_pairs(gas(n_frames, n_atoms), Lattice.of(SKEWED), bins)
    volume = 14.0 * 14.0 * 15.0
    shells = np.array([4 / 3 * np.pi * (b**3 - a**3) for a, b in itertools.pairwise(np.linspace(1e-6, 6, 31))])
    expected = n_frames * 15 * shells / volume  # 15 pairs of 6 atoms
    deviations = (counts.counts.sum(axis=0) / 2 - expected) / np.sqrt(expected)
    assert np.square(deviations).sum() < 60  # chi² of 30 bins; above once in 1,000
    whole = expected.sum()
    weights = expected / whole
    assert weights @ radial_distribution(counts) == pytest.approx(1.0, abs=4 / np.sqrt(whole))
    assert weights @ mdsim_radial_distribution(counts) == pytest.approx(5 / 6, abs=4 / np.sqrt(whole))


@pytest.mark.parametrize("n_atoms", [2, 7])
def test_mdsims_curve_is_low_by_one_pair_in_n(n_atoms: int) -> None:
    counts = count_pairs(gas(30, n_atoms), Lattice.of(SKEWED), BINS)
    expected = radial_distribution(counts) * (n_atoms - 1) / n_atoms
    np.testing.assert_allclose(mdsim_radial_distribution(counts), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("crystal", "shells"),
    [
        (bulk("Po", "sc", a=3.0) * (5, 5, 5), {3.0: 6, 3.0 * 2**0.5: 12, 3.0 * 3**0.5: 8, 6.0: 6}),
        (bulk("Al", "fcc", a=4.0) * (5, 5, 5), {8**0.5: 12, 4.0: 6, 24**0.5: 24, 32**0.5: 12}),
        (
            bulk("Fe", "bcc", a=3.5) * (5, 5, 5),
            {3.5 * 0.75**0.5: 8, 3.5: 6, 3.5 * 2**0.5: 12, 3.5 * 2.75**0.5: 24, 3.5 * 3**0.5: 8},
        ),
    ],
    ids=["simple cubic", "fcc", "bcc"],
)
def test_perfect_crystals_have_their_shells(crystal: Atoms, shells: dict[float, int]) -> None:
    bins = Bins(6.1, 200)
    shaken = crystal.positions + np.random.default_rng(0).integers(-2, 3, (len(crystal), 3)) @ np.array(crystal.cell)
    counts = count_pairs(shaken[None], Lattice.of(crystal.cell.array), bins)
    density = (len(crystal) - 1) / crystal.get_volume()  # of the others, that an atom sees
    neighbours = radial_distribution(counts) * bins.shells * density
    found = {k: neighbours[k] for k in np.flatnonzero(neighbours)}
    summed: dict[float, float] = dict.fromkeys(shells, 0.0)
    for k, number in found.items():  # a distance on an edge may be rounded into two bins
        nearest = min(shells, key=lambda r: abs(r - bins.edges[k : k + 2].mean()))
        assert abs(nearest - bins.edges[k : k + 2].mean()) < 0.05
        summed[nearest] += number
    assert summed == pytest.approx(shells)


def test_elements_are_told_apart() -> None:
    salt = bulk("CsCl", "cesiumchloride", a=4.0) * (4, 4, 4)
    cs, cl = salt.numbers == 55, salt.numbers == 17
    lattice, bins = Lattice.of(salt.cell.array), Bins(4.5, 45)
    unlike, alike = (count_pairs(salt.positions[None], lattice, bins, *pair) for pair in ((cs, cl), (cs, cs)))
    eight = radial_distribution(unlike) * bins.shells * 64 / salt.get_volume()
    six = radial_distribution(alike) * bins.shells * 63 / salt.get_volume()
    assert {round(bins.edges[k], 2): eight[k] for k in np.flatnonzero(eight)} == {3.4: pytest.approx(8)}  # 2 √3 = 3.464
    assert six[(bins.edges[:-1] < 3.85)].sum() == 0
    assert six.sum() == pytest.approx(6)
    np.testing.assert_array_equal(mdsim_radial_distribution(unlike), radial_distribution(unlike))


@pytest.mark.parametrize("pair", [(8, 8), (1, 1), (1, 8)])
def test_water_has_mdsims_pair_types(pair: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    numbers = np.tile([8, 1, 1], 9)
    box = np.array([9.0, 10.0, 11.0])
    positions = rng.uniform(0, 1, (5, 27, 3)) * box
    first, second = numbers == pair[0], numbers == pair[1]
    delta = np.abs(positions[:, first][:, :, None] - positions[:, second][:, None])
    delta = np.where(delta > 0.5 * box, delta - box, delta)
    distances = np.sqrt(np.square(delta).sum(axis=-1)).ravel()
    edges = np.linspace(1e-6, 6, 501)
    counts, _ = np.histogram(distances[distances != 0], edges)
    expected = counts / (distances.size / np.prod(box) * 4 / 3 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3))
    outside = positions + rng.integers(-1, 2, (5, 27, 3)) * box
    found = count_pairs(outside, Lattice.of(np.diag(box)), BINS, first, second)
    np.testing.assert_allclose(mdsim_radial_distribution(found), expected, rtol=1e-12)


def test_curves_are_those_of_ase() -> None:
    positions, numbers = gas(6, 40), np.array([3] * 15 + [16] * 25)
    frames = [Atoms(numbers, frame, cell=SKEWED, pbc=True) for frame in positions]
    lattice, bins = Lattice.of(SKEWED), Bins(5.0, 50)
    expected = get_rdf(frames, 5.0, 50, no_dists=True)  # bins from 0, N² pairs as in MDSim
    np.testing.assert_allclose(mdsim_radial_distribution(count_pairs(positions, lattice, bins)), expected, rtol=1e-5)
    unlike = count_pairs(positions, lattice, bins, numbers == 3, numbers == 16)
    expected = get_rdf(frames, 5.0, 50, elements=(3, 16), no_dists=True)
    np.testing.assert_allclose(radial_distribution(unlike), expected, rtol=1e-5)


def test_curves_are_those_of_mdanalysis() -> None:
    mda = pytest.importorskip("MDAnalysis", reason="MDAnalysis is not installed")
    from MDAnalysis.analysis.rdf import InterRDF

    positions, n_first = gas(6, 40), 15
    universe = mda.Universe.empty(40, trajectory=True)
    box = [*np.linalg.norm(SKEWED, axis=1), *Atoms(cell=SKEWED).cell.angles()]
    universe.load_new(positions.astype(np.float32), dimensions=np.array([box] * 6))
    groups = universe.atoms[:n_first], universe.atoms[n_first:]
    first = np.arange(40) < n_first
    lattice, bins = Lattice.of(SKEWED), Bins(6.0, 60)
    for pair, chosen, block in (((groups[0], groups[1]), (first, ~first), None), ((groups[1],) * 2, (~first,), (1, 1))):
        theirs = InterRDF(*pair, nbins=60, range=(1e-6, 6.0), exclusion_block=block).run().results
        ours = count_pairs(positions, lattice, bins, *chosen)
        np.testing.assert_allclose(theirs.count, ours.counts.sum(axis=0), atol=1)  # float32 moves a pair on an edge
        agree = theirs.count == ours.counts.sum(axis=0)
        assert agree.mean() > 0.9
        np.testing.assert_allclose(theirs.rdf[agree], radial_distribution(ours)[agree], rtol=1e-4)


def test_curves_of_real_frames_are_those_of_the_definition() -> None:
    pytest.importorskip("lmdb", reason="lmdb is not installed")
    folder = os.environ.get("MLIPBENCH_TEST_DATA")
    if not folder or not (path := Path(folder) / "lips/devset_data.lmdb").exists():
        pytest.skip("lips/devset_data.lmdb is not below MLIPBENCH_TEST_DATA")
    from mlipbench.datasets.lmdb_files import read_lmdb
    from mlipbench.datasets.records import Reading

    units = {"energy": "eV", "forces": "eV/A", "length": "A", "stress": None}
    how = Reading(units=units, keys={"energy": "energy", "forces": "force"}, pbc=None, cluster="structure")
    frames = list(read_lmdb(path, how))[::10]
    cell, numbers = np.array(frames[0].cell, dtype=np.float64), np.array(frames[0].numbers)
    positions = np.array([frame.positions for frame in frames], dtype=np.float64)
    edges, every = np.linspace(1e-6, 6, 501), np.ones(83, dtype=bool)
    for first, second in ((every, every), (numbers == 3, numbers == 3), (numbers == 3, numbers == 16)):
        found = mdsim_radial_distribution(count_pairs(positions, Lattice.of(cell), BINS, first, second))
        np.testing.assert_allclose(found, by_definition(positions, cell, edges, first, second), rtol=1e-12)
    moved = positions + np.random.default_rng(0).integers(-3, 4, positions.shape) @ cell
    again = mdsim_radial_distribution(count_pairs(moved, Lattice.of(cell), BINS, numbers == 3, numbers == 16))
    assert curve_mae(again, found, BINS) < 1e-3  # rounding may move a pair on an edge


def test_h_is_the_density_of_all_distances() -> None:
    positions = np.random.default_rng(4).normal(size=(20, 9, 3)) * 3
    distances = np.concatenate([cdist(frame, frame).ravel() for frame in positions])
    edges = np.linspace(1e-6, 10, 501)
    expected, _ = np.histogram(distances, edges, density=True)
    found = distance_density(count_pairs(positions, None, Bins(10.0, 500)))
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert (found * np.diff(edges)).sum() == pytest.approx(1.0)
    assert distance_density(count_pairs(positions * 1e9, None, Bins(10.0, 500))) is None


def test_what_has_no_curve_is_refused() -> None:
    lattice = Lattice.of(SKEWED)
    with pytest.raises(ValueError, match="volume of a cell"):
        radial_distribution(count_pairs(gas(2, 3), None, BINS))
    with pytest.raises(ValueError, match="0 frames"):
        radial_distribution(count_pairs(gas(0, 3), lattice, BINS))
    with pytest.raises(ValueError, match="0 pairs"):
        radial_distribution(count_pairs(gas(2, 1), lattice, BINS))
    with pytest.raises(ValueError, match="0 pairs"):
        mdsim_radial_distribution(count_pairs(gas(2, 3), lattice, BINS, np.zeros(3, dtype=bool)))


# --- comparisons


def test_the_error_of_a_curve_by_hand() -> None:
    bins = Bins(6.0, 3)
    assert curve_mae(np.array([1.0, 2.0, 0.0]), np.array([0.0, 2.5, 3.0]), bins) == pytest.approx(4.5 / 3 * 6)
    with pytest.raises(ValueError, match="expected \\(3,\\)"):
        curve_mae(np.zeros(3), np.zeros(2), bins)


def test_wasserstein_distances_by_hand() -> None:
    bins = Bins(10.0, 100)
    peak = np.zeros(100)
    peak[20] = 3.0
    assert wasserstein(peak, 7 * np.roll(peak, 35), bins) == pytest.approx(
        3.5
    )  # 35 bins of 0.1 Å, areas are divided out
    halves = np.zeros(100)
    halves[[20, 60]] = 1.0
    assert wasserstein(peak, halves, bins) == pytest.approx(2.0)  # half of it moves by 4 Å
    assert wasserstein(peak, peak, bins) == 0.0
    assert wasserstein(peak, np.zeros(100), bins) is None


# --- collapse by windows


def steps(frames: np.ndarray, n: int = 4) -> PairCounts:
    """Return counts that give the same g in all bins, one value a frame."""
    bins, volume = Bins(6.0, n), 1e-3  # so dense that rounding to whole counts does not show
    one = 10 * 10 / volume * bins.shells  # ordered pairs of 10 atoms that make g = 1
    counts = np.rint(np.asarray(frames, dtype=np.float64)[:, None] * one).astype(np.int64)
    return PairCounts(counts, bins, 10, 10, 10, volume)


@pytest.mark.parametrize("chunk", [3, 7, 1024])
@pytest.mark.parametrize("onset", [20, 55, 150])
def test_collapse_is_at_the_first_window_over_the_threshold(monkeypatch, chunk: int, onset: int) -> None:
    """g jumps from 1 to 2 at a frame: a window with k of 10 such frames has the error 6 k / 10 Å."""
    monkeypatch.setattr(rdf, "_CHUNK", chunk)
    counts = steps(np.where(np.arange(200) < onset, 1.0, 2.0))
    # more than 1.5 Å takes k = 3: the window's last frame, i + 9, is onset + 2
    assert window_collapse([counts], [np.ones(4)], 10, 1.5) == onset - 7
    # as one of several pair types, whichever it is
    calm = steps(np.ones(200))
    for several in ([calm, counts, calm], [counts, calm, calm]):
        assert window_collapse(several, [np.ones(4)] * 3, 10, 1.5) == onset - 7
    assert window_collapse([calm], [np.ones(4)], 10, 1.5) is None


def test_collapse_keeps_mdsims_books() -> None:
    late = steps(np.where(np.arange(100) < 90, 1.0, 2.0))
    # all ten of the last window are off, which starts at 90; windows start at 1 ... 89 only, and that of 89 has nine
    assert window_collapse([late], [np.ones(4)], 10, 5.3) == 89  # 6 · 9/10 = 5.4
    assert window_collapse([late], [np.ones(4)], 10, 5.5) is None
    early = steps(np.where(np.arange(100) == 0, 1e6, 1.0))
    assert window_collapse([early], [np.ones(4)], 10, 1.5) is None  # frame 0 is in no window
    assert window_collapse([steps(np.full(100, 9.0))], [np.ones(4)], 10, 1.5) == 1
    short = steps(np.full(12, 9.0))
    assert window_collapse([short], [np.ones(4)], 10, 1.5) == 1
    assert window_collapse([short.frames(0, 11)], [np.ones(4)], 10, 1.5) is None  # range(1, 11 - 10) is empty


def test_collapse_is_that_of_a_loop_over_windows() -> None:
    positions = gas(60, 8)
    positions[30:] = np.random.default_rng(9).normal(size=(30, 8, 3)) * 1.5 + 7.0  # drawn together
    lattice = Lattice.of(SKEWED)
    counts = count_pairs(positions, lattice, Bins(6.0, 20))
    reference = mdsim_radial_distribution(count_pairs(gas(3000, 8, seed=1), lattice, Bins(6.0, 20)))
    errors = [
        np.abs(mdsim_radial_distribution(counts.frames(i, i + 10)) - reference).mean() * 6 for i in range(1, 60 - 10)
    ]
    for threshold in np.quantile(errors, [0.3, 0.7, 0.9]):
        expected = next(i for i, error in enumerate(errors, start=1) if error > threshold)
        assert window_collapse([counts], [reference], 10, float(threshold)) == expected


def test_windows_that_do_not_fit_are_refused() -> None:
    counts = steps(np.ones(20))
    with pytest.raises(ValueError, match="0 frames holds nothing"):
        window_collapse([counts], [np.ones(4)], 0, 1.0)
    with pytest.raises(ValueError, match=r"20\] frames, 2 references"):
        window_collapse([counts], [np.ones(4)] * 2, 5, 1.0)
    with pytest.raises(ValueError, match=r"\[19, 20\] frames"):
        window_collapse([counts, counts.frames(0, 19)], [np.ones(4)] * 2, 5, 1.0)
    with pytest.raises(ValueError, match=r"expected \(4,\)"):
        window_collapse([counts], [np.ones(5)], 5, 1.0)


# --- bonds


def test_ethanol_has_eight_bonds() -> None:
    ethanol = molecule("CH3CH2OH")
    kinds = sorted("".join(sorted(ethanol.symbols[bond])) for bond in find_bonds(ethanol.numbers, ethanol.positions))
    assert kinds == ["CC", *["CH"] * 5, "CO", "HO"]


def test_bonds_cross_the_boundary() -> None:
    positions = np.array([[0.2, 5.0, 5.0], [9.5, 5.0, 5.0]])
    box = np.diag([10.0, 10.0, 10.0])
    assert find_bonds(np.array([1, 1]), positions).tolist() == []
    bonds = find_bonds(np.array([1, 1]), positions, box)
    assert bonds.tolist() == [[0, 1]]
    np.testing.assert_allclose(mean_bond_lengths(positions[None], bonds, Lattice.of(box)), [0.7])


def stretched(frames: int, at: int, by: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a chain of three atoms 1 Å apart whose second bond is longer in one frame, and its bonds."""
    positions = np.zeros((frames, 3, 3))
    positions[:, :, 0] = [0.0, 1.0, 2.0]
    positions[at, 2, 0] += by
    return positions, np.array([[0, 1], [1, 2]])


def test_a_bond_breaks_at_its_frame() -> None:
    positions, bonds = stretched(20, at=7, by=0.6)
    deviations = largest_deviations(positions, bonds, np.ones(2))
    np.testing.assert_allclose(deviations, np.where(np.arange(20) == 7, 0.6, 0.0), atol=1e-12)
    assert bond_collapse(deviations) == 8  # MDSim looks at frame i - 1 for collapse at i
    assert bond_collapse(deviations, 0.7) is None
    shrunk, _ = stretched(20, at=0, by=-0.6)
    assert bond_collapse(largest_deviations(shrunk, bonds, np.ones(2))) == 1
    last, _ = stretched(20, at=19, by=0.6)
    assert bond_collapse(largest_deviations(last, bonds, np.ones(2))) is None
    assert bond_collapse(np.array([0.0, 0.5, 0.0])) is None  # the threshold itself is no break


@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_bonds_are_measured_against_the_mean_of_the_reference(monkeypatch, chunk: int) -> None:
    monkeypatch.setattr(rdf, "_CHUNK", chunk)
    positions, bonds = stretched(10, at=3, by=0.6)
    np.testing.assert_allclose(mean_bond_lengths(positions, bonds), [1.0, 1.06])
    with pytest.raises(ValueError, match="no frames"):
        mean_bond_lengths(positions[:0], bonds)


def test_replicas_that_are_lost_deviate_without_bound() -> None:
    positions, bonds = stretched(3, at=1, by=0.1)
    positions[2, 0, 0] = np.nan
    assert largest_deviations(positions, bonds, np.ones(2)).tolist() == [0.0, pytest.approx(0.1), np.inf]
    assert largest_deviations(positions, np.zeros((0, 2), dtype=np.int64), np.ones(0)).tolist() == [0.0, 0.0, 0.0]
