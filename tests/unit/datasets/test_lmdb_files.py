"""Samples and rows in LMDB: the order of their keys, their counts, their names, and every way to be damaged."""

from __future__ import annotations

import struct
import sys
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dataset_helpers import SGDML, reading, save, slabs

pytest.importorskip("lmdb")

from lmdb_helpers import fields_of, in_child, packed, row_of, save_aselmdb, save_lmdb, write_lmdb
from pickle_helpers import call, data, done, mapping, name, old_data, text, whole

from mlipbench.datasets import lmdb_files
from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import open_split
from mlipbench.datasets.readers import read
from mlipbench.errors import DatasetError, ExitCode, PrerequisiteError

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from dataset_helpers import Convert, MakeEntry

    from mlipbench.datasets.prepare import DataLocation

OC20 = {"energy": "y", "forces": "force"}
PERIODIC = (True, True, True)


def samples(keys: dict[str, Any] | None = None, **changes: Any) -> Any:
    return reading(OC20 | (keys or {}), **({"pbc": PERIODIC} | changes))


def rounded(n: int = 3) -> list[Atoms]:
    """Structures whose numbers are whole in binary, so that every container holds them exactly."""
    frames = slabs(n)
    for atoms in frames:
        atoms.positions = np.rint(atoms.positions * 256) / 256
        atoms.calc.results["forces"] = np.rint(atoms.calc.results["forces"] * 256) / 256
        atoms.calc.atoms = atoms.copy()  # or ASE holds the results for those of other structures
    return frames


def refused(path: Path, how: Any = None) -> str:
    with pytest.raises(DatasetError) as caught:
        list(read(path, how or samples(), "x"))
    line = str(caught.value)
    assert line.startswith(str(path))
    assert "\n" not in line
    assert caught.value.exit_code is ExitCode.USAGE
    return line.removeprefix(f"{path}: ")


def test_one_split_in_every_container(tmp_path: Path, convert: Convert) -> None:
    frames = rounded(12)
    ids = {"id": ["sid", "fid"], "cluster": "sid"}
    plain = reading(ids, cluster="key")
    splits = [convert(save(tmp_path / f"a.{ending}", frames), plain) for ending in ("extxyz", "traj", "db")]
    splits.append(convert(save_aselmdb(tmp_path / "a.aselmdb", frames), plain))
    splits.append(convert(save_lmdb(tmp_path / "a.lmdb", frames), samples(ids, cluster="key")))
    modern = save_lmdb(tmp_path / "b.lmdb", frames, energy="energy", forces="forces", graph=True)
    splits.append(convert(modern, reading(ids, pbc=PERIODIC, cluster="key")))
    assert len({split.content_hash for split in splits}) == 1
    assert len({tuple(split.ids) for split in splits}) == 1
    assert splits[-1].cluster_names.tolist() == [f"random{i}" for i in range(6)]
    back, labels = splits[-1].structures(0, 12), splits[-1].labels(0, 12)
    np.testing.assert_array_equal(back.fixed, [True, False, False] * 12)
    np.testing.assert_array_equal(back.tags, [0, 1, 2] * 12)
    assert np.abs(labels.forces[back.fixed]).min() > 0
    np.testing.assert_array_equal(labels.energy, [-10.0 - i for i in range(12)])


def test_molecules_in_xyz_npz_db_and_lmdb(tmp_path: Path, convert: Convert) -> None:
    frames = rounded(3)
    for atoms in frames:
        atoms.set_constraint()
        atoms.set_tags(0)
        atoms.pbc = False
        atoms.info = {}
        atoms.calc.atoms = atoms.copy()
    stacked = {"R": np.stack([atoms.positions for atoms in frames]), "z": frames[0].numbers}
    stacked |= {"F": np.stack([atoms.calc.results["forces"] for atoms in frames]), "E": np.array([-10.0, -11.0, -12.0])}
    np.savez(tmp_path / "a.npz", **stacked)
    splits = [convert(tmp_path / "a.npz", reading(SGDML)), convert(save(tmp_path / "a.xyz", frames), reading())]
    for atoms in frames:
        atoms.info = {"sid": "a", "fid": 0}
    splits.append(convert(save(tmp_path / "a.db", frames), reading()))
    splits.append(convert(save_lmdb(tmp_path / "a.lmdb", frames), samples(pbc=(False, False, False))))
    assert len({split.content_hash for split in splits}) == 1


