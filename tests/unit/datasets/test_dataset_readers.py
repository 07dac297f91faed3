"""Every format in the ways it comes right and in the ways it comes wrong; all in this process."""

from __future__ import annotations

import lzma
import pickle
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.db import connect
from dataset_helpers import EV, SGDML, arrays, reading, save, slabs

from mlipbench.datasets.readers import file_format, read
from mlipbench.errors import ConfigError, DatasetError, ExitCode

if TYPE_CHECKING:
    from pathlib import Path

    from dataset_helpers import Convert

WATER = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-14.5 pbc="F F F"
O 0.0 0.0 0.1 0.5 0.25 -0.125
H 0.0 0.7 0.6 0.0 -0.25 0.0
H 0.0 -0.7 0.6 -0.5 0.0 0.125
"""


def put(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path, how: Any = None) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        list(read(path, how or reading(), "x"))
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert caught.value.exit_code is ExitCode.USAGE
    return caught.value


@pytest.mark.parametrize("ending", ["extxyz", "xyz", "extxyz.xz", "traj", "db"])
def test_forces_of_fixed_atoms_and_the_declared_energy_survive(tmp_path: Path, convert: Convert, ending: str) -> None:
    frames = slabs(4)
    split = convert(save(tmp_path / f"slabs.{ending}", frames), reading())
    back, found = split.structures(0, 4), split.labels(0, 4)
    raw = np.concatenate([atoms.calc.results["forces"] for atoms in frames])
    np.testing.assert_allclose(found.forces, raw, atol=1e-12)
    assert np.abs(found.forces[back.fixed]).min() > 0
    np.testing.assert_array_equal(found.energy, [-10, -11, -12, -13])
    np.testing.assert_array_equal(back.fixed, [True, False, False] * 4)
    np.testing.assert_array_equal(back.tags, [0, 1, 2] * 4)
    np.testing.assert_allclose(back.positions, np.concatenate([atoms.positions for atoms in frames]), atol=1e-8)
    np.testing.assert_array_equal(back.cell[0], np.diag([4.0, 5.0, 16.0]))
    assert back.pbc.all()
    free = convert(save(tmp_path / f"more.{ending}", frames), reading({"energy": "free_energy"}))
    np.testing.assert_array_equal(free.labels(0, 4).energy, [-10.5, -11.5, -12.5, -13.5])


@pytest.mark.parametrize("ending", ["extxyz", "traj", "db"])
def test_ids_and_clusters_come_from_the_declared_keys(tmp_path: Path, convert: Convert, ending: str) -> None:
    path = save(tmp_path / f"slabs.{ending}", slabs(4))
    split = convert(path, reading({"id": ["sid", "fid"], "cluster": "sid"}, cluster="key"))
    assert split.ids.tolist() == ["random0_0", "random0_1", "random1_2", "random1_3"]
    assert split.clusters.tolist() == [0, 0, 1, 1]
    assert split.cluster_names.tolist() == ["random0", "random1"]
    by_file = convert(path, reading(cluster="file"), label="folder/slabs")
    assert by_file.ids.tolist() == [f"folder/slabs:{i}" for i in range(4)]
    assert by_file.cluster_names.tolist() == ["folder/slabs"]
    assert convert(path, reading()).clusters.tolist() == [0, 1, 2, 3]


def test_units_are_converted_with_the_exact_constants(tmp_path: Path, convert: Convert) -> None:
    path = put(tmp_path / "water.xyz", WATER)
    kcal = 4184 / (6.02214076e23 * 1.602176634e-19)
    split = convert(path, reading(units={"energy": "kcal/mol", "forces": "kcal/mol/A", "length": "A"}))
    assert split.labels(0, 1).energy[0] == pytest.approx(-14.5 * kcal, rel=1e-15)
    np.testing.assert_allclose(split.labels(0, 1).forces[0], np.array([0.5, 0.25, -0.125]) * kcal, rtol=1e-15)
    atomic = convert(path, reading(units={"energy": "Ha", "forces": "Ha/bohr", "length": "bohr"}))
    assert atomic.structures(0, 1).positions[1, 1] == pytest.approx(0.7 * 0.529177210903, rel=1e-15)
    assert atomic.labels(0, 1).forces[0, 0] == pytest.approx(0.5 * 27.211386245988 / 0.529177210903, rel=1e-15)


def test_unknown_units_are_refused(tmp_path: Path) -> None:
    path = put(tmp_path / "water.xyz", WATER)
    with pytest.raises(ConfigError, match="unknown energy unit 'kcal'"):
        list(read(path, reading(units=EV | {"energy": "kcal"}), "x"))


def test_energies_stay_float64(tmp_path: Path, convert: Convert) -> None:
    split = convert(put(tmp_path / "w.xyz", WATER.replace("-14.5", "-17660.461737861464")), reading())
    assert split.labels(0, 1).energy[0] == -17660.461737861464


def test_capital_energy_must_be_declared(tmp_path: Path, convert: Convert) -> None:
    path = put(tmp_path / "w.xyz", WATER.replace("energy", "Energy"))
    assert "frame 0: no 'energy'; name the right key in the entry (did the file mean 'Energy'?)" in str(refused(path))
    assert convert(path, reading({"energy": "Energy"})).labels(0, 1).energy[0] == -14.5


def test_pbc_of_the_entry_overrides_that_of_the_file(tmp_path: Path, convert: Convert) -> None:
    boxed = 'Lattice="50 0 0 0 50 0 0 0 50" Properties'
    lying = convert(put(tmp_path / "a.xyz", WATER.replace("Properties", boxed).replace(' pbc="F F F"', "")), reading())
    assert lying.has_periodic  # the convention of the format: a cell without pbc is periodic
    truth = reading(pbc=(False, False, False))
    told = convert(tmp_path / "a.xyz", truth)
    plain = convert(put(tmp_path / "b.xyz", WATER), reading())
    assert told.has_molecules
    assert not told.has_periodic
    assert told.content_hash == plain.content_hash != lying.content_hash


def test_lattice_rows_and_partial_periodicity(tmp_path: Path, convert: Convert) -> None:
    header = 'Lattice="1 2 3 4 5 7 7 8 19" pbc="T F 0"'.replace("T F 0", "T F F")
    path = put(tmp_path / "a.xyz", WATER.replace('pbc="F F F"', header))
    structures = convert(path, reading()).structures(0, 1)
    np.testing.assert_array_equal(structures.cell[0], [[1, 2, 3], [4, 5, 7], [7, 8, 19]])
    np.testing.assert_array_equal(structures.pbc[0], [True, False, False])


@pytest.mark.parametrize("stress", ["1 6 5 6 2 4 5 4 3", "1 2 3 4 5 6"])
def test_stress_comes_as_matrix_or_voigt(tmp_path: Path, convert: Convert, stress: str) -> None:
    path = put(tmp_path / "a.xyz", WATER.replace("energy", f'stress="{stress}" energy'))
    how = reading({"stress": "stress"}, units=EV | {"stress": "GPa"})
    gpa = 1e9 * 1e-30 / 1.602176634e-19
    np.testing.assert_allclose(convert(path, how).labels(0, 1).stress, [[gpa * i for i in range(1, 7)]], rtol=1e-14)


@pytest.mark.parametrize(("stress", "expected"), [("1 2 3", "3 numbers"), ("1 9 5 6 2 4 5 4 3", "not symmetric")])
def test_other_stresses_are_refused(tmp_path: Path, stress: str, expected: str) -> None:
    path = put(tmp_path / "a.xyz", WATER.replace("energy", f'stress="{stress}" energy'))
    assert expected in str(refused(path, reading({"stress": "stress"}, units=EV | {"stress": "GPa"})))


def test_charge_and_spin(tmp_path: Path, convert: Convert) -> None:
    path = put(tmp_path / "a.xyz", WATER.replace("energy", "q=-1 mult=2 energy"))
    structures = convert(path, reading({"charge": "q", "spin": "mult"})).structures(0, 1)
    assert (structures.charge[0], structures.spin[0]) == (-1, 2)


TWO = WATER + WATER


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TWO[: TWO.rindex("H 0.0 -0.7")], "frame 1: the file ends inside this frame (2 of 3 atom lines"),
        (TWO[:-1], "frame 1: the file ends inside this frame"),
        (TWO[:-9], "frame 1: the file ends inside this frame"),
        (WATER + "3\n", "frame 1: the file ends inside this frame (0 of 3"),
        (WATER + "3", "frame 1: the file ends inside this frame"),
        (TWO.replace("0.7 0.6 0.0", "0.7 0.6"), "frame 0: atom 1 has 6 columns instead of 7"),
        (TWO.replace("energy=-14.5", "", 1), "frame 0: no 'energy'"),
        (WATER + WATER.replace("forces:R:3", "f:R:3"), "frame 1: no 'forces'"),
        (WATER + WATER.replace("-14.5", "nan"), "frame 1: energy is not finite"),
        (WATER + WATER.replace("-14.5", "inf"), "frame 1: energy is not finite"),
        (WATER + WATER.replace("-14.5", "high"), "frame 1: energy is not numeric"),
        (WATER + WATER.replace("-14.5", "T"), "frame 1: energy is not numeric"),
        (WATER + WATER.replace("-14.5", '"1 2"'), "frame 1: energy holds 2 numbers"),
        (WATER + WATER.replace("-0.125", "NaN"), "frame 1: forces is not finite"),
        (WATER + WATER.replace("0.7 0.6", "nan 0.6"), "frame 1: positions is not finite"),
        (WATER + WATER.replace("0.7 0.6", "0.7x 0.6"), "frame 1: a value of 'pos' cannot be read"),
        (WATER + WATER.replace("O 0.0", "Xx 0.0"), "frame 1: 'Xx' is not a chemical symbol"),
        (WATER + WATER.replace("O 0.0", "X 0.0"), "frame 1: 'X' is not a chemical symbol"),
        (WATER + WATER.replace("energy=", "energy=1 energy="), "frame 1: 'energy' is given twice"),
        (WATER + WATER.replace("pos:R:3", "pos:R:2"), "columns instead of 6"),
        (WATER + WATER.replace("pos:R:3", "pos:Q:3"), "frame 1: Properties="),
        (WATER + WATER.replace("pos:R:3:forces", "forces:R:3:forces"), "names a column twice, or no pos"),
        (WATER + WATER.replace("energy", 'Lattice="1 2" energy'), "frame 1: the comment line cannot be read"),
        (WATER + WATER.replace("F F F", "F F"), "frame 1: pbc does not hold three"),
        (WATER + WATER.replace("F F F", "T T T"), "frame 1: periodic, but the cell has no volume"),
        (WATER + "\n" + WATER, "frame 1: an empty line is followed by more text"),
        (WATER + "0\n\n", "line 6 should hold the number of atoms, not '0'"),
        (WATER + "-3\n", "line 6 should hold the number of atoms, not '-3'"),
        (WATER + "99999999999999\n", "line 6 should hold the number of atoms"),
        (WATER + "hello\n", "line 6 should hold the number of atoms, not 'hello'"),
        ("", "holds no structure"),
        (b"\xff\xfe\x00", "not a valid .xyz file (UnicodeDecodeError"),
    ],
)
def test_bad_xyz_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in str(refused(put(tmp_path / "a.xyz", text)))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("id", "x" * 300, "is not 1 to 256 printable bytes"), ("id", '"1 2"', "is not a single name or number")],
)
def test_bad_names_are_refused(tmp_path: Path, key: str, value: str, expected: str) -> None:
    path = put(tmp_path / "a.xyz", WATER.replace("energy", f"{key}={value} energy"))
    assert expected in str(refused(path, reading({"id": key})))


def test_messages_carry_no_control_characters(tmp_path: Path) -> None:
    path = put(tmp_path / "a.xyz", WATER.replace("energy=-14.5", "\x1b[2Jevil=1 x\x9b=2"))
    line = str(refused(path))
    assert "evil" in line
    assert line.isprintable()


def test_cut_and_damaged_xz(tmp_path: Path) -> None:
    whole = lzma.compress((WATER * 50).encode())
    assert "the compressed file ends inside this frame" in str(refused(put(tmp_path / "a.xyz.xz", whole[:-40])))
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 255
    assert "damaged" in str(refused(put(tmp_path / "b.xyz.xz", bytes(broken))))
    assert "damaged" in str(refused(put(tmp_path / "c.xyz.xz", b"not xz at all")))


def test_both_npz_key_sets_give_the_same_split(tmp_path: Path, convert: Convert) -> None:
    data = arrays()
    np.savez(tmp_path / "a.npz", **data)
    np.savez(
        tmp_path / "b.npz",
        energies=data["E"][:, 0],
        forces=data["F"],
        coords=data["R"],
        nuclear_charges=data["z"],
        old=0,
    )
    revised = SGDML | {"energy": "energies", "forces": "forces", "positions": "coords", "numbers": "nuclear_charges"}
    first, second = convert(tmp_path / "a.npz", reading(SGDML)), convert(tmp_path / "b.npz", reading(revised))
    assert first.content_hash == second.content_hash
    np.testing.assert_array_equal(first.labels(1, 3).forces, data["F"][1:3].reshape(-1, 3))
    np.testing.assert_array_equal(first.labels(0, 4).energy, data["E"][:, 0])
    np.testing.assert_array_equal(first.structures(0, 4).numbers, [8, 1, 1] * 4)
    assert first.ids.tolist() == ["file:0", "file:1", "file:2", "file:3"]


def test_npz_cells_pbc_and_numbers_per_frame(tmp_path: Path, convert: Convert) -> None:
    data = arrays(2) | {"c": np.stack([np.eye(3) * 9, np.eye(3) * 8]), "p": np.array([True, True, False])}
    np.savez(tmp_path / "a.npz", **(data | {"z": np.array([[8, 1, 1], [1, 8, 1]])}))
    structures = convert(tmp_path / "a.npz", reading(SGDML | {"cell": "c", "pbc": "p"})).structures(0, 2)
    np.testing.assert_array_equal(structures.cell, data["c"])
    np.testing.assert_array_equal(structures.pbc, [[True, True, False]] * 2)
    np.testing.assert_array_equal(structures.numbers, [8, 1, 1, 1, 8, 1])


class Evil:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"F": np.array([Evil()], dtype=object)}, ": F: holds Python objects, which are not unpickled; save it as"),
        ({"z": np.array([8, "H", Evil()], dtype=object)}, ": z: holds Python objects"),
        ({"F": None}, "no array 'F'; name the right key in the entry (present: "),
        ({"F": np.zeros((3, 3, 3))}, "F: shape (3, 3, 3) does not fit 4 frames"),
        ({"F": np.zeros((4, 2, 3))}, "frame 0: F has shape (2, 3) for 3 atoms"),
        ({"R": np.zeros((4, 3))}, "R: shape (4, 3) does not fit the atoms"),
        ({"z": np.array([8, 1])}, "R: shape (4, 3, 3) does not fit the atoms"),
        ({"z": np.array([0, 1, 1])}, "frame 0: an atomic number is not one of 1 to 118"),
        ({"z": np.array([8.0, 1.0, 1.0])}, "frame 0: an atomic number is not one of 1 to 118"),
        ({"E": np.array([1, 2, np.nan, 4])}, "frame 2: E is not finite"),
        ({"E": np.zeros((4, 2))}, "frame 0: E holds 2 numbers instead of one"),
        ({"E": np.zeros(4, dtype=complex)}, "E: type complex128 is not numeric"),
        ({"E": np.array(["a"] * 4)}, "frame 0: E is not numeric"),
        ({name: np.zeros((0, 3, 3)) for name in "EFR"}, "holds no structure"),
    ],
)
def test_bad_npz_is_one_line(tmp_path: Path, changes: Any, expected: str) -> None:
    data = {name: value for name, value in (arrays() | changes).items() if value is not None}
    np.savez(tmp_path / "a.npz", **data)
    assert expected in str(refused(tmp_path / "a.npz", reading(SGDML)))


def test_npz_that_is_something_else(tmp_path: Path) -> None:
    assert "a.npz" in str(refused(put(tmp_path / "a.npz", pickle.dumps(Evil())), reading(SGDML)))
    with (tmp_path / "b.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "not an .npz archive" in str(refused(tmp_path / "b.npz", reading(SGDML)))
    np.savez(tmp_path / "c.npz", **arrays())
    said = str(refused(tmp_path / "c.npz", reading(SGDML | {"numbers": None})))
    assert "arrays are read with `keys.numbers`" in said


def test_db_values_in_key_value_pairs_and_data(tmp_path: Path, convert: Convert) -> None:
    """The layout of ISO17: total_energy in key_value_pairs, atomic_forces in data."""
    frames = slabs(3)
    with connect(tmp_path / "iso.db") as database:
        for atoms in frames:
            forces = atoms.calc.results["forces"]
            bare = atoms.copy()
            bare.calc = None
            database.write(bare, key_value_pairs={"total_energy": -3.25}, data={"atomic_forces": forces.tolist()})
    split = convert(tmp_path / "iso.db", reading({"energy": "total_energy", "forces": "atomic_forces", "id": "row_id"}))
    np.testing.assert_array_equal(split.labels(0, 3).energy, [-3.25] * 3)
    expected = np.concatenate([atoms.calc.results["forces"] for atoms in frames])
    np.testing.assert_array_equal(split.labels(0, 3).forces, expected)
    assert split.ids.tolist() == ["1", "2", "3"]


def test_bad_db(tmp_path: Path) -> None:
    assert "not an SQLite database" in str(refused(put(tmp_path / "a.db", "hello")))
    path = save(tmp_path / "b.db", slabs(2))
    with sqlite3.connect(path) as database:
        database.execute("update systems set forces = null where id = 2")
    assert "row id 2: no 'forces'" in str(refused(path))
    with sqlite3.connect(path) as database:
        database.execute("update systems set positions = x'00' where id = 1")
    assert "not a valid .db file (" in str(refused(path))
    database.close()
    with sqlite3.connect(tmp_path / "c.db") as other:
        other.execute("create table t (x)")
    other.close()
    assert "c.db" in str(refused(tmp_path / "c.db"))


def test_reading_a_db_leaves_it_as_it_was(tmp_path: Path) -> None:
    path = save(tmp_path / "b.db", slabs(2))
    before = path.read_bytes()
    list(read(path, reading(), "x"))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["b.db"]


def test_bad_traj(tmp_path: Path) -> None:
    assert "not a valid .traj file" in str(refused(put(tmp_path / "a.traj", "hello")))
    frames = slabs(2)
    frames[1].calc = None
    assert "frame 1: no 'energy'" in str(refused(save(tmp_path / "b.traj", frames)))
    whole = save(tmp_path / "c.traj", slabs(3)).read_bytes()
    refused(put(tmp_path / "d.traj", whole[: len(whole) // 2]))


def test_formats_go_by_name(tmp_path: Path) -> None:
    assert file_format(tmp_path / "0.extxyz.xz") == ".extxyz.xz"
    with pytest.raises(DatasetError, match=r"unknown file type '.cif'; known endings: .extxyz, .xyz"):
        file_format(tmp_path / "a.cif")
