"""Diffusivity of random walks and of motions with a closed form, against MDSim's loops, ASE and MDAnalysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms
from ase.md.analysis import DiffusionCoefficient
from scipy import stats

from mlipbench.metrics.diffusivity import (
    Lags,
    diffusion,
    mdsim_diffusivity,
    mean_squared_displacement,
    pooled,
    unwrap,
    without_drift,
)
from mlipbench.metrics.pairs import Lattice

if TYPE_CHECKING:
    from mlipbench.metrics.blocks import BlockEstimate

SKEWED = np.array([[12.0, 0.0, -2.8], [-3.6, 11.1, -3.7], [0.0, 0.1, 12.4]])
ALL = slice(None)


def walk(n_frames: int, n_atoms: int, seed: int = 0) -> np.ndarray:
    """Return a walk of unit variance per component and frame: D = 1/2 Å² per frame."""
    return np.random.default_rng(seed).normal(size=(n_frames, n_atoms, 3)).cumsum(axis=0)


def hops(n_frames: int) -> np.ndarray:
    """Return atoms of which the n-th moves by 2 Å between frames n and n + 1: MSD = 4 lag / n_atoms from any start."""
    positions = np.zeros((n_frames, n_frames - 1, 3))
    for n in range(n_frames - 1):
        positions[n + 1 :, n, n % 3] = 2.0
    return positions


def diffusivity(replicas: list[np.ndarray], lags: Lags) -> BlockEstimate:
    return pooled([found for found in (diffusion(replica, lags) for replica in replicas) if found is not None])


def mdsim_by_loops(positions: np.ndarray, index: int) -> float:
    """Return one of MDSim's array of diffusivities, Å² per frame, written out."""
    relative = positions - positions.mean(axis=1, keepdims=True)
    n, lag, total = len(relative) - 1, index + 1, 0.0
    for start in range(n):
        if start + lag < len(relative):
            squared = np.square(relative[start + lag] - relative[start]).sum(axis=1).mean()
            total += squared / lag / 6
    return total / np.arange(n)[::-1][index]


# --- MDSim's estimator


def test_mdsims_array_is_that_of_its_loops() -> None:
    positions = walk(30, 5)
    for index in range(28):
        # frames 0.2 ps apart, 1 Å²/ps is 1e-8 m²/s
        expected = mdsim_by_loops(positions, index) / 0.2 * 10
        assert mdsim_diffusivity(positions, ALL, index, 0.2) == pytest.approx(expected, rel=1e-12)
    for index in (28, 29, 400):
        assert mdsim_diffusivity(positions, ALL, index, 0.2) is None


def test_lips_and_water_have_their_frames_and_factors() -> None:
    lithium = walk(3700, 2)
    expected = mdsim_by_loops(lithium[400:3600:4], 700) * 20 * 1e-8
    assert mdsim_diffusivity(lithium, slice(400, 3600, 4), 700, 0.0125) == pytest.approx(expected / 1e-9)
    for collapse, found in ((3208, False), (3209, True)):
        assert (mdsim_diffusivity(lithium, slice(400, collapse, 4), 700, 0.0125) is not None) is found
    oxygen = walk(1100, 3)
    expected = mdsim_by_loops(oxygen[:1050:10], 99) * 10
    assert mdsim_diffusivity(oxygen, slice(None, 1050, 10), 99, 0.1) == pytest.approx(expected)


def test_mdsims_estimate_is_biased_as_it_says() -> None:
    n_frames, n_atoms, lag = 61, 4, 20
    found = [mdsim_diffusivity(walk(n_frames, n_atoms, seed), ALL, lag - 1, 1.0) for seed in range(500)]
    expected = 5.0 * (1 - 1 / n_atoms) * (n_frames - lag) / (n_frames - 1 - lag)
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / np.sqrt(500))
    assert abs(expected - 5.0) > 10 * np.std(found) / np.sqrt(500)  # so that this test could tell


# --- the mean squared displacement


