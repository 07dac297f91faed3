"""Dictionaries of arrays that numpy pickled into ``.npy`` files, such as MDSim's water."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from dataset_helpers import KEYS, reading

from mlipbench.datasets.readers import read
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from dataset_helpers import Convert

WATER = KEYS | {"energy": "energy", "forces": "forces", "positions": "unwrapped_coords", "numbers": "atom_types"}
WATER |= {"cell": ["lengths", "angles"]}
PERIODIC: Any = {"pbc": (True, True, True)}


def water(n: int = 4) -> dict[str, Any]:
    """Return the layout of MDSim's file, small."""
    rng = np.random.default_rng(2)
    positions = rng.normal(size=(n, 3, 3)) * 9
    return {
        "wrapped_coords": positions % 8.0,
        "unwrapped_coords": positions,
        "forces": rng.normal(size=(n, 3, 3)).astype(np.float32),
        "lengths": np.tile([8.0, 9.0, 10.0], (n, 1)),
        "angles": np.full((n, 3), 90.0),
        "atom_types": np.array([8, 1, 1]),
        "raw_types": np.array(["OW", "HW", "HW"], dtype=object),
        "energy": rng.normal(size=n),
        "e_steps": list(range(n)),
    }


def put(path: Path, fields: Any) -> Path:
    np.save(path, fields, allow_pickle=True)
    return path


def refused(path: Path, **keys: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        list(read(path, reading(WATER | keys, **PERIODIC), "a"))
    line = str(caught.value)
    assert line.startswith(str(path))
    assert line.isprintable()
    return line


def test_arrays_of_a_dictionary_become_frames(tmp_path: Path, convert: Convert) -> None:
    fields = water()
    split = convert(put(tmp_path / "water.npy", fields), reading(WATER, **PERIODIC))
    structures, labels = split.structures(0, 4), split.labels(0, 4)
    np.testing.assert_array_equal(structures.positions, fields["unwrapped_coords"].reshape(-1, 3))
    np.testing.assert_array_equal(labels.forces, fields["forces"].reshape(-1, 3))
    np.testing.assert_array_equal(labels.energy, fields["energy"])
    np.testing.assert_array_equal(structures.numbers, [8, 1, 1] * 4)
    np.testing.assert_allclose(structures.cell, np.tile(np.diag([8.0, 9.0, 10.0]), (4, 1, 1)), atol=1e-12)
    assert structures.pbc.all()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_protocols_and_orders_are_read(tmp_path: Path, convert: Convert, protocol: int) -> None:
    fields = water()
    changed = fields | {"forces": np.asfortranarray(fields["forces"]), "energy": fields["energy"].astype(">f8")}
    path = put(tmp_path / "water.npy", changed)
    raw = path.read_bytes()
    start = 10 + int.from_bytes(raw[8:10], "little")
    path.write_bytes(raw[:start] + pickle.dumps(np.array(changed, dtype=object), protocol=protocol))
    plain = convert(put(tmp_path / "plain.npy", fields), reading(WATER, **PERIODIC))
    assert convert(path, reading(WATER, **PERIODIC)).content_hash == plain.content_hash


def test_one_cell_for_all_frames_and_oblique_ones(tmp_path: Path, convert: Convert) -> None:
    fields = water() | {"lengths": np.array([8.0, 9.0, 10.0]), "angles": np.array([90.0, 90.0, 60.0])}
    one = convert(put(tmp_path / "a.npy", fields), reading(WATER, **PERIODIC)).structures(0, 4).cell
    expected = [[8, 0, 0], [4.5, 9 * np.sqrt(0.75), 0], [0, 0, 10]]
    np.testing.assert_allclose(one, np.tile(expected, (4, 1, 1)), atol=1e-9)
    fields["lengths"] = np.array([[8.0, 9.0, 10.0], [7, 7, 7], [8, 9, 10], [6, 6, 6]])
    several = convert(put(tmp_path / "b.npy", fields), reading(WATER, **PERIODIC)).structures(0, 4).cell
    np.testing.assert_allclose(np.linalg.norm(several, axis=2), fields["lengths"])
    np.savez(tmp_path / "c.npz", **{name: fields[name] for name in fields if name != "raw_types"})
    archive = convert(tmp_path / "c.npz", reading(WATER, **PERIODIC))
    np.testing.assert_array_equal(archive.structures(0, 4).cell, several)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"forces": None},
            "no array 'forces'; name the right key in the entry (present: wrapped_coords, unwrapped",
        ),
        ({"energy": [1.0, 2.0]}, "energy: is no array of numbers; save it as a plain numeric array"),
        ({"energy": np.array([1.0, None, 2.0, 3.0])}, "energy: is no array of numbers"),
        ({"energy": np.zeros(5)}, "energy: shape (5,) does not fit 4 frames"),
        ({"forces": np.zeros((4, 2, 3))}, "frame 0: forces has shape (2, 3) for 3 atoms"),
        ({"unwrapped_coords": np.zeros((4, 3))}, "unwrapped_coords: shape (4, 3) does not fit the atoms"),
        ({"atom_types": np.array([1, 2, 300])}, "frame 0: an atomic number is not one of 1 to 118"),
        ({"lengths": np.zeros((4, 2))}, "lengths: shape (4, 2) is not three numbers a frame"),
        ({"angles": np.array(90.0)}, "angles: shape () is not three numbers a frame"),
        ({"lengths": np.ones((3, 3))}, "lengths: 3 frames, but 4 of the angles"),
        ({"angles": np.full((4, 3), 170.0)}, "lengths: lengths and angles of no cell; angles are in degrees"),
        ({"angles": np.full((4, 3), np.nan)}, "lengths: lengths and angles of no cell; angles are in degrees"),
        ({"lengths": np.zeros((4, 3))}, "periodic, but the cell has no volume"),
    ],
)
def test_bad_arrays_are_refused_in_one_line(tmp_path: Path, changes: Any, expected: str) -> None:
    fields = {name: value for name, value in (water() | changes).items() if value is not None}
    assert expected in refused(put(tmp_path / "water.npy", fields))


