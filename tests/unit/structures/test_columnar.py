from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.errors import DatasetError
from mlipbench.structures import StructureBatch, concatenate
from mlipbench.structures.columnar import META, Labels, Split

if TYPE_CHECKING:
    from pathlib import Path


def batch(counts: tuple[int, ...] = (2, 1, 3), seed: int = 0, **more: Any) -> StructureBatch:
    rng = np.random.default_rng(seed)
    n_atoms, n = sum(counts), len(counts)
    return StructureBatch(
        numbers=rng.integers(1, 9, n_atoms),
        positions=rng.random((n_atoms, 3)),
        cell=rng.random((n, 3, 3)),
        pbc=np.ones((n, 3)),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        **more,
    )


def labels(structures: Any, seed: Any = 1, *, stress: Any = True) -> Any:
    rng = np.random.default_rng(seed)
    n = structures.n_structures
    return Labels(rng.random(n), rng.random((structures.n_atoms, 3)), rng.random((n, 6)) if stress else None)


def write(folder: Any, pieces: Any, clusters: Any = None) -> Any:
    with ColumnarWriter(folder) as writer:
        for number, (structures, found) in enumerate(pieces):
            writer.append(structures, found, None if clusters is None else clusters[number])
    return Split(folder, "toy", "all")


def test_round_trip_and_slices(tmp_path: Path) -> None:
    whole = batch(
        tags=[0, 1, 2, 0, 1, 2], fixed=[1, 0, 0, 1, 0, 0], charge=[0, 1, -1], spin=[1, 2, 1], id=["a", "é", "c"]
    )
    found = labels(whole)
    split = write(tmp_path / "s", [(whole, found)], [["x", "y", "x"]])
    assert (split.n_structures, split.n_atoms, split.entry, split.name) == (3, 6, "toy", "all")
    back = split.structures(0, 3)
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(back.columns()[name], column)
    part, part_labels = split.structures(1, 3), split.labels(1, 3)
    np.testing.assert_array_equal(part.positions, whole.positions[2:])
    np.testing.assert_array_equal(part.offsets, [0, 1, 4])
    np.testing.assert_array_equal(part.id, ["é", "c"])
    np.testing.assert_array_equal(part_labels.energy, found.energy[1:])
    np.testing.assert_array_equal(part_labels.forces, found.forces[2:])
    np.testing.assert_array_equal(part_labels.stress, found.stress[1:])
    assert part_labels.energy.dtype == np.float64
    np.testing.assert_array_equal(split.clusters, [0, 1, 0])
    np.testing.assert_array_equal(split.cluster_names, ["x", "y"])
    np.testing.assert_array_equal(split.counts, [2, 1, 3])
    assert split.elements == frozenset(whole.numbers.tolist())
    assert split.has_forces
    assert split.has_stress
    assert split.has_periodic
    assert not split.has_molecules
    with pytest.raises(IndexError):
        split.structures(2, 4)


def test_small_types_on_disk(tmp_path: Path) -> None:
    whole = batch(tags=[0, 1, 2, 0, 1, 2], fixed=[1, 0, 0, 1, 0, 0], id=["a", "b", "c"])
    write(tmp_path / "s", [(whole, labels(whole))])
    columns = json.loads((tmp_path / "s" / META).read_text())["columns"]
    types = {name: column["dtype"] for name, column in columns.items()}
    assert types["numbers"] == "|u1"
    assert types["tags"] == "|i1"
    assert types["fixed"] == "|b1"
    assert types["ids"] == "|S1"
    assert {types[name] for name in ("energy", "forces", "positions", "stress")} == {"<f8"}


def test_hash_does_not_depend_on_how_it_was_cut_nor_on_names(tmp_path: Path) -> None:
    first, second = batch((2, 1), seed=3), batch((4, 2), seed=4)
    joined = concatenate([first, second])
    one, two = labels(first, 5), labels(second, 6)
    both = Labels(*(np.concatenate([getattr(one, n), getattr(two, n)]) for n in ("energy", "forces", "stress")))
    pieces = write(tmp_path / "a", [(first, one), (second, two)])
    whole = write(tmp_path / "b", [(joined, both)])
    assert pieces.content_hash == whole.content_hash
    named = write(tmp_path / "c", [(batch((2, 1), seed=3, id=["p", "q"]), one)])
    unnamed = write(tmp_path / "d", [(first, one)])
    assert named.content_hash == unnamed.content_hash
    assert whole.content_hash != unnamed.content_hash
    zeros = write(tmp_path / "e", [(batch((2, 1), seed=3, tags=[0, 0, 0], fixed=[0, 0, 0]), one)])
    assert zeros.content_hash == unnamed.content_hash


