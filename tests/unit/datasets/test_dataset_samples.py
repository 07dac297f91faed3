"""Real files against parsers written for these tests alone (regular expressions, sqlite3, numpy)."""

from __future__ import annotations

import json
import lzma
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.data import atomic_numbers
from ase.io import Trajectory

from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import DataLocation, open_split, reading_of
from mlipbench.datasets.records import Reading
from mlipbench.structures.duplicates import TOLERANCE, found_in

if TYPE_CHECKING:
    from pathlib import Path

    from dataset_helpers import Convert, Sample

KCAL = 0.0433641042418009  # eV per kcal/mol


def parse_xyz(text: str, energy: str = "energy") -> dict[str, Any]:
    lines = text.splitlines()
    numbers, rows, energies, cells, stresses, comments = [], [], [], [], [], []
    at = 0
    while at < len(lines):
        n = int(lines[at])
        comment = lines[at + 1]
        comments.append(comment)
        energies.append(float(re.search(rf"\s{energy}=(\S+)", comment)[1]))
        lattice = re.search(r'Lattice="([^"]*)"', comment)
        cells.append([float(x) for x in lattice[1].split()] if lattice else [0] * 9)
        stress = re.search(r'stress="([^"]*)"', comment)
        stresses.append([float(x) for x in stress[1].split()] if stress else [0] * 9)
        for line in lines[at + 2 : at + 2 + n]:
            symbol, *rest = line.replace(" T ", " 1 ").replace(" F ", " 0 ").split()
            numbers.append(atomic_numbers[symbol])
            rows.append([float(x) for x in rest])
        at += n + 2
    return {
        "numbers": np.array(numbers),
        "rows": np.array(rows),
        "energy": np.array(energies),
        "cell": np.array(cells).reshape(-1, 3, 3),
        "stress": np.array(stresses),
        "comments": comments,
    }


def here(path: Path, entry: str, split: str, convert: Convert, label: str = "x") -> Any:
    return convert(path, reading_of(load_entry(entry), split), label)


@pytest.mark.parametrize(
    ("name", "which", "key", "factor"),
    [
        ("3bpa/train_300K.xyz", ("3bpa-sample", "train"), "energy", 1.0),
        ("acac/train_300K.xyz", ("acac-sample", "train"), "energy", 1.0),
        ("rmd17/ethanol/train_01.xyz", ("rmd17-ethanol-sample", "train"), "Energy", 1.0),
        ("md17/ethanol_sampledata.xyz", ("md17-ethanol-sample", "fit"), "energy", KCAL),
    ],
)
def test_molecules_in_xyz(sample: Sample, convert: Convert, name: str, which: Any, key: str, factor: float) -> None:
    path = sample(name)
    expected = parse_xyz(path.read_text(), key)
    opened = here(path, *which, convert)
    structures, labels = opened.structures(0, len(opened)), opened.labels(0, len(opened))
    np.testing.assert_array_equal(structures.numbers, expected["numbers"])
    np.testing.assert_array_equal(structures.positions, expected["rows"][:, :3])
    np.testing.assert_allclose(labels.energy, expected["energy"] * factor, rtol=1e-14)
    np.testing.assert_allclose(labels.forces, expected["rows"][:, 3:6] * factor, rtol=1e-13)
    if factor == 1.0:
        np.testing.assert_array_equal(labels.energy, expected["energy"])
        np.testing.assert_array_equal(labels.forces, expected["rows"][:, 3:6])
    assert opened.has_molecules
    assert not opened.has_periodic
    assert not structures.cell.any()


def test_crystals_with_stress(sample: Sample, convert: Convert) -> None:
    path = sample("mptrj/mptrj-random-1k.xyz")
    expected = parse_xyz(path.read_text())
    opened = here(path, "mptrj-sample", "all", convert)
    structures, labels = opened.structures(0, 1000), opened.labels(0, 1000)
    np.testing.assert_array_equal(structures.cell, expected["cell"])
    np.testing.assert_array_equal(structures.positions, expected["rows"][:, :3])
    np.testing.assert_array_equal(labels.forces, expected["rows"][:, 3:6])
    np.testing.assert_array_equal(labels.energy, expected["energy"])
    np.testing.assert_allclose(labels.stress, expected["stress"][:, [0, 4, 8, 5, 2, 1]], rtol=1e-6, atol=1e-12)
    ids = [re.search(r"mptrj_snapshot_id=(\S+)", comment)[1] for comment in expected["comments"]]
    assert opened.ids.tolist() == ids
    assert len(opened.cluster_names) == 998
    assert structures.pbc.all()
    assert np.abs(labels.forces).max() == pytest.approx(70.199, abs=1e-3)


def test_fit_and_test_of_mptrj_share_no_trajectory(sample: Sample, tmp_path: Path, in_process: list[str]) -> None:
    root = sample("mptrj").parent
    entry = load_entry("mptrj-sample")
    location = DataLocation(root, tmp_path)
    fit, test = (open_split(entry, name, location) for name in ("fit", "test"))
    assert (len(fit), len(test)) == (800, 200)
    assert not set(fit.ids) & set(test.ids)
    assert not set(fit.cluster_names) & set(test.cluster_names)