def test_energies_are_those_of_float32(tmp_path: Path, convert: Convert) -> None:
    """A fact of the files of MDSim that the reader cannot mend: 2**-10 is the step of float32 at 17660."""
    fields = fields_of(slabs(1)[0]) | {"y": np.array([-17660.461737861464], dtype=np.float32)}
    path = write_lmdb(tmp_path / "a.lmdb", {"0": done(data(fields))})
    energy = convert(path, samples()).labels(0, 1).energy[0]
    assert energy == -17660.4609375
    assert energy.dtype == np.float64


def test_keys_are_read_in_the_order_of_their_numbers(tmp_path: Path, convert: Convert) -> None:
    split = convert(save_lmdb(tmp_path / "a.lmdb", slabs(12)), samples())
    assert split.labels(0, 12).energy.tolist() == [-10.0 - i for i in range(12)]  # by bytes, 10 comes before 2
    rows = convert(save_aselmdb(tmp_path / "a.aselmdb", slabs(12)), reading({"id": "row_id"}))
    assert rows.labels(0, 12).energy.tolist() == [-10.0 - i for i in range(12)]
    assert rows.ids.tolist() == [str(i) for i in range(1, 13)]


@pytest.mark.parametrize("length", [None, 11, 12])
def test_length_may_be_the_count_or_the_last_number(tmp_path: Path, convert: Convert, length: int | None) -> None:
    assert len(convert(save_lmdb(tmp_path / "a.lmdb", slabs(12), length=length), samples())) == 12


@pytest.mark.parametrize("length", [0, 10, 13, -1, 10**12])
def test_any_other_length_is_refused(tmp_path: Path, length: int) -> None:
    path = save_lmdb(tmp_path / "a.lmdb", slabs(12), length=length)
    assert refused(path).startswith(f"key length: says {length}, but there are 12 samples")


def test_a_length_that_is_no_number(tmp_path: Path) -> None:
    frame = done(data(fields_of(slabs(1)[0])))
    path = write_lmdb(tmp_path / "a.lmdb", {"0": frame, "length": done(mapping({}))})
    assert "key length: says None" in refused(path)


@pytest.mark.parametrize("layout", [data, old_data, mapping])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"natoms": np.array([3]), "atomic_numbers": np.array([29, 29, 8]), "sid": np.array([4]), "y": np.array(-10.0)},
        {"cell": np.diag([4.0, 5.0, 16.0]), "pbc": np.array([1, 1, 1]), "fixed": np.array([1, 0, 0])},
        {"pbc": np.array([[True, True, True]]), "tags": np.array([0.0, 1.0, 2.0]), "fixed": [True, False, False]},
        {"cell": [[4, 0, 0], [0, 5, 0], [0, 0, 16]], "edge_index": np.zeros((2, 0), dtype=np.int64)},
    ],
)
def test_the_types_that_writers_use(tmp_path: Path, convert: Convert, layout: Any, changes: Any) -> None:
    fields = fields_of(slabs(1)[0])
    path = write_lmdb(tmp_path / "a.lmdb", {"0": done(layout(fields | changes))})
    expected = write_lmdb(tmp_path / "b.lmdb", {"0": done(data(fields))})
    how = samples({"id": "sid"})
    assert convert(path, how).content_hash == convert(expected, how).content_hash


def test_other_names_are_declared(tmp_path: Path, convert: Convert) -> None:
    fields = fields_of(slabs(1)[0])
    renamed = {"xyz": fields.pop("pos"), "z": fields.pop("atomic_numbers"), "box": fields.pop("cell")}
    path = write_lmdb(tmp_path / "a.lmdb", {"0": done(data(fields | renamed | {"periodic": np.array([1, 1, 1])}))})
    keys = {"positions": "xyz", "numbers": "z", "cell": "box", "pbc": "periodic"}
    plain = convert(save_lmdb(tmp_path / "b.lmdb", slabs(1)), samples())
    assert convert(path, samples(keys, pbc=None)).content_hash == plain.content_hash
    assert refused(path).startswith("key 0: no 'atomic_numbers'; name the right key in the entry (present: ")


BASE = fields_of(slabs(1)[0])


