"""CHGNet's crystal graphs of a whole batch, equal to those of its graph converter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray, FloatArray, IntArray

_TOLERANCE: Final = 1e-8  # Å, of CHGNet's neighbour search


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Directed edges of a batch, in the order of CHGNet's neighbour search.

    Attributes:
        center: Shape (n_edges,).
        neighbor: Shape (n_edges,).
        image: Shape (n_edges, 3), lattice vectors added to the neighbour.
        distance: Shape (n_edges,), Å.
        structure: Shape (n_edges,), structure an edge belongs to.
    """

    center: IntArray
    neighbor: IntArray
    image: IntArray
    distance: FloatArray
    structure: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """CHGNet's crystal graphs of a batch, joined.

    Attributes:
        undirected: Shape (n_edges,), undirected edge of each directed edge, numbered by first appearance.
        first: Shape (n_edges / 2,), first directed edge of each undirected edge.
        angles: Shape (n_angles, 5): centre atom, undirected and directed edge of one bond, and of the other.
    """

    undirected: IntArray
    first: IntArray
    angles: IntArray


def join_edges(edges: Edges, bond_cutoff: float) -> Graph:
    """Pair the directed edges, and find the angles between bonds shorter than `bond_cutoff`.

    Rows stand in the order in which ``CrystalGraphConverter`` puts them, structure after structure.

    Raises:
        ValueError: An edge has no reverse.
    """
    key = _edge_key(edges.center, edges.neighbor, edges.image, edges.image)
    reverse = _edge_key(edges.neighbor, edges.center, -edges.image, edges.image)
    _, appeared, group = np.unique(np.minimum(key, reverse), return_index=True, return_inverse=True)
    if 2 * len(appeared) != len(key):
        raise ValueError("CHGNet's neighbour search returned an edge without its reverse")
    order = np.argsort(appeared)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    undirected, first = rank[group], appeared[order]
    second = np.zeros_like(first)
    later = np.ones(len(key), dtype=np.bool_)
    later[first] = False
    second[undirected[later]] = np.flatnonzero(later)
    return Graph(undirected, first, _angles(edges, undirected, first, second, bond_cutoff))


def _edge_key(center: IntArray, neighbor: IntArray, image: IntArray, all_images: IntArray) -> IntArray:
    reach = int(np.abs(all_images).max(initial=0))
    base = 2 * reach + 1
    digits = image + reach
    n_atoms = int(center.max(initial=0)) + 1 if len(center) else 1
    return ((center * n_atoms + neighbor) * base**3) + (digits[:, 0] * base + digits[:, 1]) * base + digits[:, 2]


def _angles(edges: Edges, undirected: IntArray, first: IntArray, second: IntArray, cutoff: float) -> IntArray:
    """Return the angles; a bond of exactly the cutoff is a first bond but no second one, as in CHGNet."""
    short = np.flatnonzero(edges.distance < cutoff)
    n_atoms = int(edges.center.max(initial=0)) + 1
    _, appeared, group = np.unique(
        edges.center * n_atoms + edges.neighbor, return_index=True, return_inverse=True
    )  # the edges of a centre are grouped by neighbour, in the order in which neighbours appear
    short = short[np.lexsort((short, appeared[group[short]], edges.center[short]))]
    per_atom = np.bincount(edges.center[short], minlength=n_atoms)
    starts = np.cumsum(per_atom) - per_atom
    bonds = np.flatnonzero(edges.distance[first] <= cutoff)
    directed = np.stack([first[bonds], second[bonds]], axis=1).ravel()
    counts = per_atom[edges.center[directed]]
    one = np.repeat(directed, counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    other = short[starts[edges.center[one]] + within]
    one, other = one[one != other], other[one != other]
    return np.stack([edges.center[one], undirected[one], one, undirected[other], other], axis=1)


def find_edges(batch: StructureBatch, cells: FloatArray, fractional: FloatArray, cutoff: float) -> Edges:
    """Search the neighbours of each structure with the function that CHGNet's graph converter uses.

    Args:
        batch: The structures.
        cells: Shape (n_structures, 3, 3), Å, invertible.
        fractional: Shape (n_atoms, 3), filled with the fractional coordinates.
        cutoff: Å.
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    columns: list[tuple[AnyArray, ...]] = []
    for s in range(batch.n_structures):
        atoms = slice(batch.offsets[s], batch.offsets[s + 1])
        lattice = np.ascontiguousarray(cells[s])
        fractional[atoms] = batch.positions[atoms] @ np.linalg.inv(lattice)
        points = np.ascontiguousarray(fractional[atoms] @ lattice)
        center, neighbor, image, distance = find_points_in_spheres(
            points, points, r=cutoff, pbc=batch.pbc[s].astype(np.int64), lattice=lattice, tol=_TOLERANCE
        )
        kept = (center != neighbor) | (distance > _TOLERANCE)
        first = batch.offsets[s]
        structure = np.full(int(kept.sum()), s)
        columns.append((center[kept] + first, neighbor[kept] + first, image[kept], distance[kept], structure))
    empty = (np.zeros(0), np.zeros(0), np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    center, neighbor, image, distance, structure = (np.concatenate(c) for c in zip(empty, *columns, strict=True))
    return Edges(
        center.astype(np.int64),
        neighbor.astype(np.int64),
        image.astype(np.int64),
        distance,
        structure.astype(np.int64),
    )
