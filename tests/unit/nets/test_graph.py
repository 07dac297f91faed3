from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from net_frames import crystal, frame, joined, molecule  # noqa: E402 - needs torch

from mlipbench.nets.graph import find_neighbors, make_graph  # noqa: E402 - needs torch
from mlipbench.nets.segments import Segments, segment_sum  # noqa: E402 - needs torch
from mlipbench.structures import StructureBatch  # noqa: E402 - beside the others
from mlipbench.structures.neighbors import NeighborCap, nearest_neighbors, neighbor_list  # noqa: E402 - beside the others

pytestmark = pytest.mark.torch

CUTOFF = 3.0
SLAB = StructureBatch(
    numbers=[29],
    positions=[[0.5, 0.5, 0.5]],
    cell=np.diag([2.0, 2.5, 0.0])[None],
    pbc=[[True, True, False]],
    offsets=[0, 1],
)
NOTHING = frame([], [])


def check_segments(segments: Segments, owner: list[int], n_segments: int) -> None:
    assert segments.owner.tolist() == owner
    assert segments.offsets.tolist() == [sum(o < s for o in owner) for s in range(n_segments + 1)]
    assert segments.order.tolist() == sorted(range(len(owner)), key=lambda row: owner[row])
    assert {part.dtype for part in segments} == {torch.int64}


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=4), seed=st.integers(0, 99))
def test_edges_lead_from_senders_to_receivers(sizes, seed):
    parts = [crystal(n, seed + k) if periodic and n else molecule(n, seed + k) for k, (periodic, n) in enumerate(sizes)]
    batch = joined(NOTHING, *parts)
    neighbors = find_neighbors(batch, CUTOFF)
    graph = make_graph(batch, neighbors, torch.float64)
    check_segments(graph.receivers, neighbors.i.tolist(), batch.n_atoms)
    check_segments(graph.senders, neighbors.j.tolist(), batch.n_atoms)
    check_segments(graph.structures, batch.structure_index.tolist(), batch.n_structures)
    assert graph.receivers.order.tolist() == list(range(neighbors.n_edges))
    assert graph.numbers.tolist() == batch.numbers.tolist()
    assert graph.atoms_per_structure.tolist() == [[n] for n in batch.counts]
    structure = batch.structure_index[neighbors.i]
    for edge in range(neighbors.n_edges):
        image = batch.positions[neighbors.j[edge]] + graph.shifts[edge].numpy() @ batch.cell[structure[edge]]
        vector = image - batch.positions[neighbors.i[edge]]
        np.testing.assert_allclose(graph.vectors[edge].numpy(), vector, atol=1e-12)
        assert 0 < np.linalg.norm(vector) < CUTOFF
        assert structure[edge] == batch.structure_index[neighbors.j[edge]]


def test_by_hand():
    dimer, chain = frame([1, 8], [[0, 0, 0], [0, 0, 1]]), frame([3], [[0, 0, 0]], np.diag([2.0, 9.0, 9.0]))
    batch = joined(dimer, NOTHING, chain)
    graph = make_graph(batch, find_neighbors(batch, CUTOFF), torch.float32)
    assert graph.vectors.tolist() == [[0, 0, 1], [0, 0, -1], [-2, 0, 0], [2, 0, 0]]
    assert graph.receivers.owner.tolist() == [0, 1, 2, 2]
    assert graph.senders.owner.tolist() == [1, 0, 2, 2]
    assert graph.receivers.offsets.tolist() == [0, 1, 2, 4]
    assert graph.structures.offsets.tolist() == [0, 2, 2, 3]
    assert graph.atoms_per_structure.tolist() == [[2], [0], [1]]
    assert graph.shifts.tolist() == [[0, 0, 0], [0, 0, 0], [-1, 0, 0], [1, 0, 0]]
    assert graph.volumes[:2].isnan().all()
    assert graph.volumes[2] == 162
    assert segment_sum(graph.vectors, graph.receivers).tolist() == [[0, 0, 1], [0, 0, -1], [0, 0, 0]]


def test_only_crystals_have_a_volume():
    left_handed = frame([1], [[0, 0, 0]], [[0, 2, 0], [2, 0, 0], [1, 1, 3]])
    boxed = StructureBatch(numbers=[1], positions=[[0, 0, 0]], cell=[np.eye(3)], pbc=[[False] * 3], offsets=[0, 1])
    batch = joined(left_handed, SLAB, boxed, NOTHING)
    volumes = make_graph(batch, find_neighbors(batch, CUTOFF), torch.float64).volumes
    assert volumes[0].item() == pytest.approx(12)
    assert volumes.isnan().tolist() == [False, True, True, True]


def test_vectors_are_rounded_once():
    # at 10⁵ Å float32 resolves no better than 0.008 Å
    batch = frame([1, 1], [[1e5, 0, 0], [1e5 + 1.2345678, 0.1, 0]])
    graph = make_graph(batch, find_neighbors(batch, CUTOFF), torch.float32)
    assert graph.vectors.dtype == graph.atoms_per_structure.dtype == graph.volumes.dtype == torch.float32
    np.testing.assert_array_equal(graph.vectors[0].numpy(), np.array([1e5 + 1.2345678 - 1e5, 0.1, 0], np.float32))


@pytest.mark.parametrize("batch", [StructureBatch.from_atoms([]), NOTHING, frame([1], [[1, 2, 3]])])
def test_there_may_be_no_edges(batch):
    graph = make_graph(batch, find_neighbors(batch, CUTOFF), torch.float64)
    assert graph.vectors.shape == graph.shifts.shape == (0, 3)
    assert graph.receivers.offsets.tolist() == [0] * (batch.n_atoms + 1)
    assert graph.structures.offsets.tolist() == batch.offsets.tolist()
    assert graph.volumes.shape == (batch.n_structures,)
    assert segment_sum(graph.vectors, graph.receivers).shape == (batch.n_atoms, 3)


def test_goes_to_a_device_whole():
    batch = joined(crystal(3, 0), molecule(2, 0))
    graph = make_graph(batch, find_neighbors(batch, CUTOFF), torch.float32, "meta")
    parts = [part for entry in graph for part in (entry if isinstance(entry, Segments) else [entry])]
    assert all(part.is_meta for part in parts)
    assert len(parts) == 14


def edges(found):
    rows = np.column_stack([found.i, found.j, found.shifts]).tolist()
    return sorted(rows), found.i.tolist(), found.offsets.tolist(), found.cutoff


def test_finds_what_the_network_sees():
    batch = joined(crystal(4, 1), molecule(6, 2), SLAB)
    everything = neighbor_list(batch, CUTOFF)
    cap = NeighborCap(5, whole_shells=False)
    assert edges(find_neighbors(batch, CUTOFF)) == edges(everything)
    assert edges(find_neighbors(batch, CUTOFF, cap)) == edges(nearest_neighbors(everything, batch, cap))
    assert np.bincount(find_neighbors(batch, CUTOFF, cap).i).max() == 5
    longer = neighbor_list(batch, CUTOFF + 1)
    assert longer.n_edges > everything.n_edges
    assert edges(find_neighbors(batch, CUTOFF, neighbors=longer)) == edges(everything)
    assert edges(find_neighbors(batch, CUTOFF, cap, longer)) == edges(find_neighbors(batch, CUTOFF, cap))


def test_refuses_a_list_that_is_too_short():
    batch = molecule(3, 0)
    with pytest.raises(ValueError, match=r"2\.5 Å is shorter than the cutoff of 3\.0 Å"):
        find_neighbors(batch, CUTOFF, neighbors=neighbor_list(batch, 2.5))
