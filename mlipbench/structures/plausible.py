"""Whether a structure can still be one, or has fallen apart or into itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.structures.neighbors import neighbor_list

if TYPE_CHECKING:
    from mlipbench.structures.batch import StructureBatch
    from mlipbench.typing import IntArray

EDGE_CUTOFF: Final = 6.0
"""Å, within which edges are counted where the model names no cutoff."""
_NEAREST: Final = 0.5  # of the sum of covalent radii
_MOST_EDGES: Final = 3.0  # times those of the start


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What structures are compared with.

    Attributes:
        cutoff: Å, within which edges are counted.
        edges: Shape (n_structures,), edges of each structure at its start.
    """

    cutoff: float
    edges: IntArray

    @classmethod
    def of(cls, start: StructureBatch, cutoff: float | None) -> Origin:
        """Count the edges of the structures at their start; the cutoff is the model's, if it names one."""
        reach = cutoff or EDGE_CUTOFF
        return cls(reach, neighbor_list(start, reach).counts)


def implausible(batch: StructureBatch, origin: Origin | None = None) -> dict[int, str]:
    """Say which structures are physically impossible.

    That is a structure with coordinates that are not finite, with two atoms closer than half the sum of their covalent
    radii (Cordero et al., Dalton Transactions 2008, 2832, as in ASE), or with more than three times the edges it began
    with.

    Args:
        batch: The structures.
        origin: Where they began; None leaves edges out.

    Returns:
        The reason, by place, of each such structure.
    """
    finite = np.isfinite(batch.positions).all(axis=1)
    found = {int(place): "its coordinates are not finite" for place in np.unique(batch.structure_index[~finite])}
    for place in range(batch.n_structures):
        if place not in found and (why := _why_implausible(batch.slice(place, place + 1), place, origin)):
            found[place] = why
    return found


def _why_implausible(structure: StructureBatch, place: int, origin: Origin | None) -> str | None:
    from ase.data import covalent_radii

    radii = covalent_radii[structure.numbers]
    reach = origin.cutoff if origin is not None else float(2 * _NEAREST * radii.max(initial=0.1))
    try:
        pairs = neighbor_list(structure, max(reach, float(2 * _NEAREST * radii.max(initial=0.1))))
    except ValueError as error:  # too far from the origin
        return str(error).partition(" has ")[2] or str(error)
    vectors = pairs.vectors(structure)
    lengths = np.sqrt(np.einsum("ek,ek->e", vectors, vectors))
    allowed = _NEAREST * (radii[pairs.i] + radii[pairs.j])
    if (lengths < allowed).any():
        worst = int(np.argmin(lengths - allowed))
        i, j = int(pairs.i[worst]), int(pairs.j[worst])
        names = f"{SYMBOLS[structure.numbers[i]]} {i} and {SYMBOLS[structure.numbers[j]]} {j}"
        return f"the atoms {names} are {lengths[worst]:.2f} Å apart, less than half their covalent distance"
    if origin is not None:
        edges, start = int(np.sum(lengths < origin.cutoff)), int(origin.edges[place])
        if edges > _MOST_EDGES * start:
            return f"it has {edges} edges within {origin.cutoff:g} Å, more than three times the {start} of its start"
    return None