def without(*names: str) -> dict[str, Any]:
    return {key: item for key, item in BASE.items() if key not in names}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (without("pos"), "key 0: no 'pos'; name the right key in the entry (present: "),
        (without("y"), "key 0: no 'y'; name the right key"),
        (
            without("force") | {"Force": 1},
            "key 0: no 'force'; name the right key in the entry (did the file mean",
        ),
        (BASE | {"pos": np.zeros((2, 3))}, "key 0: positions is not a numeric array of shape (3, 3)"),
        (BASE | {"pos": [[1.0], [2.0, 3.0]]}, "key 0: pos is not an array of numbers"),
        (BASE | {"pos": {"a": 1}}, "key 0: positions is not a numeric array"),
        (BASE | {"force": np.zeros((2, 3))}, "key 0: force has shape (2, 3) for 3 atoms"),
        (BASE | {"force": np.full((3, 3), np.nan)}, "key 0: force is not finite"),
        (BASE | {"y": np.array([1.0, 2.0])}, "key 0: y holds 2 numbers instead of one"),
        (BASE | {"y": None}, "key 0: y is not numeric"),
        (BASE | {"y": float("inf")}, "key 0: y is not finite"),
        (BASE | {"natoms": 4}, "key 0: natoms is not the number of atoms, 3"),
        (BASE | {"atomic_numbers": np.array([1.5, 1, 1])}, "key 0: atomic_numbers does not hold whole numbers"),
        (BASE | {"atomic_numbers": np.array([np.nan, 1, 1])}, "key 0: atomic_numbers does not hold whole numbers"),
        (BASE | {"atomic_numbers": np.array([0, 1, 1])}, "key 0: an atomic number is not one of 1 to 118"),
        (BASE | {"atomic_numbers": np.zeros((0,), dtype=np.int64), "natoms": 0}, "key 0: holds no atoms"),
        (BASE | {"fixed": np.array([0.5, 0, 0])}, "key 0: fixed does not hold whole numbers"),
        (BASE | {"fixed": np.array([2, 0, 0])}, "key 0: fixed holds something other than 0 and 1"),
        (BASE | {"fixed": np.array([1, 0])}, "key 0: fixed must hold one small integer an atom"),
        (BASE | {"tags": np.array([300, 0, 0])}, "key 0: tags must hold one small integer an atom"),
        (BASE | {"cell": np.zeros((2, 3))}, "key 0: cell is not a numeric array of shape (3, 3)"),
        (without("cell"), "key 0: periodic, but the cell has no volume"),
    ],
)
def test_bad_samples_are_one_line(tmp_path: Path, fields: dict[str, Any], expected: str) -> None:
    assert refused(write_lmdb(tmp_path / "a.lmdb", {"0": done(data(fields))})).startswith(expected)


def test_periodicity_is_not_guessed(tmp_path: Path) -> None:
    path = save_lmdb(tmp_path / "a.lmdb", slabs(1))
    expected = "key 0: no 'pbc': the file does not say where it is periodic; declare `pbc` in the entry"
    assert refused(path, samples(pbc=None)) == expected


SAMPLE = done(data(BASE))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({}, "holds no structure"),
        ({"length": done(whole(0))}, "holds no structure"),
        ({"0": SAMPLE, "2": SAMPLE}, "there is no sample 1, but 2"),
        ({"1": SAMPLE}, "there is no sample 0, but 1"),
        ({"0": SAMPLE, "00": SAMPLE}, "the key '00' is neither a number nor known"),
        ({"0": SAMPLE, b"\x1b[2J\xff": SAMPLE}, "the key '"),
        ({"0": SAMPLE, "nextid": SAMPLE}, "the key 'nextid' is neither a number nor known"),
        ({"0": SAMPLE, "1": SAMPLE[:-9]}, "key 1: not a valid pickle"),
        ({"0": SAMPLE, "1": b""}, "key 1: not a valid pickle"),
        ({"0": SAMPLE, "1": done(text("x"))}, "key 1: holds neither a Data nor a dictionary"),
        ({"0": SAMPLE, "1": zlib.compress(b"{}")}, "key 1: not a valid pickle"),
        ({"0": SAMPLE, "1": done(call(name("os", "getcwd")))}, "key 1: names os.getcwd, which is not decoded"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, items: Any, expected: str) -> None:
    line = refused(write_lmdb(tmp_path / "a.lmdb", items))
    assert line.startswith(expected)
    assert line.isprintable()


def test_no_code_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    evil = call(name("builtins", "exec"), text(f"open({str(canary)!r}, 'w').close()"))
    for item in (done(evil), done(data({**BASE, "y": 1.0}))[:-1] + b"0" + evil + b"."):
        (tmp_path / "a.lmdb").unlink(missing_ok=True)
        line = refused(write_lmdb(tmp_path / "a.lmdb", {"0": item}))
        assert line.startswith("key 0: names builtins.exec, which is not decoded")
    assert not canary.exists()


