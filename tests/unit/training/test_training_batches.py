# ruff: noqa: E402 - torch first
"""Which structures a step takes, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from ase.build import bulk
from training_helpers import ToyConfig, clusters_of_atoms, job_for, save

from mlipbench.nets.graph import find_neighbors, make_graph
from mlipbench.structures import StructureBatch
from mlipbench.structures.columnar import Labels
from mlipbench.structures.neighbors import NeighborCap
from mlipbench.training import batches
from mlipbench.training.batches import BatchMaker, ahead
from mlipbench.training.data import load_data
from mlipbench.training.order import Order

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.structures.columnar import Split


def test_order_is_a_function_of_seed_and_step_alone() -> None:
    forward, backward = Order(17, 5, seed=3), Order(17, 5, seed=3)
    seen = [forward.members(step).tolist() for step in range(12)]
    assert [backward.members(step).tolist() for step in reversed(range(12))] == seen[::-1]
    assert [Order(17, 5, seed=4).members(step).tolist() for step in range(12)] != seen


def test_an_epoch_takes_every_structure_once_and_the_next_another_order() -> None:
    order = Order(17, 5, seed=0)
    assert order.steps_per_epoch == 4
    epochs = [np.concatenate([order.members(4 * epoch + step) for step in range(4)]) for epoch in range(3)]
    assert [sorted(epoch.tolist()) for epoch in epochs] == [list(range(17))] * 3
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 3
    assert [len(order.members(step)) for step in range(4)] == [5, 5, 5, 2]


def test_a_batch_larger_than_the_set_is_the_set() -> None:
    order = Order(4, 10, seed=0)
    assert order.steps_per_epoch == 1
    assert sorted(order.members(7).tolist()) == [0, 1, 2, 3]


def maker(split: Split, config: ToyConfig, *, cache_bytes: int = 1 << 20, **changes: object) -> BatchMaker:
    train, _ = load_data(job_for(split, **changes))
    place = torch.float64, torch.device("cpu")
    return BatchMaker(train, np.arange(float(train.n_structures)), config, place, cache_bytes)


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
@pytest.mark.parametrize("cap", [None, NeighborCap(1, whole_shells=False)])
def test_a_batch_is_the_graph_of_its_structures(split: Split, cache_bytes: int, cap: NeighborCap | None) -> None:
    config = ToyConfig(elements=20, cutoff=5.0, hidden=4, cap=cap)
    make = maker(split, config, cache_bytes=cache_bytes)
    chosen = np.array([6, 1, 7])
    structures = split.structures(0, 12).select(chosen)
    expected = make_graph(structures, find_neighbors(structures, 5.0, cap), torch.float64)
    labels = split.labels(0, 12)
    rows = np.concatenate([np.arange(*split.offsets[[s, s + 1]]) for s in chosen])
    for _ in range(2):  # the second time from memory, where there is any
        batch = make.make(chosen)
        assert torch.equal(batch.graph.numbers, expected.numbers)
        assert torch.equal(batch.graph.vectors, expected.vectors)
        assert torch.equal(batch.graph.senders.owner, expected.senders.owner)
        assert torch.equal(batch.graph.receivers.offsets, expected.receivers.offsets)
        assert batch.energy.tolist() == [6.0, 1.0, 7.0]
        assert batch.forces.tolist() == labels.forces[rows].tolist()
        assert batch.counted is None


def test_neighbours_across_cells_come_back_from_memory(tmp_path: Path) -> None:
    crystals = [bulk("Ne", "fcc", a) for a in (4.3, 4.4, 4.5)] + [bulk("Ar", "hcp", a=3.7, c=6.0)]
    structures = StructureBatch.from_atoms(crystals)
    split = save(tmp_path / "crystals", structures, Labels(np.zeros(4), np.zeros((5, 3))))
    config = ToyConfig(elements=20, cutoff=4.0, hidden=4)
    make = maker(
        split,
        config,
        train={"split": "train", "slice": [0, 3, None]},
        validation={"split": "train", "slice": [3, 4, None]},
    )
    chosen = np.array([2, 0])
    expected = make_graph(structures.select(chosen), find_neighbors(structures.select(chosen), 4.0), torch.float64)
    for _ in range(2):
        found = make.make(chosen).graph
        assert torch.equal(found.shifts, expected.shifts)
        assert torch.equal(found.vectors, expected.vectors)


def test_neighbours_are_searched_once_where_there_is_room(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def search(structures: StructureBatch, *more: object) -> object:
        searched.append(structures.n_structures)
        return find_neighbors(structures, *more)

    monkeypatch.setattr(batches, "find_neighbors", search)
    config = ToyConfig(elements=20, cutoff=5.0, hidden=4)
    for room, calls in ((1 << 20, 3), (0, 6)):
        searched.clear()
        make = maker(split, config, cache_bytes=room)
        for _ in range(2):
            make.make(np.array([0, 1, 2]))
        assert len(searched) == calls


def test_fixed_atoms_do_not_count_where_the_dataset_says_so(tmp_path: Path) -> None:
    structures = clusters_of_atoms(12, fixed=True)
    split = save(tmp_path / "fixed", structures)
    config = ToyConfig(elements=20, cutoff=5.0, hidden=4)
    free = maker(split, config, free_atoms_only=True)
    # two and three atoms, every third one fixed: 0 | 3
    assert free.make(np.array([0, 1])).counted[:, 0].tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]
    assert free.data.counted_components[:2].tolist() == [3, 6]
    every = maker(split, config)
    assert every.make(np.array([0, 1])).counted is None
    assert every.data.counted_components[:2].tolist() == [6, 9]


def test_ahead_keeps_order_and_passes_errors_on() -> None:
    assert list(ahead(lambda step: step * step, range(5))) == [0, 1, 4, 9, 16]
    assert list(ahead(lambda step: step, range(0))) == []
    coming = ahead(lambda step: 1 // (2 - step), range(5))
    assert [next(coming), next(coming)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(coming)


@pytest.mark.parametrize("free_only", [True, False])
def test_a_batch_moves_as_a_whole(free_only: bool, tmp_path: Path) -> None:
    split = save(tmp_path / "fixed", clusters_of_atoms(12, fixed=True))
    config = ToyConfig(elements=20, cutoff=5.0, hidden=4)
    batch = maker(split, config, free_atoms_only=free_only).make(np.array([0, 1]), padding=True)
    moved = batch.to(torch.device("meta"))
    tensors = [moved.energy, moved.forces, *([moved.counted] if free_only else [])]
    for part in moved.graph:
        tensors += [part] if isinstance(part, torch.Tensor) else part
    assert len(tensors) == 2 + free_only + 5 + 3 * 3
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.padding, moved.members.tolist(), moved.counted is None) == (True, [0, 1], not free_only)
    assert type(moved.graph.senders) is type(batch.graph.senders)
    assert batch.to(torch.device("cpu")) is batch
