"""The graphs of fairchem-core 1, of a whole batch at once.

Its own search compares all pairs of atoms of all structures of a batch, over as many cells as the smallest cell needs,
and takes all structures to be periodic in the same directions. Here candidates come from the harness's neighbour list.
Which of them stay is decided as the package does for a structure alone: by squared distances in single precision and
its own selection, so that the same ones of equally distant neighbours are dropped where their number is limited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.structures.neighbors import neighbor_list

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray, BoolArray, IntArray

_MARGIN: Final = 1e-3  # Å, more than single precision loses
_COINCIDENT: Final = 1e-4  # Å², below which the package takes two atoms for one


@dataclass(frozen=True, slots=True)
class Limits:
    """How far edges reach and how many an atom may have.

    Attributes:
        cutoff: Å.
        neighbors: Most edges that end at an atom.
        strict: Whether exactly so many stay, or whole shells.
    """

    cutoff: float
    neighbors: int
    strict: bool


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Directed edges in the order of the package: by target, source and cell.

    Attributes:
        source: Shape (n_edges,).
        target: Shape (n_edges,).
        cells: Shape (n_edges, 3), lattice vectors added to the source.
        counts: Shape (n_structures,), edges of each structure.
    """

    source: IntArray
    target: IntArray
    cells: IntArray
    counts: IntArray


def find_edges(batch: StructureBatch, limits: Limits) -> Edges:
    """Return the edges that the package finds in each structure alone.

    Args:
        batch: Structures from `mlipbench.adapters.wrapping.wrapped`.
        limits: Cutoff and number of neighbours.
    """
    found = neighbor_list(batch, limits.cutoff + _MARGIN)
    squared = np.empty(found.n_edges, dtype=np.float32)
    for s in range(batch.n_structures):
        own = slice(found.offsets[s], found.offsets[s + 1])
        squared[own] = _squared_distances(batch, s, (found.i[own], found.j[own], found.shifts[own]), limits.cutoff)
    kept = (squared <= np.float32(limits.cutoff * limits.cutoff)) & (squared > np.float32(_COINCIDENT))
    target, source, cells, squared = found.i[kept], found.j[kept], found.shifts[kept], squared[kept]
    order = np.lexsort((cells[:, 2], cells[:, 1], cells[:, 0], source, target))
    target, source, cells, squared = target[order], source[order], cells[order], squared[order]
    kept = _nearest(batch, target, squared, limits)
    counts = np.bincount(batch.structure_index[target[kept]], minlength=batch.n_structures)
    return Edges(source[kept], target[kept], cells[kept], counts)


def _squared_distances(
    batch: StructureBatch, s: int, edges: tuple[IntArray, IntArray, IntArray], cutoff: float
) -> AnyArray:
    """Return the squared lengths of a structure's edges with the package's own operations, float32, Å².

    Edges to cells that the package does not look at get infinity.
    """
    import torch

    target, source, shifts = edges
    cell = torch.from_numpy(batch.cell[s]).float()[None]
    reach = _reach(cell, batch.pbc[s], cutoff)
    ranges = [torch.arange(-n, n + 1, dtype=torch.float) for n in reach]
    table = torch.bmm(cell.transpose(1, 2), torch.cartesian_prod(*ranges).T[None])[0].T.numpy()
    place = shifts + reach
    outside = ((place < 0) | (place > 2 * reach)).any(axis=1)
    place = np.clip(place, 0, 2 * reach)
    offsets = table[np.ravel_multi_index(tuple(place.T), tuple(2 * reach + 1))]
    positions = batch.positions.astype(np.float32)
    between = positions[target] - (positions[source] + offsets)
    squares = between * between
    squared: AnyArray = (squares[:, 0] + squares[:, 1]) + squares[:, 2]
    squared[outside] = np.inf
    return squared


def _reach(cell: torch.Tensor, pbc: BoolArray, cutoff: float) -> IntArray:
    """Return how many cells the package looks at in each direction: those the cutoff reaches into."""
    import torch

    crosses = [torch.cross(cell[:, a], cell[:, b], dim=-1) for a, b in ((1, 2), (2, 0), (0, 1))]
    volume = torch.sum(cell[:, 0] * crosses[0], dim=-1, keepdim=True)
    inverse = [torch.norm(cross / volume, p=2, dim=-1) for cross in crosses]
    return np.array(
        [
            int(torch.ceil(cutoff * height).item()) if periodic else 0
            for height, periodic in zip(inverse, pbc, strict=True)
        ]
    )


def _nearest(batch: StructureBatch, target: IntArray, squared: AnyArray, limits: Limits) -> BoolArray:
    """Return which edges stay; `target` ascends."""
    import torch
    from fairchem.core.common.utils import get_max_neighbors_mask

    kept = np.ones(len(target), dtype=np.bool_)
    counts = np.bincount(target, minlength=batch.n_atoms)
    crowded = np.unique(batch.structure_index[counts > limits.neighbors])
    bounds = np.searchsorted(target, batch.offsets)
    for s in crowded if limits.neighbors > 0 else ():
        own = slice(bounds[s], bounds[s + 1])
        mask, _ = get_max_neighbors_mask(
            natoms=torch.tensor([batch.counts[s]]),
            index=torch.from_numpy(target[own] - batch.offsets[s]),
            atom_distance=torch.from_numpy(squared[own]),
            max_num_neighbors_threshold=limits.neighbors,
            enforce_max_strictly=limits.strict,
        )
        kept[own] = mask.numpy()
    return kept


def one_structure_at_a_time(mask_of: Callable[..., Any]) -> Callable[..., Any]:
    """Return the package's function that limits the number of neighbours, applied to each structure alone.

    Which of equally distant neighbours it drops depends on the width of a table that spans the batch.

    Args:
        mask_of: ``get_max_neighbors_mask`` of the package.
    """
    import torch

    def masks(natoms: torch.Tensor, index: torch.Tensor, atom_distance: torch.Tensor, **options: Any) -> Any:
        first = natoms.cumsum(0) - natoms
        bounds = torch.searchsorted(index, torch.cat([first, natoms.sum()[None]])).tolist()
        found = [
            mask_of(natoms=n[None], index=index[low:high] - start, atom_distance=atom_distance[low:high], **options)
            for n, start, low, high in zip(natoms, first, bounds, bounds[1:], strict=False)
        ]
        return torch.cat([mask for mask, _ in found]), torch.cat([counts for _, counts in found])

    return masks


def graph_data(data: Any, edges: Edges, device: str) -> Any:
    """Return edges as the package's own function returns them, with distances that follow the positions.

    Args:
        data: The batch of the package.
        edges: The edges.
        device: Where to.
    """
    import torch
    from fairchem.core.common.utils import get_pbc_distances
    from fairchem.core.models.base import GraphData

    cells = torch.from_numpy(edges.cells).to(device=device, dtype=torch.float32)
    neighbors = torch.from_numpy(edges.counts).to(device)
    index = torch.from_numpy(np.stack([edges.source, edges.target])).to(device)
    found = get_pbc_distances(
        data.pos, index, data.cell, cells, neighbors, return_offsets=True, return_distance_vec=True
    )
    return GraphData(
        edge_index=found["edge_index"],
        edge_distance=found["distances"],
        edge_distance_vec=found["distance_vec"],
        cell_offsets=cells,
        offset_distances=found["offsets"],
        neighbors=neighbors,
        batch_full=data.batch,
        atomic_numbers_full=data.atomic_numbers.long(),
    )