class Evil:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (np.zeros(3), "holds one array, not a dictionary of arrays; an .npz file is read, too"),
        (np.array([{}, {}]), "holds one array, not a dictionary of arrays"),
        (np.array(None, dtype=object), "holds no dictionary of arrays"),
        (Evil(), "names _pytest.outcomes._Fail, which is not decoded"),
        ({"forces": Evil()}, "names _pytest.outcomes._Fail, which is not decoded"),
        ({"forces": np.array([Evil()])}, "names _pytest.outcomes._Fail, which is not decoded"),
        ({("a", "b"): 1}, "a key of a dictionary is neither text nor a whole number"),
    ],
)
def test_what_is_no_dictionary_of_arrays_is_refused_and_not_run(tmp_path: Path, held: Any, expected: str) -> None:
    assert expected in refused(put(tmp_path / "water.npy", held))


def test_cut_files_are_refused(tmp_path: Path) -> None:
    raw = put(tmp_path / "water.npy", water()).read_bytes()
    for share in (0.0, 0.001, 0.05, 0.5, 0.99):
        (tmp_path / "a.npy").write_bytes(raw[: int(share * len(raw))])
        assert "a.npy" in refused(tmp_path / "a.npy")


def test_a_size_that_is_not_there_takes_no_memory(tmp_path: Path) -> None:
    raw = put(tmp_path / "water.npy", {"forces": np.zeros(100)}).read_bytes()
    size = (800).to_bytes(4, "little")
    assert raw.count(b"B" + size) == 1
    for code, most in ((b"B", b"\xff\xff\xff\xff"), (b"\x8e", b"\xff\xff\xff\xff\xff\xff\xff\x7f")):
        (tmp_path / "a.npy").write_bytes(raw.replace(b"B" + size, code + most))
        assert "not a valid pickle" in refused(tmp_path / "a.npy")


def test_two_names_of_a_cell_are_not_for_lmdb(tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    from dataset_helpers import slabs
    from lmdb_helpers import save_lmdb

    path = save_lmdb(tmp_path / "a.lmdb", slabs(1), energy="energy", forces="forces")
    with pytest.raises(DatasetError, match=r"`keys.cell` names two values; name the one of lattice vectors"):
        list(read(path, reading({"cell": ["lengths", "angles"]}, **PERIODIC), "a"))