def test_displacements_of_constant_velocities() -> None:
    velocities = np.array([[1.0, 0, 0], [0, -2.0, 0]])
    positions = np.arange(50)[:, None, None] * velocities
    for lag in (0, 1, 7, 49):
        assert mean_squared_displacement(positions, lag) == pytest.approx((1 + 4) / 2 * lag**2)
    with pytest.raises(ValueError, match="2 atoms in 50 frames have no displacement over 50 frames"):
        mean_squared_displacement(positions, 50)
    with pytest.raises(ValueError, match="0 atoms"):
        mean_squared_displacement(positions[:, :0], 1)


def test_drift_is_taken_out() -> None:
    positions = walk(40, 6) + np.arange(40)[:, None, None] * [3.0, -1.0, 0.5]
    masses = np.array([1.0, 1, 1, 16, 16, 16])
    np.testing.assert_allclose(without_drift(positions).mean(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.einsum("tak,a->tk", without_drift(positions, masses), masses), 0.0, atol=1e-10)
    frozen = np.zeros((40, 6, 3)) + np.arange(40)[:, None, None] * [3.0, -1.0, 0.5]
    assert mean_squared_displacement(without_drift(frozen, masses), 10) == pytest.approx(0.0, abs=1e-20)


def test_displacements_are_those_of_mdanalysis() -> None:
    mda = pytest.importorskip("MDAnalysis", reason="MDAnalysis is not installed")
    from MDAnalysis.analysis.msd import EinsteinMSD

    positions = walk(60, 7).astype(np.float32)
    universe = mda.Universe.empty(7, trajectory=True)
    universe.load_new(positions)
    expected = EinsteinMSD(universe, msd_type="xyz", fft=False).run().results.timeseries
    found = [mean_squared_displacement(positions.astype(np.float64), lag) for lag in range(60)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# --- the corrected estimator


def test_hopping_atoms_have_the_diffusivity_of_their_hops() -> None:
    positions = hops(61)
    for lags in (Lags(1, 40, 0.5), Lags(10, 20, 0.5), Lags(7, 7, 0.5)):
        found = diffusivity([positions], lags)
        assert found.value == pytest.approx(10 * 4 / 60 / 0.5 / 6)


def test_diffusivity_is_that_of_ase() -> None:
    """ASE fits the displacements from the first frame alone: the same where all starts are alike."""
    frames = [Atoms("H60", positions) for positions in hops(61)]
    coefficient = DiffusionCoefficient(frames, timestep=0.5)
    coefficient.calculate()
    expected = np.mean(coefficient.get_diffusion_coefficients()[0])
    found = diffusivity([hops(61)], Lags(1, 60, 0.5)).value
    assert found == pytest.approx(10 * expected)  # Å² per unit of the time step


@pytest.mark.parametrize("lags", [Lags(25, 30, 0.1), Lags(30, 30, 0.1)])
def test_a_random_walk_has_its_diffusivity(lags: Lags) -> None:
    found = [diffusivity([walk(600, 5, seed)], lags) for seed in range(60)]
    values = [each.value for each in found]
    assert np.mean(values) == pytest.approx(50.0, abs=4 * np.std(values) / np.sqrt(60))  # 1/2 Å² in 0.1 ps
    assert 51 <= sum(each.low <= 50.0 <= each.high for each in found) <= 60
    assert {each.n_blocks for each in found} == {10}


def test_an_offset_does_not_enter_the_slope() -> None:
    rattling = np.random.default_rng(1).normal(size=(4000, 20, 3))  # about fixed places: MSD = 6 at every lag
    found = diffusivity([rattling], Lags(5, 50, 1.0))
    assert found.low <= 0.0 + 1e-3
    assert abs(found.value) < 0.01
    assert diffusivity([rattling], Lags(50, 50, 1.0)).value == pytest.approx(10 * 6 / 50 / 6, rel=0.05)


def test_replicas_count_by_their_blocks() -> None:
    still, fast = np.zeros((45, 4, 3)), np.arange(11)[:, None, None] * np.ones((1, 4, 3))
    found = diffusivity([still, fast], Lags(10, 10, 1.0))
    # two blocks of 22 frames with MSD 0, and one of a single start with 300: D = 0, 0 and 10 x 300 / 60
    assert (found.value, found.n_blocks) == (pytest.approx(50 / 3), 3)
    assert found.high == pytest.approx(50 / 3 + stats.t.ppf(0.975, 2) * np.std([0, 0, 50], ddof=1) / np.sqrt(3))
    two = diffusivity([fast] * 2, Lags(10, 10, 1.0))
    assert (two.value, two.low, two.reason) == (pytest.approx(50.0), None, "2 blocks of 2 lags, an interval needs 3")
    three = diffusivity([fast] * 3, Lags(10, 10, 1.0))
    assert (three.n_blocks, three.low, three.high) == (3, pytest.approx(50.0), pytest.approx(50.0))


@pytest.mark.parametrize("lengths", [(60,), (15, 15, 15), (11, 19, 19), (12, 40, 100), (13,) * 5])
def test_intervals_cover_the_diffusivity_of_random_walks(lengths: tuple[int, ...]) -> None:
    """1/2 Å² per ps, one block or several in a replica; 1,000 sets, so that 0.95 scatters by 0.007."""
    rng, inside = np.random.default_rng(11), 0
    for _ in range(1000):
        walks = [rng.normal(size=(length, 8, 3)).cumsum(axis=0) for length in lengths]
        found = diffusivity(walks, Lags(10, 10, 1.0))
        inside += found.low <= 5.0 <= found.high
    assert 0.925 < inside / 1000 < 0.985


def test_short_trajectories_have_no_diffusivity() -> None:
    assert diffusion(walk(20, 2), Lags(5, 20, 1.0)) is None
    found = diffusivity([walk(10, 2), walk(20, 2)], Lags(5, 20, 1.0))
    assert (found.value, found.n_blocks, found.reason) == (None, 0, "no trajectory is longer than the longest lag")


def test_intervals_do_not_reach_below_zero() -> None:
    found = diffusivity([np.zeros((200, 2, 3)), walk(200, 2), np.zeros((200, 2, 3))], Lags(80, 90, 1.0))
    assert (found.n_blocks, found.low) == (3, 0.0)
    assert found.high > found.value > 0


# --- unwrapping


@pytest.mark.parametrize("cell", [SKEWED, np.diag([9.0, 10.0, 11.0])])
def test_wrapped_walks_are_followed(cell: np.ndarray) -> None:
    true = walk(2000, 5) * 0.5
    scaled = true @ np.linalg.inv(cell)
    wrapped = (scaled - np.floor(scaled)) @ cell
    assert np.abs(true).max() > 20  # so that atoms leave the cell
    followed = unwrap(wrapped, Lattice.of(cell))
    np.testing.assert_allclose(followed - followed[0], true - true[0], atol=1e-9)
    np.testing.assert_array_equal(followed[0], wrapped[0])
    np.testing.assert_allclose(unwrap(true, Lattice.of(cell)), true, atol=1e-9)


@pytest.mark.parametrize(("step", "told"), [(4.99, True), (5.0, False), (-5.2, True)])
def test_steps_of_half_the_cell_are_refused(step: float, told: bool) -> None:
    positions = np.zeros((4, 3, 3))
    positions[2:, 1, 0] = step
    lattice = Lattice.of(np.diag([10.0, 12.0, 14.0]))
    if told:  # a step of -5.2 cannot be known from one of 4.8
        expected = step if step > 0 else 4.8
        assert unwrap(positions, lattice)[-1, 1, 0] == pytest.approx(expected)
    else:
        with pytest.raises(
            ValueError, match=r"atom 1 moves 5 Å or more from frame 1 to 2; .* 5 Å, .* store more frames"
        ):
            unwrap(positions, lattice)


def test_bad_input_is_refused() -> None:
    for first, last, interval in ((0, 5, 1.0), (5, 4, 1.0), (1, 2, 0.0), (1, 2, np.nan)):
        with pytest.raises(ValueError, match="cannot be fitted"):
            Lags(first, last, interval)
    for index, interval in ((-1, 1.0), (3, 0.0), (3, np.nan)):
        with pytest.raises(ValueError, match="no diffusivity at index"):
            mdsim_diffusivity(walk(20, 2), ALL, index, interval)
