from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule

from mlipbench.structures import StructureBatch
from mlipbench.structures.neighbors import NeighborCap

torch = pytest.importorskip("torch")

from mlipbench.nets.graph import Graph, find_neighbors, make_graph  # noqa: E402 - needs torch
from mlipbench.nets.triplets import find_triplets  # noqa: E402 - needs torch

pytestmark = pytest.mark.torch

TRICLINIC = Atoms(
    "CuOH", [[0.1, 0.2, 0.0], [1.9, 0.4, 0.3], [0.8, 1.7, 1.1]], cell=[[2.7, 0, 0], [0.9, 2.4, 0], [-0.6, 0.5, 2.9]]
)


def with_pbc(pbc: object) -> Atoms:
    atoms = TRICLINIC.copy()
    atoms.pbc = pbc
    return atoms


def graph_of(frames: list[Atoms], cutoff: float, cap: NeighborCap | None = None) -> Graph:
    batch = StructureBatch.from_atoms(frames)
    return make_graph(batch, find_neighbors(batch, cutoff, cap), torch.float64)


def pairs(graph: Graph) -> list[tuple[int, int]]:
    return list(zip(*(edges.tolist() for edges in find_triplets(graph)), strict=True))


def pairs_by_geometry(graph: Graph) -> list[tuple[int, int]]:
    """Every pair of edges, tried in turn; a way leads back where it ends at the point it came from."""
    sender, receiver = graph.senders.owner.tolist(), graph.receivers.owner.tolist()
    vectors = graph.vectors.numpy()
    return [
        (ji, kj)
        for ji in range(len(sender))
        for kj in range(len(sender))
        if receiver[kj] == sender[ji] and np.abs(vectors[ji] + vectors[kj]).max() > 1e-9
    ]


@pytest.mark.parametrize(
    ("frames", "cutoff", "cap"),
    [
        ([molecule("CH3CH2OH")], 3.0, None),
        ([bulk("Cu")], 3.0, None),
        ([Atoms("H", cell=[1.0, 0, 0], pbc=[True, False, False])], 2.5, None),
        ([with_pbc(True)], 3.0, None),
        ([with_pbc([True, False, True])], 3.5, None),
        ([with_pbc(True)], 3.0, NeighborCap(3, whole_shells=False)),
        ([molecule("H2O"), molecule("H"), bulk("Cu"), molecule("CO2")], 3.0, None),
    ],
)
def test_every_pair_tried_in_turn(frames, cutoff, cap) -> None:
    graph = graph_of(frames, cutoff, cap)
    assert pairs(graph) == pairs_by_geometry(graph)


def test_by_hand() -> None:
    # In water, with all three atoms in reach: i <- j <- k with three different atoms, one way for each ordered pair.
    graph = graph_of([molecule("H2O")], 3.0)
    sender, receiver = graph.senders.owner, graph.receivers.owner
    ways = {(int(sender[kj]), int(sender[ji]), int(receiver[ji])) for ji, kj in pairs(graph)}
    assert ways == {(k, j, 3 - k - j) for k in range(3) for j in range(3) if k != j}


def test_images_of_the_same_atom_count() -> None:
    # A chain of one atom a cell: from the left neighbour one goes on to the right, never back.
    chain = Atoms("H", cell=[1.0, 0, 0], pbc=[True, False, False])
    graph = graph_of([chain], 1.5)
    assert len(graph.vectors) == 2
    assert [(graph.shifts[ji, 0].item(), graph.shifts[kj, 0].item()) for ji, kj in pairs(graph)] == [(-1, -1), (1, 1)]


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 3, 2)])
def test_a_supercell_has_as_many_per_atom(repeats) -> None:
    cell = with_pbc(True)
    once, often = len(pairs(graph_of([cell], 3.1))), len(pairs(graph_of([cell.repeat(repeats)], 3.1)))
    assert once > 0
    assert often == once * np.prod(repeats)


@pytest.mark.parametrize("frames", [[molecule("H")], [molecule("H2")], [molecule("H"), molecule("O")]])
def test_none(frames) -> None:
    found = find_triplets(graph_of(frames, 3.0))
    assert [(len(edges), edges.dtype) for edges in found] == [(0, torch.int64)] * 2


def test_only_edges_matter() -> None:
    graph = graph_of([fcc111("Al", (2, 2, 2), vacuum=5.0)], 4.0)
    assert pairs(graph._replace(vectors=torch.full_like(graph.vectors, torch.nan))) == pairs(graph)
