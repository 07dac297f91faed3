"""Whether parts that are far apart leave each other alone, and whether twice as much has twice the energy."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.surroundings import supercell
from mlipbench.structures.batch import PER_ATOM
from mlipbench.structures.kinds import open_direction, widest_gap
from mlipbench.structures.neighbors import completed_cell
from mlipbench.worker.physics.symmetry import random_rotations, rotated

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray, IntArray
    from mlipbench.worker.physics.model import Model

_APART: Final = 100.0
"""Å between two copies (ml-peg)."""
_FAR: Final = 40.0
"""Å between a structure and the nearest of the atoms that are far from it (ml-peg)."""
_GHOSTS: Final = 20
_SPACING: Final = 2.5
"""Å between these atoms along the direction away from the structure."""
_NEAR, _REMOTE = 20.0, 50.0
"""Å, between which a single atom is placed (ml-peg)."""


def probe_extensivity(model: Model, structure: StructureBatch, seed: int) -> dict[str, float]:
    """Compare two cells in a row with one, both randomly rotated so that no axis is special.

    Args:
        model: The model.
        structure: A single periodic structure.
        seed: Of the rotation.
    """
    (matrix,) = random_rotations(1, np.random.default_rng(seed))
    turned = rotated(structure, matrix)
    copies = _along_periodic(turned)
    one = model.moved(turned, turned.positions[None])
    two = model.answers([supercell(turned, copies)])
    whole, twice = 2 * float(one.energy[0]), float(two.energy[0])
    missed = abs(twice - whole)
    return {
        "extensivity_energy": missed / abs(whole) if whole else float(missed > 0),
        "extensivity_forces": float(np.abs(two.forces[0] - np.tile(one.forces[0], (2, 1))).max()),
    }


def _along_periodic(structure: StructureBatch) -> tuple[int, int, int]:
    """Return two copies along the first periodic direction and one along the others."""
    first = int(np.flatnonzero(structure.pbc[0])[0])
    x, y, z = (2 if axis == first else 1 for axis in range(3))
    return x, y, z


def probe_size_consistency(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Compare a structure and half of a copy 100 Å away along its open direction with the two alone.

    A whole copy would not do: what a model averages over all atoms is the same for one and for two of a kind. Along a
    periodic direction that is open as a slab's is, the cell of all three has 100 Å of vacuum on both sides.

    Args:
        model: The model.
        structure: A single structure with an open direction.
    """
    normal, extent = _outwards(structure)
    roomy = _with_room(structure, 2 * (extent + _APART))
    half = _first_atoms(roomy.moved(roomy.positions + (extent + _APART) * normal), (roomy.n_atoms + 1) // 2)
    pair = _twice_charged(_joined(roomy, half.numbers, half.positions))
    first, second, both = model.energies([roomy, half, pair])
    return {"size_consistency": float(abs(both - first - second))}


def probe_locality(model: Model, structure: StructureBatch, draws: int, seed: int) -> dict[str, float]:
    """Return how far away atoms change the forces on a structure: 20 at once, and one in several places.

    The atoms are of the structure's lightest element, which every model that takes it knows.

    Args:
        model: The model.
        structure: A single structure with an open direction.
        draws: Random places of the single atom.
        seed: Of all places.
    """
    rng = np.random.default_rng(seed)
    normal, extent = _outwards(structure)
    roomy = _with_room(structure, extent + 2 * _FAR + _GHOSTS * _SPACING + _REMOTE)
    before = model.moved(roomy, roomy.positions[None]).forces[0]
    lightest = int(roomy.numbers.min())
    heights = _FAR + _SPACING * np.arange(_GHOSTS, dtype=np.float64)
    many = _joined(roomy, np.full(_GHOSTS, lightest, dtype=np.int64), _places(roomy, normal, heights, rng))
    after = model.answers([many]).forces[0, : roomy.n_atoms]
    singles = _places(roomy, normal, rng.uniform(_NEAR, _REMOTE, draws), rng)
    ones = [_joined(roomy, np.array([lightest]), place[None]) for place in singles]
    changed = model.answers(ones).forces[:, : roomy.n_atoms] - before
    return {
        "locality": float(np.linalg.norm(after - before, axis=1).max()),
        "locality_mean": float(np.linalg.norm(changed, axis=2).mean()),
    }


def _outwards(structure: StructureBatch) -> tuple[FloatArray, float]:
    """Return the unit vector of the open direction and the extent of the structure along it, Å.

    Without periodicity it is the first coordinate's; else the normal of the two other lattice vectors.
    """
    axis = _axis(structure)
    normal = np.eye(3)[0] if axis is None else _normal(structure, axis)
    return normal, float(np.ptp(structure.positions @ normal))


def _axis(structure: StructureBatch) -> int | None:
    """Return the open lattice direction of a structure with others that are not; None without periodicity."""
    return open_direction(structure) if structure.pbc.any() else None


def _normal(structure: StructureBatch, axis: int) -> FloatArray:
    cell = completed_cell(structure.cell[0], structure.pbc[0])
    normal = np.cross(*np.delete(cell, axis, axis=0))
    unit: FloatArray = normal / np.linalg.norm(normal) * (1.0 if cell[axis] @ normal >= 0 else -1.0)
    return unit


def _with_room(structure: StructureBatch, height: float) -> StructureBatch:
    """Return a structure in one piece, whose cell is so high along its open direction where that is a lattice vector.

    Atoms are gathered on one side of the gap first, as a slab may stand across the border of its cell.
    """
    axis = _axis(structure)
    if axis is None:
        return structure
    cell = np.array(completed_cell(structure.cell[0], structure.pbc[0]))
    cell[axis] = height * _normal(structure, axis)
    positions = _gathered(structure, axis) if structure.pbc[0, axis] else structure.positions
    return replace(structure, cell=cell[None], positions=positions)


def _gathered(structure: StructureBatch, axis: int) -> FloatArray:
    """Return positions on one side of the widest gap along a lattice vector, by whole lattice vectors."""
    scaled = (structure.positions @ np.linalg.inv(structure.cell[0]))[:, axis]
    inside = scaled % 1.0
    border = inside[widest_gap(structure, axis).above]
    whole = (inside - border) % 1.0 + border - scaled
    found: FloatArray = structure.positions + np.rint(whole)[:, None] * structure.cell[0, axis]
    return found


def _places(structure: StructureBatch, normal: FloatArray, heights: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return random places so far from a structure, shape (n, 3), Å.

    Without periodicity in random directions from its centre, beyond its farthest atom; else above it along `normal`,
    anywhere in its plane.
    """
    positions, axis = structure.positions, _axis(structure)
    if axis is None:
        centre = positions.mean(axis=0)
        radius = np.linalg.norm(positions - centre, axis=1).max()
        drawn = rng.standard_normal((len(heights), 3))
        units = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        found: FloatArray = centre + units * (radius + heights)[:, None]
        return found
    across = rng.uniform(size=(len(heights), 2)) @ np.delete(structure.cell[0], axis, axis=0)
    across -= (across @ normal)[:, None] * normal
    top = (positions @ normal).max()
    above: FloatArray = across + (top + heights)[:, None] * normal
    return above


def _first_atoms(structure: StructureBatch, count: int) -> StructureBatch:
    """Return the first atoms of a structure in the same cell."""
    columns = {name: column[:count] for name, column in structure.columns().items() if name in PER_ATOM}
    return replace(structure, **columns, offsets=np.array([0, count]))


def _twice_charged(structure: StructureBatch) -> StructureBatch:
    """Return a structure with twice the charge and twice the unpaired electrons, where it has any."""
    charge = None if structure.charge is None else 2 * structure.charge
    spin = None if structure.spin is None else 2 * structure.spin - 1
    return replace(structure, charge=charge, spin=spin)


def _joined(structure: StructureBatch, numbers: IntArray, positions: FloatArray) -> StructureBatch:
    """Return a structure with more atoms in the same cell, tagged and fixed as its first atom where it has tags."""
    columns = {name: column for name, column in structure.columns().items() if name in PER_ATOM}
    more = {"numbers": numbers, "positions": positions}
    made = {
        name: np.concatenate([column, more.get(name, np.repeat(column[:1], len(numbers), axis=0))])
        for name, column in columns.items()
    }
    return replace(structure, **made, offsets=np.array([0, len(made["numbers"])]))
