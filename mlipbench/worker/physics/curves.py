"""Energies along one coordinate: two atoms, a bond of a molecule, the volume of a crystal; and atoms that are alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.curves import (
    ENERGY_DEAD_ZONE,
    FORCE_DEAD_ZONE,
    branch_correlations,
    count_inflections,
    count_minima,
    jump,
    sign_changes,
    tortuosity,
)
from mlipbench.structures.batch import PER_ATOM
from mlipbench.worker.physics.model import NotFiniteError

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray, IntArray
    from mlipbench.worker.physics.model import Model

DISTANCES: Final = np.linspace(0.18, 6.0, 100)
"""Å between two atoms (ml-peg)."""
VOLUMES: Final = np.linspace(0.8, 1.2, 21)
"""Of a crystal, relative to its own."""
STRETCHES: Final = np.linspace(0.6, 2.0, 57)
"""Of a bond, relative to its own."""
_SEPARATED: Final = 100.0
_WALL: Final = 0.7
"""Of the sum of covalent radii, below which the energy must rise inwards."""
_CONSERVED: Final = 0.9
"""Of the covalent radius, from which forces are compared with slopes (mlip-arena)."""
_STEP: Final = 1e-2
"""Å, of the differences of fourth order."""
_PLACES: Final = np.array([-2.0, -1.0, 1.0, 2.0])
_WEIGHTS: Final = np.array([1.0, -8.0, 8.0, -1.0]) / 12.0
"""Of the function at these places, in steps; the sum over the step is the derivative."""
_BONDED: Final = 1.25
"""Sums of covalent radii up to which two atoms are bonded."""
_MOST_BONDS: Final = 4
_LONE_FORCE: Final = 1e-3
"""eV/Å, that a lone atom may feel."""


def probe_atom(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Return whether an atom that is alone has a finite energy and no force."""
    try:
        found = model.moved(structure, structure.positions[None])
    except NotFiniteError:
        return {"atom_finite": 0.0}
    return {"atom_finite": float(np.abs(found.forces).max() <= _LONE_FORCE)}