def test_one_data_set_in_three_containers(sample: Sample, tmp_path: Path) -> None:
    root = sample("3bpa").parent
    entry = load_entry("3bpa-sample")
    location = DataLocation(root, tmp_path)
    hashes = {open_split(entry, name, location).content_hash for name in ("train", "train_db", "train_npz")}
    assert len(hashes) == 1
    assert open_split(entry, "test_300K", location).content_hash not in hashes


def test_acac_in_three_containers(sample: Sample, convert: Convert) -> None:
    files = {"test": "acac/test_MD_300K.xyz", "test_db": "acac/mdsim_format/test/data.db"}
    files["test_npz"] = "acac/mdsim_format/test/nequip_npz.npz"
    hashes = {here(sample(name), "acac-sample", split, convert).content_hash for split, name in files.items()}
    assert len(hashes) == 1


def test_npz_in_kcal(sample: Sample, convert: Convert) -> None:
    path = sample("md17/ethanol_first2000.npz")
    raw = np.load(path)
    opened = here(path, "md17-ethanol-sample", "first", convert)
    labels, structures = opened.labels(0, 2000), opened.structures(0, 2000)
    np.testing.assert_allclose(labels.energy, raw["E"][:, 0] * KCAL, rtol=1e-14)
    np.testing.assert_allclose(labels.forces.reshape(raw["F"].shape), raw["F"] * KCAL, rtol=1e-13)
    np.testing.assert_array_equal(structures.positions.reshape(raw["R"].shape), raw["R"])
    np.testing.assert_array_equal(structures.numbers, np.tile(raw["z"], 2000))
    assert -4216 < labels.energy.mean() < -4213


def test_three_frames_stand_in_both_files_of_ethanol(sample: Sample, convert: Convert) -> None:
    in_order, drawn = sample("md17/ethanol_first2000.npz"), sample("md17/ethanol_sampledata.xyz")
    positions = np.load(in_order)["R"].reshape(2000, 27)
    others = parse_xyz(drawn.read_text())["rows"][:, :3].reshape(2000, 27)
    largest = np.stack([np.abs(others - one).max(axis=1).min() for one in positions])
    first = here(in_order, "md17-ethanol-sample", "first", convert, "first")
    found = found_in(first, here(drawn, "md17-ethanol-sample", "fit", convert, "fit"))
    np.testing.assert_array_equal(found, largest <= TOLERANCE)
    assert found.sum() == 3


def test_db_of_iso17(sample: Sample, convert: Convert) -> None:
    """numbers, positions and JSON straight from the tables."""
    from dataset_helpers import reading

    path = sample("iso17/test_iso.db")
    with sqlite3.connect(path) as database:
        rows = database.execute("select numbers, positions, key_value_pairs, data from systems order by id").fetchall()
    database.close()
    how = reading({"energy": "total_energy", "forces": "atomic_forces"})
    opened = convert(path, how)
    structures, labels = opened.structures(0, 40), opened.labels(0, 40)
    np.testing.assert_array_equal(structures.numbers, np.concatenate([np.frombuffer(row[0], "<i4") for row in rows]))
    positions = np.concatenate([np.frombuffer(row[1]).reshape(-1, 3) for row in rows])
    np.testing.assert_array_equal(structures.positions, positions)
    np.testing.assert_array_equal(labels.energy, [json.loads(row[2])["total_energy"] for row in rows])
    np.testing.assert_array_equal(labels.forces, np.concatenate([json.loads(row[3])["atomic_forces"] for row in rows]))
    assert not structures.cell.any()  # the file holds a unit cell of 1 A around each isolated molecule


def test_relaxation_keeps_the_forces_of_fixed_atoms(sample: Sample, convert: Convert) -> None:
    path = sample("oc20/random1000156.traj")
    opened = here(path, "oc20-sample", "all", convert, "oc20/random1000156")
    structures, labels = opened.structures(0, 36), opened.labels(0, 36)
    with Trajectory(path) as frames:
        raw = np.concatenate([atoms.get_forces(apply_constraint=False) for atoms in frames])
        energy = [atoms.get_potential_energy() for atoms in frames]
        positions = np.concatenate([atoms.positions for atoms in frames])
    np.testing.assert_array_equal(labels.forces, raw)
    np.testing.assert_array_equal(labels.energy, energy)
    np.testing.assert_array_equal(structures.positions, positions)
    assert np.abs(labels.forces[structures.fixed]).max() > 0.1
    assert np.abs(np.add.reduceat(labels.forces, structures.offsets[:-1])).max() < 1e-5
    assert opened.cluster_names.tolist() == ["oc20/random1000156"]


