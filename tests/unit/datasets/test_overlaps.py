from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from dataset_helpers import save, slabs

from mlipbench.datasets import overlaps
from mlipbench.datasets.overlaps import overlap
from mlipbench.datasets.prepare import open_split

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.structures.columnar import Split


@pytest.fixture
def pair(location: DataLocation, make_entry: Callable[..., DatasetEntry], in_process: list[str]) -> tuple[Split, Split]:
    """Return a split of ten frames and one that holds the frames 1, 3 and 8 of it as its frames 0, 1 and 2."""
    frames = slabs(10)
    save(location.data_root / "test.extxyz", frames)
    save(location.data_root / "train.extxyz", [frames[1], frames[3], frames[8], *slabs(4, seed=5)])
    entry = make_entry(splits={name: {"files": [f"{name}.extxyz"]} for name in ("test", "train")})
    return open_split(entry, "test", location), open_split(entry, "train", location)


def test_the_structures_that_count_are_looked_up(pair: tuple[Split, Split]) -> None:
    test, train = pair
    assert [overlap(test, np.arange(size), train) for size in (10, 8, 3, 1)] == [3, 2, 1, 0]
    assert overlap(test, np.array([8, 9]), train) == 1
    assert overlap(test, None, train, np.array([1, 2, 5])) == 2


def test_what_was_looked_up_is_remembered(pair: tuple[Split, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    test, train = pair
    assert overlap(test, None, train) == 3
    monkeypatch.setattr(overlaps, "found_in", lambda *_: pytest.fail("looked up again"))
    assert overlap(test, np.arange(4), train) == 2
    with pytest.raises(pytest.fail.Exception):
        overlap(test, np.arange(4), train, np.array([0]))


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_a_damaged_memory_is_looked_up_again(pair: tuple[Split, Split], damage: bytes | None) -> None:
    test, train = pair
    overlap(test, None, train)
    (kept,) = test.directory.glob("found-*.npy")
    if damage is None:
        np.save(kept, np.zeros(1, dtype=np.uint8))
    else:
        kept.write_bytes(damage)
    assert overlap(test, None, train) == 3


def test_a_folder_that_cannot_be_written_costs_time_alone(
    pair: tuple[Split, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    test, train = pair
    monkeypatch.setattr(overlaps.tempfile, "NamedTemporaryFile", refuse)
    assert overlap(test, None, train) == 3
    assert list(test.directory.glob("found-*")) == []