def probe_diatomic(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Return what the energy of two atoms looks like as their distance changes."""
    energy, force = _along_axis(model, structure, DISTANCES)
    repulsion, attraction = branch_correlations(DISTANCES, energy)
    radii = _covalent_radii(structure.numbers)
    inside = _WALL * radii.sum() > DISTANCES
    safe = _CONSERVED * radii.mean() <= DISTANCES
    slopes = _energy_slopes(model, structure, DISTANCES[safe])
    return {
        "diatomic_flips": sign_changes(force, FORCE_DEAD_ZONE),
        "diatomic_minima": count_minima(energy),
        "diatomic_inflections": count_inflections(DISTANCES, energy),
        "diatomic_repulsion": repulsion,
        "diatomic_attraction": attraction,
        "diatomic_tortuosity": tortuosity(energy),
        "diatomic_jump": jump(energy),
        "diatomic_wall": float(np.mean(np.diff(energy[inside]) < 0)),
        "diatomic_conservation": float(np.abs(force[safe] + slopes).mean()),
        "dissociation": _dissociation(model, structure),
    }


def _energy_slopes(model: Model, structure: StructureBatch, distances: FloatArray) -> FloatArray:
    """Return dE/dr of two atoms at some distances, shape (n,), eV/Å, by differences of fourth order."""
    around = (distances[:, None] + _STEP * _PLACES).ravel()
    energy, _ = _along_axis(model, structure, around)
    slopes: FloatArray = energy.reshape(len(distances), len(_PLACES)) @ _WEIGHTS / _STEP
    return slopes


def _along_axis(model: Model, structure: StructureBatch, distances: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return energies of two atoms and the force that drives them apart, each of shape (n,)."""
    axis = structure.positions[1] - structure.positions[0]
    axis = axis / np.linalg.norm(axis)
    half = (distances[:, None, None] / 2) * np.stack([-axis, axis])
    found = model.moved(structure, structure.positions.mean(axis=0) + half)
    apart: FloatArray = (found.forces[:, 1] - found.forces[:, 0]) @ axis / 2
    return found.energy, apart


def _dissociation(model: Model, structure: StructureBatch) -> float:
    """Return the energy of two atoms far apart beside that of the atoms alone, eV."""
    far = structure.moved(structure.positions[0] + np.array([[0.0, 0.0, 0.0], [_SEPARATED, 0.0, 0.0]]))
    columns = {name: column for name, column in structure.columns().items() if name in PER_ATOM}
    alone = [
        replace(structure, **{name: column[[one]] for name, column in columns.items()}, offsets=np.array([0, 1]))
        for one in (0, 1)
    ]
    both, first, second = model.energies([far, *alone])
    return float(abs(both - first - second))


def probe_volume(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Return what the energy of a crystal looks like as its volume changes."""
    scales = np.cbrt(VOLUMES)
    scaled = [replace(structure, cell=one * structure.cell, positions=one * structure.positions) for one in scales]
    energy = model.energies(scaled)
    compression, expansion = branch_correlations(VOLUMES, energy)
    return {
        "volume_flips": sign_changes(np.diff(energy), ENERGY_DEAD_ZONE),
        "volume_tortuosity": tortuosity(energy),
        "volume_compression": compression,
        "volume_expansion": expansion,
    }


def probe_bonds(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Return what the energy of a molecule looks like as its bonds are stretched with all that hangs on them.

    Of many bonds four are taken, evenly; bonds in rings are left out. Nothing is returned for a molecule without one.
    """
    bonds = open_bonds(structure)
    chosen = [bonds[i] for i in np.linspace(0, len(bonds) - 1, min(len(bonds), _MOST_BONDS)).round().astype(int)]
    found = [_stretched(model, structure, bond, side) for bond, side in chosen]
    return {name: float(np.mean([one[name] for one in found])) for name in (found[0] if found else ())}


def _stretched(model: Model, structure: StructureBatch, bond: IntArray, side: BoolArray) -> dict[str, float]:
    vector = structure.positions[bond[1]] - structure.positions[bond[0]]
    steps = (STRETCHES - 1)[:, None, None] * vector
    found = model.moved(structure, structure.positions + np.where(side[None, :, None], steps, 0.0))
    along = found.forces[:, side].sum(axis=1) @ (vector / np.linalg.norm(vector))
    return {
        "bond_minima": count_minima(found.energy),
        "bond_flips": sign_changes(along, FORCE_DEAD_ZONE),
        "bond_tortuosity": tortuosity(found.energy),
        "bond_jump": jump(found.energy),
    }


def open_bonds(structure: StructureBatch) -> list[tuple[IntArray, BoolArray]]:
    """Return the bonds that are in no ring, each with the atoms on the side of its second end."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    radii = _covalent_radii(structure.numbers)
    pairs = np.stack(np.triu_indices(structure.n_atoms, 1), axis=1)
    lengths = np.linalg.norm(structure.positions[pairs[:, 0]] - structure.positions[pairs[:, 1]], axis=1)
    pairs = pairs[lengths <= _BONDED * radii[pairs].sum(axis=1)]
    found = []
    for place, bond in enumerate(pairs):
        others = np.delete(pairs, place, axis=0)
        graph = csr_array((np.ones(len(others)), (others[:, 0], others[:, 1])), shape=(structure.n_atoms,) * 2)
        _, parts = connected_components(graph, directed=False)
        if parts[bond[0]] != parts[bond[1]]:
            found.append((bond, parts == parts[bond[1]]))
    return found


def _covalent_radii(numbers: IntArray) -> FloatArray:
    from ase.data import covalent_radii

    radii: FloatArray = covalent_radii[numbers]
    return radii