def test_nothing_is_written_beside_the_file(tmp_path: Path) -> None:
    path = save_lmdb(tmp_path / "a.lmdb", slabs(2))
    before = path.read_bytes()
    path.chmod(0o400)
    list(read(path, samples(), "x"))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.lmdb"]


def test_files_that_are_something_else(tmp_path: Path) -> None:
    for content in (b"", b"hello", bytes(5000), b"\xff" * 20_000):
        for ending in ("lmdb", "aselmdb"):
            path = tmp_path / f"a.{ending}"
            path.write_bytes(content)
            line = in_child(lambda path=path: str(list(read(path, samples(), "x"))))
            assert line.startswith(
                (f"refused {path}: not a valid .{ending} file (", f"refused {path}: the file is cut")
            )


def test_without_the_package_the_remedy_is_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_lmdb(tmp_path / "a.lmdb", slabs(1))
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(PrerequisiteError, match=r"a\.lmdb: the package lmdb.*pip install 'mlipbench\[readers\]'"):
        list(read(path, samples(), "x"))


def test_ids_of_deleted_rows_are_known(tmp_path: Path, convert: Convert) -> None:
    frames = slabs(4)
    items = {str(number): packed(row_of(atoms)) for number, atoms in enumerate(frames, start=1) if number != 2}
    items |= {"nextid": packed(5), "deleted_ids": packed([2])}
    split = convert(write_lmdb(tmp_path / "a.aselmdb", items), reading({"id": "row_id"}))
    assert split.ids.tolist() == ["1", "3", "4"]
    assert split.labels(0, 3).energy.tolist() == [-10, -12, -13]


ROW = row_of(slabs(1)[0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"nextid": packed(5)}, "the last row is 1, but the next one is to be 5"),
        ({"nextid": packed(10**15)}, "the last row is 1, but the next one is to be"),
        ({"nextid": packed("2")}, "nextid and deleted_ids are not whole numbers"),
        ({"nextid": packed(2), "deleted_ids": packed([1.5])}, "nextid and deleted_ids are not whole numbers"),
        ({"nextid": None}, "there is no key 'nextid': not an ASE database"),
        ({"nextid": packed(4), "3": packed(ROW)}, "there is no row 2, and it was not deleted"),
        ({"1": packed(ROW)[:-5]}, "key 1: is cut short"),
        ({"1": packed(ROW) + b"more"}, "key 1: is cut short, followed by more"),
        ({"1": b"hello"}, "key 1: the compressed data are damaged"),
        ({"1": zlib.compress(b"{")}, "key 1: not valid JSON"),
        ({"1": zlib.compress(b"[" * 100_000)}, "key 1: not valid JSON"),
        ({"1": zlib.compress(b"\xff\xfe")}, "key 1: not valid JSON"),
        ({"1": packed([1])}, "row id 1: is no row of an ASE database"),
        ({"1": packed({"numbers": {"__ndarray__": [[10**12], "float64", [1]]}})}, "key 1: not valid JSON"),
        ({"1": packed({"numbers": {"__ndarray__": [[1], "S999999999", [1]]}})}, "row id 1: no 'positions'"),
        ({"1": packed({"numbers": {"__ndarray__": 5}})}, "key 1: not valid JSON"),
        ({"1": packed(ROW | {"numbers": "abc"})}, "row id 1: numbers does not hold whole numbers"),
        ({"1": packed(ROW | {"positions": [[1], [2, 3]]})}, "row id 1: positions is not an array of numbers"),
        ({"1": packed(ROW | {"data": [1]})}, "row id 1: key_value_pairs or data is no dictionary"),
        ({"1": packed(ROW | {"constraints": 3})}, "row id 1: constraints cannot be read"),
        ({"1": packed(ROW | {"constraints": [3]})}, "row id 1: constraints cannot be read"),
        ({"1": packed(ROW | {"constraints": [{"name": "FixAtoms", "kwargs": {}}]})}, "row id 1: no 'indices'"),
        (
            {"1": packed(ROW | {"constraints": [{"name": "FixAtoms", "kwargs": {"indices": [3]}}]})},
            "row id 1: FixAtoms names an atom that is not there",
        ),
        ({"1": packed({key: item for key, item in ROW.items() if key != "forces"})}, "row id 1: no 'forces'"),
    ],
)
def test_bad_rows_are_one_line(tmp_path: Path, changes: Any, expected: str) -> None:
    items = {"1": packed(ROW), "nextid": packed(2)} | changes
    path = write_lmdb(tmp_path / "a.aselmdb", {key: item for key, item in items.items() if item is not None})
    assert refused(path, reading()).startswith(expected)


