"""Shipped suites on real data samples, against checks written by hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ase.io import Trajectory
from integration_helpers import Workspace

SAMPLES = os.environ.get("MLIPBENCH_TEST_DATA", "")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="MLIPBENCH_TEST_DATA does not name the folder of data samples")


def relaxations():
    """Return (energy, raw forces, free atoms) of every frame of the OC20 relaxations, file by file."""
    frames = []
    for path in sorted(Path(SAMPLES).glob("oc20/*.traj")):
        with Trajectory(path) as trajectory:
            for atoms in trajectory:
                free = np.ones(len(atoms), dtype=bool)
                for constraint in atoms.constraints:
                    free[constraint.index] = False
                frames.append((atoms.calc.results["energy"], atoms.calc.results["forces"], free))
    return frames


def rows(workspace: Workspace, suite: str, split: str = "all") -> dict[str, dict[str, str]]:
    """Return the rows of a leaderboard on one split by metric."""
    with (workspace.results / "runs" / suite / "leaderboard.csv").open(encoding="utf-8") as file:
        return {row["metric"]: row for row in csv.DictReader(file) if row["split"] == split}


def free_atom_mae(workspace: Workspace, suite: str) -> float:
    """Return the mean absolute force error over components of free atoms, from the stored predictions."""
    (path,) = (workspace.results / "runs" / suite).rglob("predictions/s2ef/oc20-sample/all.parquet")
    predicted = pq.read_table(path, columns=["forces"])["forces"].to_pylist()
    truth = relaxations()
    errors = [
        np.abs(np.reshape(forces, (-1, 3)) - reference)[free]
        for forces, (_, reference, free) in zip(predicted, truth, strict=True)
    ]
    return float(np.concatenate(errors).mean())


def test_force_errors_of_oc20_count_free_atoms_only(tmp_path):
    workspace = Workspace(tmp_path)
    suite = tmp_path / "floor.yaml"
    suite.write_text(
        "suite: floor\nversion: 1\nmodels: [composition]\n"
        "datasets: {oc20-sample: {splits: [all], fit: all}}\ntasks: {s2ef: {metrics: [forces_mae]}}\n",
        encoding="utf-8",
    )
    workspace.ok("run", str(suite), "--data-root", SAMPLES)
    truth = relaxations()
    of_zero_forces = np.concatenate([np.abs(forces)[free] for _, forces, free in truth]).mean()
    with_fixed_atoms = np.concatenate([np.abs(forces) for _, forces, _ in truth]).mean()
    value = float(rows(workspace, "floor")["forces_mae"]["value"])
    assert value == pytest.approx(of_zero_forces, rel=1e-6)
    assert abs(value - with_fixed_atoms) > 0.01


@pytest.mark.chgnet
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_oc20_sample_with_chgnet(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.ok("run", "oc20-sample", "--models", "chgnet", "--data-root", SAMPLES)
    table = rows(workspace, "oc20-sample")
    assert float(table["forces_mae"]["value"]) == pytest.approx(free_atom_mae(workspace, "oc20-sample"), rel=1e-5)
    (path,) = (workspace.results / "runs" / "oc20-sample").rglob("predictions/s2ef/oc20-sample/all.parquet")
    errors = np.array(pq.read_table(path)["energy"].to_pylist()) - [energy for energy, *_ in relaxations()]
    sizes = [len(Trajectory(file)) for file in sorted(Path(SAMPLES).glob("oc20/*.traj"))]
    within = [np.abs(part - part.mean()) for part in np.split(errors, np.cumsum(sizes)[:-1])]
    assert float(table["relative_energy_mae"]["value"]) == pytest.approx(np.concatenate(within).mean(), rel=1e-6)


@pytest.mark.chgnet
@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of CHGNet's calculator
def test_crystals_of_mptrj_with_chgnet_equal_its_own_calculator(tmp_path):
    """All crystals in energy, and in forces but for the few whose nearly collinear bonds magnify rounding."""
    from ase.io import read
    from chgnet.model.dynamics import CHGNetCalculator

    workspace = Workspace(tmp_path)
    suite = tmp_path / "crystals.yaml"
    suite.write_text(
        "suite: crystals\nversion: 1\nmodels: [chgnet]\ndatasets:\n  mptrj-sample:\n    splits: [all]\n"
        "    energy: [{models: [chgnet], correction: mp2020}]\ntasks: {s2ef: {}}\n",
        encoding="utf-8",
    )
    workspace.ok("run", str(suite), "--data-root", SAMPLES)
    table = rows(workspace, "crystals")
    assert table["energy_mae"]["status"] == "ok"
    (path,) = (workspace.results / "runs" / "crystals").rglob("predictions/s2ef/mptrj-sample/all.parquet")
    stored = pq.read_table(path).to_pylist()
    calculator = CHGNetCalculator(use_device="cpu", on_isolated_atoms="ignore")
    gaps = []
    frames = read(Path(SAMPLES) / "mptrj" / "mptrj-random-1k.xyz", ":")
    for atoms, row in zip(frames, stored, strict=True):
        calculator.calculate(atoms.copy())
        assert row["energy"] / len(atoms) == pytest.approx(float(calculator.results["energy"]) / len(atoms), abs=1e-5)
        gaps.append(np.abs(np.reshape(row["forces"], (-1, 3)) - calculator.results["forces"]).max())
    assert np.count_nonzero(np.asarray(gaps) > 1e-4) <= 10
    assert max(gaps) < 1e-3
