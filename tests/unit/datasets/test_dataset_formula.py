"""Files are found by name and recognised by what they hold: the composition that an entry declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from dataset_helpers import save

from mlipbench.datasets.entry import DatasetEntry, entry_names, load_entry
from mlipbench.datasets.prepare import DataLocation, open_split
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from dataset_helpers import MakeEntry

ETHANOL, ASPIRIN = [6, 6, 8, *[1] * 6], [6] * 9 + [1] * 8 + [8] * 4
MOLECULES = {  # atoms of a molecule as the descriptions of MD17 and rMD17 give them
    "aspirin": 21, "azobenzene": 24, "benzene": 12, "ethanol": 9, "malonaldehyde": 9,
    "naphthalene": 18, "paracetamol": 20, "salicylic": 16, "toluene": 15, "uracil": 12,
}  # fmt: skip
REMEDY = "put the file that the entry describes in its place, or correct the entry"


def put(path: Path, numbers: list[int]) -> Path:
    """Write an archive as MD17 has them."""
    rng, shape = np.random.default_rng(0), (3, len(numbers), 3)
    arrays = {"z": np.array(numbers, dtype=np.uint8), "E": np.zeros((3, 1))}
    arrays |= {"R": rng.normal(size=shape), "F": rng.normal(size=shape)}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def frames(*formulas: str) -> list[Atoms]:
    made = []
    for number, formula in enumerate(formulas):
        n = len(Atoms(formula))
        atoms = Atoms(formula, np.random.default_rng(number).random((n, 3)) * 9)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((n, 3)))
        made.append(atoms)
    return made


def refusal(entry: DatasetEntry, split: str, location: DataLocation) -> str:
    with pytest.raises(DatasetError) as caught:
        open_split(entry, split, location)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_archive_of_another_molecule_is_refused(location: DataLocation, in_process: Any) -> None:
    entry = load_entry("md17-aspirin")
    path = put(location.data_root / "md17/md17_aspirin.npz", ETHANOL)
    says = "frame 0: holds C2H6O, but the entry says `formula: C9H8O4`"
    assert refusal(entry, "trajectory", location) == f"{path}: {says}; {REMEDY}"
    put(path, ASPIRIN[::-1])  # the order of the atoms does not matter
    assert len(open_split(entry, "trajectory", location)) == 3


def test_no_other_name_is_tried_behind_a_file_of_something_else(location: DataLocation, in_process: Any) -> None:
    wrong = put(location.data_root / "md17/md17_aspirin.npz", ETHANOL)
    put(location.data_root / "aspirin_dft.npz", ASPIRIN)
    assert refusal(load_entry("md17-aspirin"), "trajectory", location).startswith(f"{wrong}: frame 0: holds C2H6O")
    wrong.unlink()
    assert len(open_split(load_entry("md17-aspirin"), "trajectory", location)) == 3


def test_one_structure_that_differs_is_named(location: DataLocation, make_entry: MakeEntry, in_process: Any) -> None:
    path = save(location.data_root / "a.extxyz", frames("OH2", "HOH", "HO"))
    line = refusal(make_entry(formula="H2O"), "all", location)
    assert line == f"{path}: frame 2: holds HO, but the entry says `formula: H2O`; {REMEDY}"
    save(path, frames("OH2", "HOH", "H2O"))
    assert len(open_split(make_entry(formula="H2O"), "all", location)) == 3


def test_lips_that_holds_something_else_is_refused_by_the_child(location: DataLocation) -> None:
    path = location.data_root / "lips.xyz"
    path.write_text(save(location.data_root / "made.extxyz", frames("CH4")).read_text().replace("energy", "Energy"))
    line = refusal(load_entry("lips"), "trajectory", location)
    assert line == f"{path}: frame 0: holds CH4, but the entry says `formula: Li27P12S44`; {REMEDY}"


def test_columns_of_before_are_checked_and_keep_place_and_identity(
    location: DataLocation, make_entry: MakeEntry, in_process: list[str]
) -> None:
    save(location.data_root / "a.extxyz", frames("OH2"))
    before = open_split(make_entry(), "all", location)
    after = open_split(make_entry(formula="H2O"), "all", location)
    assert (after.directory, after.content_hash) == (before.directory, before.content_hash)
    assert in_process == ["a"] * 2
    open_split(make_entry(formula="H2O"), "all", location)
    open_split(make_entry(), "all", location)  # what was checked serves those who ask for less
    assert in_process == ["a"] * 2
    assert "holds H2O" in refusal(make_entry(formula="HO"), "all", location)


@pytest.mark.parametrize(
    ("names", "atoms"),
    [
        *(
            ([f"md17-{name}", f"rmd17-{name}", f"md17-{name}-sample", f"rmd17-{name}-sample"], MOLECULES[name])
            for name in MOLECULES
        ),
        (["lips", "lips-mdsim", "lips-sample"], 83),
        (["iso17"], 19),
        (["3bpa", "3bpa-sample"], 27),
        (["acac", "acac-sample"], 15),
        (["water"], 192),
    ],
)
def test_shipped_formulas_have_the_published_number_of_atoms(names: list[str], atoms: int) -> None:
    entries = [load_entry(name) for name in names if name in entry_names()]
    (formula,) = {entry.formula for entry in entries}
    assert len(Atoms(formula)) == atoms