@pytest.mark.parametrize("change", ["energy", "forces", "positions", "clusters", "fixed"])
def test_hash_sees_every_column(tmp_path: Path, change: str) -> None:
    plain = batch()
    found = labels(plain)
    before = write(tmp_path / "a", [(plain, found)], [["x", "y", "z"]]).content_hash
    clusters = ["x", "y", "y"] if change == "clusters" else ["x", "y", "z"]
    changed = batch(fixed=[1, 0, 0, 0, 0, 0]) if change == "fixed" else batch()
    if change in {"energy", "forces"}:
        getattr(found, change)[0] += 1e-12
    if change == "positions":
        changed.positions[0, 0] += 1e-12
    assert write(tmp_path / "b", [(changed, found)], [clusters]).content_hash != before


def test_optional_columns_that_appear_late_are_filled(tmp_path: Path) -> None:
    split = write(tmp_path / "s", [(b, labels(b)) for b in (batch(), batch(tags=[0, 0, 0, 0, 0, 2]), batch())])
    expected = np.zeros(18)
    expected[11] = 2
    np.testing.assert_array_equal(split.structures(0, 9).tags, expected)
    assert split.structures(0, 9).fixed is None


def test_composition_counts_atoms_by_element(tmp_path: Path) -> None:
    structures = batch((2, 1, 3))
    split = write(tmp_path / "s", [(structures, labels(structures))])
    elements = [8, 1, 3, 118]
    expected = [[int(np.sum(one.numbers == z)) for z in elements] for one in structures]
    np.testing.assert_array_equal(split.composition(elements), expected)
    assert split.composition([]).shape == (3, 0)


def test_chunks_cover_the_split_within_the_budget(tmp_path: Path) -> None:
    structures = batch((2, 1, 3, 7, 1, 1))
    split = write(tmp_path / "s", [(structures, labels(structures))])
    assert list(split.chunks(4)) == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert list(split.chunks()) == [(0, 6)]


def test_wrong_pieces_are_refused(tmp_path: Path) -> None:
    structures = batch()
    found = labels(structures)
    with ColumnarWriter(tmp_path / "s") as writer:
        writer.append(structures, found)
        with pytest.raises(ValueError, match="for some structures only: stress"):
            writer.append(structures, labels(structures, stress=False))
        with pytest.raises(ValueError, match="for some structures only: clusters"):
            writer.append(structures, found, ["a", "b", "c"])
        with pytest.raises(ValueError, match="forces has shape"):
            writer.append(structures, Labels(found.energy, found.forces[:2], found.stress))
        with pytest.raises(ValueError, match="between 1 and 118"):
            writer.append(StructureBatch([0], [[0, 0, 0]], np.zeros((1, 3, 3)), np.zeros((1, 3)), [0, 1]), found)


def test_an_unfinished_folder_is_no_split(tmp_path: Path) -> None:
    structures = batch()

    def interrupted() -> None:
        with ColumnarWriter(tmp_path / "s") as writer:
            writer.append(structures, labels(structures))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(DatasetError, match=r"meta\.json"):
        Split(tmp_path / "s")
    with pytest.raises(ValueError, match="no structure"), ColumnarWriter(tmp_path / "t"):
        pass


