"""The packed files of mini-slabs: sizes, splits, references and labels."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.build import add_adsorbate, fcc100, molecule
from ase.io import read

import mlipbench

if TYPE_CHECKING:
    from ase import Atoms

DATA = Path(mlipbench.__file__).parent / "datasets" / "mini" / "slabs"
VALIDATION = ("val_id", "val_ood_ads", "val_ood_cat", "val_ood_both")
SPLITS = ("train", *VALIDATION)
ALL = (*SPLITS, "references")
PURE_ADSORBATES = {"H", "O", "CO"}


@cache
def frames(split: str) -> list[Atoms]:
    return [atoms for path in sorted((DATA / split).glob("*.extxyz.xz")) for atoms in read(path, ":")]


def lines(split: str) -> list[tuple[str, int, float]]:
    chunks = sorted((DATA / split).glob("*.txt"))
    rows = [line.split(",") for chunk in chunks for line in chunk.read_text().splitlines()]
    return [(sid, int(frame.removeprefix("frame")), float(energy)) for sid, frame, energy in rows]


def sids(split: str) -> list[str]:
    return [atoms.info["sid"] for atoms in frames(split)]


def configs(split: str) -> set[str]:
    return {atoms.info["config"] for atoms in frames(split)}


def adsorbates(split: str) -> set[str]:
    return {config.split()[1] for config in configs(split)}


def bare_slab(atoms: Atoms) -> str:
    return str(atoms[atoms.get_tags() < 2].symbols)


def references() -> dict[str, Any]:
    return json.loads((DATA / "references.json").read_text())["systems"]


@pytest.mark.parametrize("split", ALL)
def test_text_lines_belong_to_frames(split: str) -> None:
    assert [(sid, fid) for sid, fid, _ in lines(split)] == [
        (atoms.info["sid"], atoms.info["fid"]) for atoms in frames(split)
    ]
    assert len({(sid, fid) for sid, fid, _ in lines(split)}) == len(frames(split))


def test_counts() -> None:
    assert len(frames("train")) >= 60
    assert len(set(sids("train"))) >= 20
    for split in VALIDATION:
        names = sids(split)
        assert len(set(names)) >= 12, split
        assert max(names.count(name) for name in names) <= 2, split


def test_no_system_is_in_two_splits() -> None:
    names = [name for split in ALL for name in sorted(set(sids(split)))]
    assert len(names) == len(set(names))
    combinations = [config for split in SPLITS for config in sorted(configs(split))]
    assert len(combinations) == len(set(combinations))


def test_out_of_domain_is_unseen_combinations_of_seen_elements() -> None:
    seen = {symbol for atoms in frames("train") for symbol in atoms.symbols}
    for split in VALIDATION:
        assert {symbol for atoms in frames(split) for symbol in atoms.symbols} <= seen, split
    assert adsorbates("train") == PURE_ADSORBATES
    assert adsorbates("val_id") <= PURE_ADSORBATES
    assert adsorbates("val_ood_cat") <= PURE_ADSORBATES
    assert adsorbates("val_ood_ads") == adsorbates("val_ood_both") == {"OH"}


def test_catalysts_of_the_splits() -> None:
    for split in SPLITS:
        metals = [len(set(atoms[atoms.get_tags() < 2].symbols)) for atoms in frames(split)]
        assert set(metals) == ({2} if split in {"val_ood_cat", "val_ood_both"} else {1}), split


def test_reference_energies_follow_from_reference_frames() -> None:
    energy = {atoms.info["sid"]: atoms.get_potential_energy() for atoms in frames("references")}
    table = references()
    assert set(table) == {name for split in SPLITS for name in sids(split)}
    for split in SPLITS:
        for sid, _, value in lines(split):
            assert value == pytest.approx(sum(c * energy[ref] for ref, c in table[sid].items()), abs=1e-6)
    assert all(value == 0.0 for _, _, value in lines("references"))


def test_references_hold_the_same_atoms() -> None:
    reference = {atoms.info["sid"]: atoms for atoms in frames("references")}
    table = references()
    for split in SPLITS:
        for atoms in frames(split):
            total: dict[str, float] = {}
            for name, coefficient in table[atoms.info["sid"]].items():
                for symbol in reference[name].symbols:
                    total[symbol] = total.get(symbol, 0.0) + coefficient
            left = {symbol: count for symbol, count in total.items() if abs(count) > 1e-12}
            assert left == pytest.approx(dict(atoms.symbols.formula.count())), atoms.info["config"]
            slab = next(reference[name] for name in table[atoms.info["sid"]] if len(reference[name]) == 12)
            assert bare_slab(atoms) == str(slab.symbols)
            assert atoms.cell.array == pytest.approx(slab.cell.array)


@pytest.mark.parametrize("split", ALL)
def test_geometry(split: str) -> None:
    for atoms in frames(split):
        assert np.isfinite(atoms.positions).all()
        distances = atoms.get_all_distances(mic=bool(atoms.pbc.any())) + 10 * np.eye(len(atoms))
        shortest = 0.7 if "H" in atoms.symbols else 1.05
        assert distances.min() > shortest, atoms.info["config"]
        if not atoms.pbc.any():
            continue
        assert atoms.pbc.all()
        tags = atoms.get_tags()
        assert [int((tags == tag).sum()) for tag in (0, 1)] == [8, 4]
        assert sorted(atoms.constraints[0].index) == np.flatnonzero(tags == 0).tolist()
        assert atoms.cell.lengths()[2] - np.ptp(atoms.positions[:, 2]) >= 15.0


@pytest.mark.parametrize("split", ALL)
def test_labels(split: str) -> None:
    for atoms in frames(split):
        energy, free_energy = atoms.get_potential_energy(), atoms.calc.results["free_energy"]
        # -TS is not positive, and half of it lies between E0 and F
        assert -1.0 < free_energy - energy <= 1e-6
        forces = atoms.get_forces(apply_constraint=False)
        assert forces == pytest.approx(atoms.calc.results["forces"])
        assert np.abs(forces).max() < 15.0, atoms.info["config"]
        if atoms.constraints:
            assert np.abs(forces[atoms.get_tags() == 0]).max() > 1e-3


def test_adsorption_energies_are_within_reason() -> None:
    for split in SPLITS:
        for atoms, (_, _, reference) in zip(frames(split), lines(split), strict=True):
            assert abs(atoms.get_potential_energy() - reference) < 8.0, atoms.info["config"]


def test_co_on_cu100_is_what_ase_builds_with_the_tags_of_the_other_frames() -> None:
    built = fcc100("Cu", (3, 3, 3), vacuum=8, periodic=True)
    add_adsorbate(built, molecule("CO"), 2.0, "bridge")
    found = read(DATA.parent / "co_cu100.extxyz")
    assert str(found.symbols) == str(built.symbols) == "Cu27OC"
    np.testing.assert_allclose(found.positions, built.positions, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.cell.array, built.cell.array, rtol=0, atol=1e-8)
    assert found.pbc.all()
    assert found.get_tags().tolist() == [0] * 18 + [1] * 9 + [2] * 2
    assert not found.constraints
