"""Structures as a network sees them: edges sorted by receiver, on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlipbench.nets.segments import Segments
from mlipbench.structures.neighbors import NeighborList, nearest_neighbors, neighbor_list, within

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborCap
    from mlipbench.typing import FloatArray, IntArray


class Graph(NamedTuple):
    """A batch of structures and their edges.

    An edge leads from a sender ``j`` (the neighbour, or one of its images) to a receiver ``i`` (the centre). Edges are
    sorted by receiver, atoms by structure.

    Attributes:
        numbers: Shape (n_atoms,), int64, atomic numbers.
        vectors: Shape (n_edges, 3), Å, from receiver to sender: position of ``j``'s image minus position of ``i``.
            Formed in float64 and rounded once.
        senders: The atoms edges come from, as segments of edges.
        receivers: The atoms edges lead to, as segments of edges; `Segments.order` counts up.
        structures: The structures, as segments of atoms.
        atoms_per_structure: Shape (n_structures, 1), floating.
        volumes: Shape (n_structures,), Å³; NaN where a structure is not periodic in all directions.
        shifts: Shape (n_edges, 3), int64, lattice vectors added to ``j``.
    """

    numbers: Tensor
    vectors: Tensor
    senders: Segments
    receivers: Segments
    structures: Segments
    atoms_per_structure: Tensor
    volumes: Tensor
    shifts: Tensor

    def to(self, device: torch.device | str) -> Graph:
        """Return the graph on another device."""
        moved = [
            Segments(*(part.to(device) for part in entry)) if isinstance(entry, Segments) else entry.to(device)
            for entry in self
        ]
        return Graph(*moved)


def find_neighbors(
    batch: StructureBatch, cutoff: float, cap: NeighborCap | None = None, neighbors: NeighborList | None = None
) -> NeighborList:
    """Return the edges a network with this cutoff and cap sees.

    Args:
        batch: The structures.
        cutoff: Å.
        cap: Most neighbours of an atom, or None.
        neighbors: A list to start from, of a cutoff that is not smaller (by a skin, in molecular dynamics); None
            searches anew.

    Raises:
        ValueError: The list given is shorter than the cutoff, or coordinates are not finite.
    """
    if neighbors is None:
        found = neighbor_list(batch, cutoff)
    else:
        if neighbors.cutoff < cutoff:
            raise ValueError(f"a neighbour list of {neighbors.cutoff} Å is shorter than the cutoff of {cutoff} Å")
        found = within(neighbors, batch, cutoff)
    return found if cap is None else nearest_neighbors(found, batch, cap)


def make_graph(
    batch: StructureBatch, neighbors: NeighborList, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> Graph:
    """Return a batch and its edges as tensors.

    Args:
        batch: The structures.
        neighbors: Their edges, sorted by the atom they start at, as `find_neighbors` returns them.
        dtype: Precision of vectors.
        device: Where to.
    """
    n_atoms = batch.n_atoms
    vectors = neighbors.vectors(batch)
    counts = torch.from_numpy(np.ascontiguousarray(batch.counts))
    graph = Graph(
        numbers=torch.from_numpy(batch.numbers.astype(np.int64)),
        vectors=torch.from_numpy(vectors).to(dtype),
        senders=_segments(neighbors.j, n_atoms, np.argsort(neighbors.j, kind="stable")),
        receivers=_segments(neighbors.i, n_atoms, np.arange(len(neighbors.i))),
        structures=_segments(batch.structure_index, batch.n_structures, np.arange(n_atoms)),
        atoms_per_structure=counts.to(dtype)[:, None],
        volumes=torch.from_numpy(_volumes(batch)).to(dtype),
        shifts=torch.from_numpy(neighbors.shifts),
    )
    return graph if str(device) == "cpu" else graph.to(device)


def _segments(owner: IntArray, n_segments: int, order: IntArray) -> Segments:
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_segments))]).astype(np.int64)
    return Segments(torch.from_numpy(owner.astype(np.int64)), torch.from_numpy(offsets), torch.from_numpy(order))


def _volumes(batch: StructureBatch) -> FloatArray:
    volumes = np.abs(np.linalg.det(batch.cell))
    return np.where(batch.pbc.all(axis=1), volumes, np.nan)