@pytest.mark.parametrize("damage", ["cut", "gone", "header", "meta", "format"])
def test_damage_is_one_line_with_a_remedy(tmp_path: Path, damage: str) -> None:
    structures = batch()
    write(tmp_path / "s", [(structures, labels(structures))])
    forces, meta = tmp_path / "s" / "forces.npy", tmp_path / "s" / META
    if damage == "cut":
        forces.write_bytes(forces.read_bytes()[:-8])
    elif damage == "gone":
        forces.unlink()
    elif damage == "header":
        forces.write_bytes(b"\0" * 200)
    elif damage == "meta":
        meta.write_text(meta.read_text()[:-20])
    else:
        meta.write_text(meta.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(DatasetError, match="missing or damaged; delete the folder"):
        Split(tmp_path / "s")


def test_bit_flips_are_found_by_hashing(tmp_path: Path) -> None:
    structures = batch()
    split = write(tmp_path / "s", [(structures, labels(structures))])
    assert split.damaged_columns() == []
    path = tmp_path / "s" / "energy.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert Split(tmp_path / "s").damaged_columns() == ["energy"]


def test_memory_stays_small(tmp_path: Path) -> None:
    """Forty pieces of 2000 structures: nothing but names and offsets may accumulate."""
    import tracemalloc

    structures = batch((73,) * 2000, id=[f"random{i}" for i in range(2000)])
    found = labels(structures)
    tracemalloc.start()
    with ColumnarWriter(tmp_path / "s") as writer:
        for _ in range(20):
            writer.append(structures, found, ["system"] * 2000)
    split = Split(tmp_path / "s")
    split.composition(sorted(split.elements))
    for start, stop in split.chunks():
        split.labels(start, stop)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    on_disk = sum(path.stat().st_size for path in (tmp_path / "s").iterdir())
    assert on_disk > 140e6
    assert peak < 30e6


def test_labels_of_relaxed_states_are_cut_like_the_others(tmp_path: Path) -> None:
    whole = batch()
    found = Labels(relaxed_energy=np.arange(3.0), relaxed_positions=np.arange(18.0).reshape(6, 3))
    split = write(tmp_path / "s", [(whole, found)])
    part = split.labels(1, 2)
    assert (part.energy, part.forces, part.stress) == (None, None, None)
    np.testing.assert_array_equal(part.relaxed_energy, [1.0])
    np.testing.assert_array_equal(part.relaxed_positions, [[6.0, 7.0, 8.0]])


def test_structures_without_energies_say_so(tmp_path: Path) -> None:
    split = write(tmp_path / "s", [(batch(), Labels())])
    with pytest.raises(DatasetError, match="toy/all: the structures have no energies; name a split whose files hold"):
        split.energies(0, 3)


def test_relaxed_states_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    wrong = Labels(relaxed_positions=np.zeros((5, 3)))
    with pytest.raises(ValueError, match=r"relaxed_positions has shape \(5, 3\), expected \(6, 3\)"):
        write(tmp_path / "s", [(batch(), wrong)])


@pytest.mark.parametrize("named", [True, False])
def test_a_subset_is_a_split_of_these_structures(tmp_path: Path, *, named: bool) -> None:
    more = {"tags": [0, 1, 2, 0, 1, 2], "fixed": [1, 0, 0, 1, 0, 0], "charge": [0, 1, -1]}
    whole = batch(**more, **({"id": ["a", "é", "c"]} if named else {}))
    split = write(tmp_path / "s", [(whole, labels(whole))], [["x", "y", "x"]] if named else None)
    places = np.array([2, 0, 2])
    subset = split.subset(places)
    assert (len(subset), subset.n_structures, subset.n_atoms) == (3, 3, 8)
    np.testing.assert_array_equal(subset.counts, [3, 2, 3])
    one_by_one = concatenate([split.structures(place, place + 1) for place in places])
    for name, column in one_by_one.columns().items():
        np.testing.assert_array_equal(subset.structures(0, 3).columns()[name], column)
    last, known = subset.structures(1, 3), split.structures(2, 3)
    np.testing.assert_array_equal(last.positions[2:], known.positions)
    np.testing.assert_array_equal(last.offsets, [0, 2, 5])
    np.testing.assert_array_equal(subset.ids, ["c", "a", "c"] if named else ["2", "0", "2"])
    for label in ("energy", "forces", "stress"):
        of_last = [getattr(split.labels(place, place + 1), label) for place in (0, 2)]
        np.testing.assert_array_equal(getattr(subset.labels(1, 3), label), np.concatenate(of_last))
    np.testing.assert_array_equal(subset.cluster_names[subset.clusters], ["x"] * 3 if named else ["2", "0", "2"])
    np.testing.assert_array_equal(subset.hashes, split.hashes[places])
    np.testing.assert_array_equal(subset.composition([1, 2]), split.composition([1, 2])[places])
    np.testing.assert_array_equal(subset.select(np.array([1])).positions, whole.positions[:2])
    again = subset.subset(np.array([1]))
    np.testing.assert_array_equal(again.ids, ["a"] if named else ["0"])
    np.testing.assert_array_equal(again.structures(0, 1).numbers, whole.numbers[:2])
    with pytest.raises(IndexError):
        subset.structures(2, 4)