def test_rows_do_not_unpack_to_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb_files, "_LARGEST_ROW", 1 << 16)
    path = write_lmdb(tmp_path / "a.aselmdb", {"1": zlib.compress(bytes(1 << 17)), "nextid": packed(2)})
    assert refused(path, reading()).startswith("key 1: is cut short, followed by more, or larger than 256 MiB")


def test_other_constraints_fix_nothing(tmp_path: Path, convert: Convert) -> None:
    row = ROW | {"constraints": [{"name": "Hookean", "kwargs": {"a1": 0}}]}
    path = write_lmdb(tmp_path / "a.aselmdb", {"1": packed(row), "nextid": packed(2)})
    assert not convert(path, reading()).structures(0, 1).fixed


def test_a_file_of_the_package_itself(tmp_path: Path, convert: Convert) -> None:
    backend = pytest.importorskip("ase_db_backends.aselmdb")
    frames = slabs(12)
    with backend.LMDBDatabase(tmp_path / "a.aselmdb") as database:
        for atoms in frames:
            database.write(atoms, key_value_pairs={"sid": atoms.info["sid"]}, data={"fid": atoms.info["fid"]})
        database.delete([3])
    keys = {"id": ["sid", "fid"]}
    split = convert(tmp_path / "a.aselmdb", reading(keys))
    assert split.content_hash == convert(save(tmp_path / "b.db", frames[:2] + frames[3:]), reading(keys)).content_hash
    assert split.ids.tolist()[:3] == ["random0_0", "random0_1", "random1_3"]


# from here on with real child processes


def entry_of(make_entry: MakeEntry) -> Any:
    keys = {"energy": "y", "forces": "force"}
    return make_entry(keys=keys, pbc=PERIODIC, splits={"all": {"files": ["a.lmdb"]}})


def test_a_cut_file_does_not_end_the_parent(location: DataLocation, make_entry: MakeEntry) -> None:
    path = save_lmdb(location.data_root / "a.lmdb", slabs(3))
    whole_file = path.read_bytes()
    path.write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(DatasetError, match=r"a\.lmdb: the file is cut short \(\d+ of \d+ bytes\); get the file again"):
        open_split(entry_of(make_entry), "all", location)


def test_a_file_that_ends_its_reader_does_not_end_the_parent(location: DataLocation, make_entry: MakeEntry) -> None:
    """The value of sample 0 is said to be two gigabytes long: reading it leaves the mapped file."""
    path = save_lmdb(location.data_root / "a.lmdb", slabs(1))
    content = bytearray(path.read_bytes())
    size = len(done(data(fields_of(slabs(1)[0]))))
    node = struct.pack("<I", size)  # how LMDB writes the size of a value, before flags, length of the key, and the key
    place = next(
        i for i in range(len(content)) if content[i : i + 4] == node and content[i + 6 : i + 9] == b"\x01\x000"
    )
    content[place : place + 4] = struct.pack("<I", 1 << 31)
    path.write_bytes(content)
    expected = r"a\.lmdb: (the process that read it died \(SIG(BUS|SEGV)|reading needs more than|not a valid)"
    with pytest.raises(DatasetError, match=expected) as caught:
        open_split(entry_of(make_entry), "all", location)
    assert "\n" not in str(caught.value)


IS2RE = {"energy": "y_init", "forces": None, "relaxed_energy": "y_relaxed", "relaxed_positions": "pos_relaxed"}
UP = np.array([0.0, 0.0, 0.25])


def relaxations(n: int = 3) -> list[Atoms]:
    """Structures with the fields of IS2RE, whose relaxed atoms are 0.25 Å higher."""
    frames = rounded(n)
    for i, atoms in enumerate(frames):
        atoms.info = {"sid": i, "y_init": -1.5 - i, "y_relaxed": -2.25 - i}
        atoms.arrays["pos_relaxed"] = atoms.positions + UP
    return frames


def is2re_fields(atoms: Atoms) -> dict[str, Any]:
    """Return the fields of a sample of OC20's IS2RE: no forces, no frame, and a number for a name."""
    fields = {key: part for key, part in fields_of(atoms).items() if key not in {"y", "force", "fid"}}
    relaxed = {"pos_relaxed": atoms.arrays["pos_relaxed"].astype(np.float32)}
    return fields | relaxed | {name: atoms.info[name] for name in ("sid", "y_init", "y_relaxed")}


