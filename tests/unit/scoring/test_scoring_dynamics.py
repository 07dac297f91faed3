"""Scores of replicas whose trajectories are made by hand: a crystal that melts at a known frame, atoms that drift."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk

from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.dynamics import End
from mlipbench.scoring.dynamics import _distributions, _Replica
from mlipbench.scoring.reference import diffusivities, observed
from mlipbench.store.trajectories import Trajectory
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels, Split

MELTS = 30  # frame
PARAMETERS = {
    "integrator": "nose_hoover", "timestep": 1.0, "temperature": 300, "steps": 990, "save_interval": 10,
    "reference": "trajectory", "distribution": "rdf", "range": 6.0, "bins": 100, "diffusion": None,
    "stability": {"criterion": "windows", "threshold": 1.0, "window": 0.05},
}  # fmt: skip


def crystal(seed):
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    atoms.rattle(0.15, seed=seed)
    return atoms


@pytest.fixture
def reference(tmp_path):
    frames = [crystal(seed) for seed in range(50)]
    with ColumnarWriter(tmp_path / "columns") as writer:
        batch = StructureBatch.from_atoms(frames)
        writer.append(
            batch, Labels(energy=np.zeros(50), forces=np.zeros((batch.n_atoms, 3))), [str(i) for i in range(50)]
        )
    return Split(tmp_path / "columns", "made", "trajectory")


def melting(n=100):
    """Return a crystal that is a gas from frame 30 on."""
    rng = np.random.default_rng(1)
    first = crystal(99)
    positions = np.stack([crystal(100 + i).positions for i in range(n)])
    positions[MELTS:] = rng.uniform(0, 10.8, (n - MELTS, 32, 3))
    velocities = rng.normal(0, 0.01, (n, 32, 3))
    return Trajectory(
        first.numbers, first.get_masses(), first.cell.array, first.pbc, positions, velocities, np.zeros(n)
    )


def test_a_crystal_that_melts_collapses_when_enough_of_a_window_is_gas(reference, tmp_path):
    """A window of five frames; g(r) of the gas is far from that of the crystal, so that few frames of it suffice."""
    known = observed(reference, PARAMETERS, None, tmp_path)
    scores, _ = _Replica(melting(), PARAMETERS, End.COMPLETED, known).scores(990, reference)
    collapse = scores["stable"] / 0.01 + 1
    assert MELTS - 4 <= collapse <= MELTS  # the window i ... i + 4 holds the first gas at i = 26
    assert scores["failed"] == 1
    assert scores["horizon"] == pytest.approx(0.99)
    assert scores["rdf_mae"] < 1.0
    again = observed(reference, PARAMETERS, None, tmp_path)  # from the cache
    np.testing.assert_array_equal(again.curves["all"], known.curves["all"])


def test_without_a_collapse_a_replica_is_censored_where_it_ended(reference, tmp_path):
    known = observed(reference, PARAMETERS, None, tmp_path)
    whole = melting()
    solid = Trajectory(
        whole.numbers, whole.masses, whole.cell, whole.pbc, whole.positions[:MELTS], whole.velocities[:MELTS],
        whole.energy[:MELTS],
    )  # fmt: skip
    for end, failed in ((End.CRASH, 0), (End.PHYSICAL, 1)):
        scores, _ = _Replica(solid, PARAMETERS, end, known).scores(295, reference)
        assert scores["stable"] == pytest.approx(0.295)
        assert scores["failed"] == failed


def test_neighbours_are_read_off_the_curve_that_is_kept(reference, tmp_path):
    """In a crystal at rest every atom has 12 neighbours at a/√2; 3 of 6 at a, half the cell, are nearest images."""
    known = observed(reference, PARAMETERS, None, tmp_path)
    first, still = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2), melting(MELTS)
    at_rest = replace(still, positions=np.repeat(first.positions[None], MELTS, axis=0))
    found = [_Replica(each, PARAMETERS, End.CRASH, known).scores(290, reference)[1] for each in (at_rest, still)]
    (kept,) = _distributions(found, known, PARAMETERS).pairs
    edges = np.linspace(1e-6, 6.0, 101)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    alone = 2 * np.asarray(kept.mean) - found[1]["all"]
    around = alone * shells * len(first) / first.get_volume()
    near = edges[1:] < 4.5
    assert around[near].sum() == pytest.approx(12, rel=1e-3)
    assert around[~near].sum() == pytest.approx(3, rel=1e-3)
    assert np.flatnonzero(np.round(alone, 2)).tolist() == [int(5.4 / np.sqrt(2) / 0.06), int((5.4 - 1e-6) / 0.06)]
    assert kept.n_replicas == 2
    assert kept.high == pytest.approx(np.maximum(found[0]["all"], found[1]["all"]), rel=1e-4)
    assert kept.low == pytest.approx(np.minimum(found[0]["all"], found[1]["all"]), rel=1e-4)


def test_without_replicas_nothing_is_kept(reference, tmp_path):
    assert _distributions([], observed(reference, PARAMETERS, None, tmp_path), PARAMETERS) is None


def test_diffusivity_of_a_random_walk_against_the_others():
    """Lithium walks with D = 2 x 10⁻⁹ m²/s = 0.2 Å²/ps in steps of 0.1 ps among heavy atoms at rest."""
    rng = np.random.default_rng(3)
    steps = rng.normal(0, np.sqrt(2 * 0.2 * 0.1), (4000, 200, 3))
    numbers = np.array([3] * 200 + [79] * 400)
    positions = np.concatenate([np.cumsum(steps, axis=0), np.zeros((4000, 400, 3))], axis=1)
    asked = {"element": "Li", "start": 10.0, "spacing": 0.2, "lag": 9, "least": 1}
    mdsim, true = diffusivities(positions, numbers, asked, 0.1)
    assert true.value == pytest.approx(2.0, rel=0.05)
    assert true.n_blocks == 97  # 1,950 frames, 20 a block
    starts = (4000 - 100) // 2 - 10
    assert mdsim == pytest.approx(true.value * starts / (starts - 1) * (1 - 1 / 200), rel=0.01)