def test_compressed_xyz_equals_its_source(sample: Sample, convert: Convert) -> None:
    path = sample("oc20/derived/0.extxyz.xz")
    expected = parse_xyz(lzma.decompress(path.read_bytes()).decode())
    opened = here(path, "oc20-sample", "all", convert)
    structures, labels = opened.structures(0, 62), opened.labels(0, 62)
    rows = expected["rows"]  # position, move_mask, forces
    np.testing.assert_array_equal(structures.positions, rows[:, :3])
    np.testing.assert_array_equal(structures.fixed, rows[:, 3] == 0)
    np.testing.assert_array_equal(labels.forces, rows[:, 4:7])
    np.testing.assert_array_equal(labels.energy, expected["energy"])
    np.testing.assert_array_equal(structures.cell, expected["cell"])


@pytest.mark.parametrize(
    ("entry", "name", "split", "other"),
    [
        ("3bpa-sample", "3bpa/mdsim_format/train/data.lmdb", "train_lmdb", ("3bpa/train_300K.xyz", "train")),
        ("acac-sample", "acac/mdsim_format/test/data.lmdb", "test_lmdb", ("acac/test_MD_300K.xyz", "test")),
    ],
)
def test_lmdb_holds_the_frames_of_the_other_containers(
    sample: Sample, convert: Convert, entry: str, name: str, split: str, other: Any
) -> None:
    """Equal to float32, in the order of the xyz, the last one included, which `length` leaves out."""
    pytest.importorskip("lmdb")
    found, expected = here(sample(name), entry, split, convert), here(sample(other[0]), entry, other[1], convert)
    n = len(expected)
    assert len(found) == n
    structures, labels = found.structures(0, n), found.labels(0, n)
    same, right = expected.structures(0, n), expected.labels(0, n)
    np.testing.assert_array_equal(structures.numbers, same.numbers)
    np.testing.assert_array_equal(structures.offsets, same.offsets)
    np.testing.assert_array_equal(structures.pbc, same.pbc)
    np.testing.assert_array_equal(structures.positions, same.positions.astype(np.float32))
    np.testing.assert_array_equal(labels.forces, right.forces.astype(np.float32))
    np.testing.assert_array_equal(labels.energy, right.energy.astype(np.float32))


def test_dictionaries_of_tensors(sample: Sample, convert: Convert) -> None:
    pytest.importorskip("lmdb")
    how = Reading(
        units={"energy": "eV", "forces": "eV/A", "length": "A", "stress": None},
        keys={"energy": "energy", "forces": "force"},
        pbc=None,
        cluster="structure",
    )
    opened = convert(sample("lips/devset_data.lmdb"), how)
    structures, labels = opened.structures(0, 200), opened.labels(0, 200)
    assert len(opened) == 200
    assert structures.counts.tolist() == [83] * 200
    assert np.bincount(structures.numbers[:83])[[3, 15, 16]].tolist() == [27, 12, 44]
    assert structures.pbc.all()
    assert labels.energy.min() == pytest.approx(-359.214, abs=1e-3)
    assert labels.energy.max() == pytest.approx(-356.185, abs=1e-3)
    assert np.abs(labels.forces).max() == pytest.approx(4.697, abs=1e-3)


def test_oc20_in_three_containers(sample: Sample, convert: Convert) -> None:
    """The same frames out of ASE's trajectories, of extended XYZ beside its text file, and of ASE's rows in LMDB."""
    pytest.importorskip("lmdb")
    sources = [sample(f"oc20/random{sid}.traj") for sid in (1000156, 1000163, 1000142)]
    xyz = here(sample("oc20/derived/0.extxyz.xz"), "oc20-s2ef-sample", "all", convert)
    rows = here(sample("oc20/derived/s2ef_sample.aselmdb"), "oc20-s2ef-sample", "all_aselmdb", convert)
    whole = [here(path, "oc20-sample", "all", convert, path.stem) for path in sources]
    assert (
        xyz.ids.tolist()
        == rows.ids.tolist()
        == [
            f"{path.stem}_{step}"
            for path, split in zip(sources, whole, strict=True)
            for step in range(0, len(split), 2)
        ]
    )
    assert xyz.cluster_names.tolist() == rows.cluster_names.tolist() == [path.stem for path in sources]
    start = 0
    for split in whole:
        chosen = np.arange(0, len(split), 2)
        structures, labels = split.structures(0, len(split)), split.labels(0, len(split))
        stop = start + len(chosen)
        atoms = np.repeat(np.isin(np.arange(len(split)), chosen), structures.counts)
        for other, tolerance in ((rows, 0.0), (xyz, 1e-8)):
            back, found = other.structures(start, stop), other.labels(start, stop)
            np.testing.assert_allclose(found.energy, labels.energy[chosen], rtol=0, atol=tolerance)
            np.testing.assert_allclose(found.forces, labels.forces[atoms], rtol=0, atol=tolerance)
            np.testing.assert_allclose(back.positions, structures.positions[atoms], rtol=0, atol=tolerance)
            np.testing.assert_array_equal(back.fixed, structures.fixed[atoms])
        start = stop