def save_is2re(path: Path, frames: list[Atoms], **changes: Any) -> Path:
    samples_of = [is2re_fields(atoms) | changes for atoms in frames]
    return write_lmdb(path, {str(i): done(data(fields)) for i, fields in enumerate(samples_of)})


def test_relaxed_states_are_labels_in_every_container(tmp_path: Path, convert: Convert) -> None:
    frames = relaxations()
    split = convert(save_is2re(tmp_path / "a.lmdb", frames), reading(IS2RE | {"id": "sid"}, pbc=PERIODIC))
    assert split.ids.tolist() == ["0", "1", "2"]
    assert {"relaxed_energy", "relaxed_positions"} <= split.column_names
    labels, structures = split.labels(0, 3), split.structures(0, 3)
    assert labels.forces is None
    np.testing.assert_array_equal(labels.energy, [-1.5, -2.5, -3.5])
    np.testing.assert_array_equal(labels.relaxed_energy, [-2.25, -3.25, -4.25])
    np.testing.assert_array_equal(labels.relaxed_positions, structures.positions + UP)
    part = split.labels(1, 2).relaxed_positions
    np.testing.assert_array_equal(part, frames[1].positions + UP)

    from ase.io import write

    write(tmp_path / "a.extxyz", frames, columns=["symbols", "positions", "pos_relaxed", "tags", "move_mask"])
    assert convert(tmp_path / "a.extxyz", reading(IS2RE)).content_hash == split.content_hash
    for atoms in frames:
        atoms.info["pos_relaxed"] = atoms.arrays.pop("pos_relaxed")
    save_db(tmp_path / "a.db", frames)
    assert convert(tmp_path / "a.db", reading(IS2RE)).content_hash == split.content_hash


def save_db(path: Path, frames: list[Atoms]) -> None:
    from ase.db import connect

    with connect(path) as database:
        for atoms in frames:
            pairs = {name: atoms.info[name] for name in ("y_init", "y_relaxed")}
            database.write(atoms, key_value_pairs=pairs, data={"pos_relaxed": atoms.info["pos_relaxed"]})


def test_a_reference_energy_is_taken_from_both_energies(tmp_path: Path, convert: Convert) -> None:
    path = save_is2re(tmp_path / "a.lmdb", relaxations(1), reference=-1.0)
    labels = convert(path, reading(IS2RE | {"reference_energy": "reference"}, pbc=PERIODIC)).labels(0, 1)
    assert (labels.energy.tolist(), labels.relaxed_energy.tolist()) == ([-0.5], [-1.25])


def test_a_wrong_relaxed_state_is_one_line(tmp_path: Path) -> None:
    how = reading(IS2RE, pbc=PERIODIC)
    short = save_is2re(tmp_path / "a.lmdb", relaxations(1), pos_relaxed=np.zeros((2, 3), dtype=np.float32))
    assert refused(short, how) == "key 0: pos_relaxed has shape (2, 3) for 3 atoms"
    lost = save_is2re(tmp_path / "b.lmdb", relaxations(1), pos_relaxed=np.full((3, 3), np.nan, dtype=np.float32))
    assert refused(lost, how).startswith("key 0: pos_relaxed is not finite; ")
    fields = {key: part for key, part in is2re_fields(relaxations(1)[0]).items() if key != "y_relaxed"}
    test_set = write_lmdb(tmp_path / "c.lmdb", {"0": done(data(fields))})  # as OC20's test splits are
    assert refused(test_set, how).startswith("key 0: no 'y_relaxed'; name the right key in the entry")


@pytest.mark.parametrize("folder", ["oc20/is2res_train_val_test_lmdbs/data/is2re/all/val_id", "is2re/all/val_id"])
def test_the_entry_of_oc20_s_relaxations_finds_and_reads_their_files(folder: str, location: DataLocation) -> None:
    assert location.data_root is not None
    place = location.data_root / folder
    place.mkdir(parents=True)
    save_is2re(place / "data.lmdb", relaxations())
    (place / "data.lmdb-lock").write_bytes(bytes(64))  # stands beside the file in the archive
    split = open_split(load_entry("oc20-is2re"), "val_id", location)
    assert {"tags", "fixed", "energy", "relaxed_energy", "relaxed_positions"} <= split.column_names
    assert (split.n_structures, split.has_forces, split.has_periodic, split.has_molecules) == (3, False, True, False)
    assert split.ids.tolist() == ["0", "1", "2"]
    assert not split.has_cluster_names  # every relaxation stands for itself
