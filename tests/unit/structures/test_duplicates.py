from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels, Split
from mlipbench.structures.duplicates import TOLERANCE, content_hashes, found_in, repeated

if TYPE_CHECKING:
    from pathlib import Path

METHANE_LIKE = [6, 1, 1, 1, 1]


def molecules(positions: Any, numbers: Any = METHANE_LIKE, **more: Any) -> StructureBatch:
    """Return structures of equal atoms; `positions` has shape (n_structures, n_atoms, 3)."""
    positions = np.asarray(positions, dtype=np.float64)
    n, atoms = positions.shape[:2]
    fields = {"cell": np.zeros((n, 3, 3)), "pbc": np.zeros((n, 3))} | more
    return StructureBatch(
        numbers=np.tile(numbers, n),
        positions=positions.reshape(-1, 3),
        offsets=np.arange(n + 1) * atoms,
        **fields,
    )


def frames(n: int, seed: int = 0, atoms: int = 5) -> Any:
    return 5.0 * np.random.default_rng(seed).normal(size=(n, atoms, 3))


def split_of(folder: Path, *pieces: StructureBatch) -> Split:
    with ColumnarWriter(folder) as writer:
        for piece in pieces:
            writer.append(piece, Labels(np.zeros(len(piece)), np.zeros((piece.n_atoms, 3))))
    return Split(folder)


def test_the_same_structures_are_found_and_no_others(tmp_path: Path) -> None:
    train, test = frames(50, seed=1), frames(20, seed=2)
    test[[3, 7]] = train[[40, 12]]
    found = found_in(split_of(tmp_path / "a", molecules(test)), split_of(tmp_path / "b", molecules(train)))
    assert np.flatnonzero(found).tolist() == [3, 7]


def test_only_the_chosen_structures_of_the_other_split_count(tmp_path: Path) -> None:
    train = frames(6, seed=1)
    test, other = split_of(tmp_path / "a", molecules(train[:3])), split_of(tmp_path / "b", molecules(train))
    assert found_in(test, other, np.array([2, 4])).tolist() == [False, False, True]
    assert not found_in(test, other, np.array([], dtype=np.int64)).any()


def test_single_precision_and_text_hold_the_same_structures(tmp_path: Path) -> None:
    exact = 100.0 + frames(200, seed=3, atoms=60)
    numbers = [6] * 60
    split = split_of(tmp_path / "a", molecules(exact, numbers))
    for name, rounded in (("single", exact.astype(np.float32)), ("text", np.round(exact, 4))):
        assert found_in(split_of(tmp_path / name, molecules(rounded, numbers)), split).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31), atoms=st.integers(1, 30), share=st.sampled_from([0.0, 0.5, 0.999]), corner=st.booleans()
)
def test_an_equal_structure_has_one_of_the_four_hashes(seed: int, atoms: int, share: float, *, corner: bool) -> None:
    rng = np.random.default_rng(seed)
    first = 10.0 * rng.normal(size=(1, atoms, 3))
    moves = rng.choice([-1.0, 1.0], first.shape) if corner else rng.uniform(-1.0, 1.0, first.shape)
    cell = 10.0 * rng.normal(size=(1, 3, 3))
    periodic: dict[str, Any] = {"numbers": [8] * atoms, "pbc": np.ones((1, 3))}
    here = content_hashes(molecules(first, cell=cell, **periodic))
    shifted = cell + share * TOLERANCE * rng.choice([-1.0, 1.0], cell.shape)
    there = content_hashes(molecules(first + share * TOLERANCE * moves, cell=shifted, **periodic))
    assert here[0, 0] in there[0]


@pytest.mark.parametrize(("step", "same"), [(0.9, True), (1.1, False)])
def test_one_coordinate_beyond_the_tolerance_tells_structures_apart(tmp_path: Path, step: float, *, same: bool) -> None:
    first = frames(1)
    second = first.copy()
    second[0, 2, 1] += step * TOLERANCE
    found = found_in(split_of(tmp_path / "a", molecules(first)), split_of(tmp_path / "b", molecules(second)))
    assert found.tolist() == [same]


OTHERS: dict[str, dict[str, Any]] = {
    "element": {"numbers": [7, 1, 1, 1, 1]},
    "order": {"numbers": [1, 6, 1, 1, 1]},
    "periodicity": {"pbc": np.ones((1, 3))},
}


@pytest.mark.parametrize("what", OTHERS)
def test_structures_are_not_the_same_with_another(tmp_path: Path, what: str) -> None:
    cell = np.eye(3)[None] * 9.0
    here = split_of(tmp_path / "a", molecules(frames(1), cell=cell))
    there = split_of(tmp_path / "b", molecules(frames(1), **({"cell": cell} | OTHERS[what])))
    assert not found_in(here, there).any()


def test_lattice_vectors_count_in_periodic_directions_alone(tmp_path: Path) -> None:
    cell = np.eye(3)[None] * 9.0
    slab = {"pbc": [[True, True, False]]}
    here = split_of(tmp_path / "a", molecules(frames(1), cell=cell, **slab))
    higher, wider = cell + np.diag([0, 0, 5.0]), cell + np.diag([0.1, 0, 0])
    assert found_in(split_of(tmp_path / "b", molecules(frames(1), cell=higher, **slab)), here).all()
    assert not found_in(split_of(tmp_path / "c", molecules(frames(1), cell=wider, **slab)), here).any()


def test_structures_of_unlike_sizes_stand_beside_each_other(tmp_path: Path) -> None:
    small, large = molecules(frames(3, seed=4)), molecules(frames(2, seed=5, atoms=2), [8, 1])
    mixed = split_of(tmp_path / "a", small, large)
    assert found_in(mixed, split_of(tmp_path / "b", large)).tolist() == [False, False, False, True, True]


def test_repeated_structures_are_found_wherever_they_stand(tmp_path: Path) -> None:
    positions = frames(10, seed=6)
    positions[[2, 9]] = positions[5]
    positions[7] = positions[0]
    found = repeated(split_of(tmp_path / "a", molecules(positions[:4]), molecules(positions[4:])))
    assert np.flatnonzero(found).tolist() == [0, 2, 5, 7, 9]


def test_a_thousand_copies_of_one_structure_are_compared_once_each(tmp_path: Path) -> None:
    copies = np.repeat(frames(1), 1000, axis=0)
    split = split_of(tmp_path / "a", molecules(copies))
    assert repeated(split).all()
    assert found_in(split, split).all()


def test_coordinates_that_are_no_numbers_equal_nothing(tmp_path: Path) -> None:
    positions = frames(3)
    positions[1, 0, 0] = np.nan
    positions[2, 0, 0] = 1e300
    split = split_of(tmp_path / "a", molecules(positions))
    assert found_in(split, split).tolist() == [True, False, True]


def test_hashes_do_not_depend_on_how_structures_are_cut_into_pieces() -> None:
    batch = molecules(frames(9, seed=7))
    pieces = [content_hashes(batch.slice(start, start + 3)) for start in (0, 3, 6)]
    np.testing.assert_array_equal(content_hashes(batch), np.concatenate(pieces))


def test_memory_does_not_grow_with_the_atoms_of_a_split(tmp_path: Path) -> None:
    positions = frames(4000, seed=8, atoms=200)  # 19 MB
    split = split_of(tmp_path / "a", *(molecules(part, [6] * 200) for part in np.split(positions, 8)))
    tracemalloc.start()
    assert found_in(split, split).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
