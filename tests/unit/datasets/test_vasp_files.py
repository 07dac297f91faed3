"""VASP's vasprun.xml, against ASE's reader and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import ase
import numpy as np
import pytest
from ase.io import iread
from dataset_helpers import reading, slabs, vasprun

from mlipbench.datasets.readers import read
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from dataset_helpers import Convert

FREE = {"energy": "free_energy"}


def put(path: Path, text: str) -> Path:
    path.write_text(text, encoding="latin-1")
    return path


def refused(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        list(read(path, reading(), "a"))
    line = str(caught.value)
    assert line.startswith(str(path))
    assert line.isprintable()
    return line


def test_ionic_steps_are_those_that_were_written(tmp_path: Path, convert: Convert) -> None:
    path = put(tmp_path / "vasprun.xml", vasprun(slabs(3)))
    split, free = convert(path, reading()), convert(path, reading(FREE))
    np.testing.assert_allclose(split.labels(0, 3).energy, [-10.0, -11.0, -12.0], atol=1e-7)
    np.testing.assert_allclose(free.labels(0, 3).energy, [-10.5, -11.5, -12.5], atol=1e-7)
    structures = split.structures(0, 3)
    np.testing.assert_allclose(structures.positions, np.concatenate([a.positions for a in slabs(3)]), atol=1e-9)
    np.testing.assert_array_equal(structures.numbers, [29, 29, 8] * 3)
    np.testing.assert_array_equal(structures.pbc, np.ones((3, 3), dtype=bool))
    assert split.ids.tolist() == ["file:0", "file:1", "file:2"]


@pytest.mark.parametrize("pstress", [0.0, 20.0])
def test_values_are_those_of_ases_reader(tmp_path: Path, convert: Convert, pstress: float) -> None:
    path = put(tmp_path / "vasprun.xml", vasprun(slabs(3), pstress))
    theirs = list(iread(path, ":", format="vasp-xml"))
    split, free = convert(path, reading()), convert(path, reading(FREE))
    np.testing.assert_allclose(split.labels(0, 3).energy, [a.get_potential_energy() for a in theirs], atol=1e-6)
    expected = [a.get_potential_energy(force_consistent=True) for a in theirs]
    np.testing.assert_allclose(free.labels(0, 3).energy, expected, atol=1e-6)
    np.testing.assert_allclose(split.labels(0, 3).forces, np.concatenate([a.calc.results["forces"] for a in theirs]))
    structures = split.structures(0, 3)
    np.testing.assert_allclose(structures.positions, np.concatenate([a.positions for a in theirs]), atol=1e-9)
    np.testing.assert_allclose(structures.cell, [a.cell.array for a in theirs])


@pytest.mark.parametrize("name", ["vasprun_dfpt.xml", "vasprun_pstress.xml"])
def test_vasps_own_files_are_read_as_by_ase(name: str, convert: Convert) -> None:
    path = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / name
    if not path.exists():
        pytest.skip(f"this installation of ASE comes without {name}")
    (theirs,) = iread(path, ":", format="vasp-xml")
    split, free = convert(path, reading()), convert(path, reading(FREE))
    np.testing.assert_allclose(split.labels(0, 1).energy, [theirs.get_potential_energy()], atol=1e-7)
    expected = theirs.get_potential_energy(force_consistent=True)
    np.testing.assert_allclose(free.labels(0, 1).energy, [expected], atol=1e-7)
    np.testing.assert_array_equal(split.labels(0, 1).forces, theirs.calc.results["forces"])
    structures = split.structures(0, 1)
    np.testing.assert_allclose(structures.positions, theirs.positions, atol=1e-12)
    np.testing.assert_array_equal(structures.numbers, theirs.numbers)
    np.testing.assert_array_equal(structures.cell[0], theirs.cell.array)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("</modeling>", "", "not a valid .xml file (ParseError: no element found"),
        ("modeling", "html", ": not VASP's vasprun.xml; get the file again"),
        ("<c>Cu</c>", "<c>r </c>", "atominfo: 'r' is not a chemical symbol"),
        ('"atoms"', '"other"', "frame 0: holds no atoms"),
        ("atominfo", "other", "frame 0: no atominfo before this ionic step"),
        (
            'name="e_fr_energy"> -10.5',
            'name="e_fr_energy"> *****',
            "e_fr_energy is '*****0000000', not a number",
        ),
        ('<i name="e_0_energy"> -9.0', '<i name="e_1_energy"> -9.0', "frame 0: no e_0_energy"),
        ('name="e_fr_energy"> -10.5', 'name="e_fr_energy"> nan', "frame 0: e_fr_energy is 'nan0"),
        ('name="forces"', 'name="other"', "frame 0: no 'forces'; name the right key in the entry"),
        ('name="forces">\n<v> ', 'name="forces">\n<v> 1.0 ', "frame 0: forces does not hold three numbers a line"),
        ('name="forces">\n<v> ', 'name="forces">\n<v> x', "frame 0: forces does not hold three numbers a line"),
        ('name="forces">\n<v> ', 'name="forces">\n<v> 1 2 3 </v><v> ', "frame 0: forces has shape (4, 3) for 3 atoms"),
        ("<scstep>", "<other>", "not a valid .xml file (ParseError: mismatched tag"),
        ('PSTRESS"> 0.0', 'PSTRESS"> high', "parameters: PSTRESS is 'high', not a number"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = vasprun(slabs(1))
    assert old in text
    count = -1 if old in {"modeling", "atominfo", "<c>Cu</c>"} else 1
    assert expected in refused(put(tmp_path / "vasprun.xml", text.replace(old, new, count)))


def test_a_cut_file_never_passes_for_a_whole_one(tmp_path: Path) -> None:
    text = vasprun(slabs(2))
    for share in (0.3, 0.6, 0.9):
        assert "get the file again" in refused(put(tmp_path / "vasprun.xml", text[: int(share * len(text))]))
    assert refused(put(tmp_path / "b.xml", ""))


def test_declarations_are_refused_before_they_grow(tmp_path: Path) -> None:
    lines = ['<!ENTITY a0 "boom">', *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))]
    bomb = f"<!DOCTYPE modeling [{''.join(lines)}]>\n<modeling>&a9;</modeling>"
    assert "has a document type declaration, which VASP does not write" in refused(put(tmp_path / "a.xml", bomb))
    secret = put(tmp_path / "secret", "hidden")
    outside = f'<!DOCTYPE modeling [<!ENTITY s SYSTEM "file://{secret}">]>\n<modeling>&s;</modeling>'
    assert "hidden" not in refused(put(tmp_path / "b.xml", outside))


def test_elements_in_elements_without_end_are_refused(tmp_path: Path) -> None:
    depth = 200_000
    assert refused(put(tmp_path / "a.xml", f"<modeling>{'<a>' * depth}{'</a>' * depth}</modeling>"))
