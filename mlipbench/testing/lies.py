"""The single ways to be wrong that `mlipbench.testing.liars` makes adapters of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.models.interface import Predictions, Property
from mlipbench.units import LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.structures import StructureBatch
    from mlipbench.structures.neighbors import NeighborList
    from mlipbench.typing import BoolArray, FloatArray, IntArray

    See = Callable[[StructureBatch], StructureBatch]
    Tell = Callable[[StructureBatch, Predictions, frozenset[Property]], Predictions]
    Link = Callable[[StructureBatch, NeighborList], BoolArray]

_BOHR: Final = LENGTH["bohr"]
_COPPER: Final = 29
_GENERATOR: Final = 4
_NORMAL: Final = 3


def scaled(energy: float = 1.0, forces: float = 1.0, stress: float = 1.0) -> Tell:
    """Return a lie by which everything is so many times too large."""

    def tell(_: StructureBatch, found: Predictions, __: frozenset[Property]) -> Predictions:
        return changed(found, energy * found.energy, times(found.forces, forces), times(found.stress, stress))

    return tell


def times(values: FloatArray | None, factor: float) -> FloatArray | None:
    """Return values times a factor, where there are any."""
    return None if values is None else factor * values


def changed(
    found: Predictions, energy: FloatArray, forces: FloatArray | None, stress: FloatArray | None
) -> Predictions:
    """Return predictions with other numbers."""
    return Predictions(energy, forces, stress, found.not_applicable)


def of_forces(change: Callable[[StructureBatch, FloatArray], FloatArray]) -> Tell:
    """Return a lie that changes the forces."""

    def tell(batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
        forces = None if found.forces is None else change(batch, found.forces)
        return changed(found, found.energy, forces, found.stress)

    return tell


def of_stress(change: Callable[[StructureBatch, FloatArray], FloatArray]) -> Tell:
    """Return a lie that changes the stress."""

    def tell(batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
        stress = None if found.stress is None else change(batch, found.stress)
        return changed(found, found.energy, found.forces, stress)

    return tell


def of_energy(change: Callable[[StructureBatch, FloatArray], FloatArray]) -> Tell:
    """Return a lie that changes the energies."""

    def tell(batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
        return changed(found, change(batch, found.energy), found.forces, found.stress)

    return tell


def each(batch: StructureBatch, values: FloatArray) -> list[FloatArray]:
    """Return the rows of each structure."""
    return np.split(values, batch.offsets[1:-1])


def joined(parts: list[FloatArray]) -> FloatArray:
    """Return the rows of all structures."""
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def per_atom(batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
    """Divide everything by the number of atoms."""
    atoms = np.maximum(batch.counts, 1)
    forces = None if found.forces is None else found.forces / atoms[batch.structure_index, None]
    return changed(found, found.energy / atoms, forces, None if found.stress is None else found.stress / atoms[:, None])


def by_element(batch: StructureBatch, forces: FloatArray) -> FloatArray:
    """Leave the forces in the order of the elements."""
    numbers = np.split(batch.numbers, batch.offsets[1:-1])
    return joined([
        rows[np.argsort(z, kind="stable")] for z, rows in zip(numbers, each(batch, forces), strict=True)
    ])  # fmt: skip


def rolled(batch: StructureBatch, forces: FloatArray) -> FloatArray:
    """Give each atom the forces of the one before."""
    return joined([np.roll(rows, 1, axis=0) for rows in each(batch, forces)])


def without_first(batch: StructureBatch, forces: FloatArray) -> FloatArray:
    """Drop the forces on the first atom of each structure."""
    held = forces.copy()
    held[batch.offsets[:-1][batch.counts > 0]] = 0.0
    return held


def held(batch: StructureBatch, forces: FloatArray) -> FloatArray:
    """Drop the forces on fixed atoms."""
    return forces if batch.fixed is None else np.where(batch.fixed[:, None], 0.0, forces)


def swirled(batch: StructureBatch, forces: FloatArray) -> FloatArray:
    """Add forces that go around the z axis, which are no gradient."""
    parts = []
    for rows, positions in zip(each(batch, forces), each(batch, batch.positions), strict=True):
        arms = positions - positions.mean(axis=0) if len(positions) else positions
        parts.append(rows + 0.3 * np.stack([-arms[:, 1], arms[:, 0], 0 * arms[:, 2]], axis=1))
    return joined(parts)


def volume(batch: StructureBatch) -> FloatArray:
    """Return the volumes, shape (n_structures, 1), Å³."""
    volume: FloatArray = np.abs(np.linalg.det(batch.cell))[:, None]
    return volume


def handed(batch: StructureBatch, stress: FloatArray) -> FloatArray:
    """Take the determinant of the cell for the volume."""
    turned: FloatArray = stress * np.sign(np.linalg.det(batch.cell))[:, None]
    return turned


def share_of_batch(batch: StructureBatch, energy: FloatArray) -> FloatArray:
    """Divide by the atoms of the batch in place of those of the structure."""
    share: FloatArray = energy * batch.counts / max(batch.n_atoms, 1)
    return share


def leaking(_: StructureBatch, energy: FloatArray) -> FloatArray:
    """Add a part of the energy of the whole batch."""
    return energy + 1e-2 * np.nansum(energy)


def shape_energy(weights: FloatArray, batch: StructureBatch, found: Predictions) -> Predictions:
    """Add an energy of the squares of distances from the centre, other along each axis, with its forces."""
    energy, extra = found.energy.copy(), []
    for s, positions in enumerate(each(batch, batch.positions)):
        arms = positions - positions.mean(axis=0) if len(positions) else positions
        energy[s] += 0.5 * np.sum(weights * arms**2)
        extra.append(-weights * arms)
    return changed(found, energy, None if found.forces is None else found.forces + joined(extra), found.stress)


def anisotropic(batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
    """Add an energy that depends on the x axis."""
    return shape_energy(np.array([0.1, 0.0, 0.0]), batch, found)


def chiral(batch: StructureBatch, energy: FloatArray) -> FloatArray:
    """Add an energy that a mirror image has with the other sign."""
    extra = np.zeros_like(energy)
    for s, positions in enumerate(each(batch, batch.positions)):
        if len(positions) >= _GENERATOR:
            extra[s] = 0.01 * np.linalg.det(positions[1:_GENERATOR] - positions[0])
    return energy + extra


def field(batch: StructureBatch, energy: FloatArray) -> FloatArray:
    """Add the energy of a field along z."""
    heights = np.bincount(batch.structure_index, batch.positions[:, 2], minlength=batch.n_structures)
    return energy + 0.01 * heights


def backwards(batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
    """Return the structures in reverse."""
    forces = None if found.forces is None else joined(each(batch, found.forces)[::-1])
    return Predictions(found.energy[::-1].copy(), forces, None if found.stress is None else found.stress[::-1].copy())


def noisy(_: StructureBatch, energy: FloatArray) -> FloatArray:
    """Add other noise at each call."""
    return energy + np.random.default_rng().normal(0, 1e-3, energy.shape)


def free_energy(_: StructureBatch, found: Predictions, properties: frozenset[Property]) -> Predictions:
    """Return another energy where nothing else is asked for."""
    alone = properties == {Property.ENERGY}
    return changed(found, found.energy + (0.01 if alone else 0.0), found.forces, found.stress)


def references(batch: StructureBatch) -> FloatArray:
    """Return the energies of the elements that the tests' pair potential adds, eV."""
    stated = np.where(batch.numbers == _COPPER, -3.0, -4.0)
    return np.bincount(batch.structure_index, stated, minlength=batch.n_structures).astype(np.float64)


def in_lower(name: str) -> Callable[[StructureBatch, FloatArray], FloatArray]:
    """Return a change of numbers to a lower precision."""

    def change(_: StructureBatch, values: FloatArray) -> FloatArray:
        with np.errstate(over="ignore"):
            return values.astype(name).astype(np.float64)

    return change


def lonely_nan(batch: StructureBatch, energy: FloatArray) -> FloatArray:
    """Return no energy for a single atom."""
    return np.where(batch.counts == 1, np.where(batch.pbc.any(axis=1), energy, np.nan), energy)


def declining(batch: StructureBatch, found: Predictions, _: frozenset[Property]) -> Predictions:
    """Decline crystals."""
    crystals = np.flatnonzero(batch.pbc.all(axis=1)).tolist()
    return replace(found, not_applicable=dict.fromkeys(crystals, "this model takes no crystals"))


def strict(batch: StructureBatch) -> StructureBatch:
    """Refuse a batch of nothing."""
    if batch.n_structures == 0:
        raise ValueError("need at least one array to concatenate")
    return batch


def filled(batch: StructureBatch) -> StructureBatch:
    """Refuse a batch with a structure of nothing."""
    if np.any(batch.counts == 0):
        raise ValueError("zero-size array to reduction operation maximum which has no identity")
    return batch


def clamped(batch: StructureBatch) -> StructureBatch:
    """Hold atoms that are outside of the cell at its faces."""
    positions = batch.positions.copy()
    for s in np.flatnonzero(batch.pbc.any(axis=1)):
        atoms = slice(batch.offsets[s], batch.offsets[s + 1])
        scaled = positions[atoms] @ np.linalg.inv(batch.cell[s])
        positions[atoms] = np.where(batch.pbc[s], np.clip(scaled, 0, 1), scaled) @ batch.cell[s]
    return batch.moved(positions)


def wrapping_in_place(batch: StructureBatch) -> StructureBatch:
    """Shift atoms in the arrays that were given."""
    batch.positions[...] = batch.positions - batch.positions.mean(axis=0) if batch.n_atoms else batch.positions
    return batch


def in_bohr(batch: StructureBatch) -> StructureBatch:
    """Give coordinates in Bohr to a model that takes Å."""
    return replace(batch, positions=batch.positions / _BOHR, cell=batch.cell / _BOHR)


def transposed(batch: StructureBatch) -> StructureBatch:
    """Give lattice vectors as columns."""
    return replace(batch, cell=np.swapaxes(batch.cell, 1, 2))


def everywhere(batch: StructureBatch) -> StructureBatch:
    """Make every structure periodic that has a cell."""
    filled = np.abs(np.linalg.det(batch.cell)) > 0
    return replace(batch, pbc=np.repeat(filled[:, None], _NORMAL, axis=1))


def nowhere(batch: StructureBatch) -> StructureBatch:
    """Make no structure periodic."""
    return replace(batch, pbc=np.zeros_like(batch.pbc))


def known(batch: StructureBatch) -> StructureBatch:
    """Take unknown elements for copper."""
    return replace(batch, numbers=np.where(np.isin(batch.numbers, (8, _COPPER)), batch.numbers, _COPPER))


def others_only(_: StructureBatch, found: NeighborList) -> BoolArray:
    """Leave out the images of an atom itself."""
    others: BoolArray = found.i != found.j
    return others


def nearest_only(batch: StructureBatch, found: NeighborList) -> BoolArray:
    """Leave out all images of a pair but the nearest."""
    lengths = np.linalg.norm(found.vectors(batch), axis=1)
    order = np.lexsort((lengths, found.j, found.i))
    pairs = np.stack([found.i, found.j])[:, order]
    first = np.concatenate([[True], (np.diff(pairs, axis=1) != 0).any(axis=0)]) if len(order) else np.zeros(0, bool)
    kept = np.zeros(len(order), dtype=np.bool_)
    kept[order[first]] = True
    return kept


def next_cells_only(_: StructureBatch, found: NeighborList) -> BoolArray:
    """Leave out images beyond the cells next to an atom's."""
    near: BoolArray = np.abs(found.shifts).max(axis=1, initial=0) <= 1
    return near


def linked(found: NeighborList, kept: BoolArray) -> NeighborList:
    """Return the part of a list that is kept."""
    before: IntArray = np.concatenate([[0], np.cumsum(kept)])
    return replace(found, i=found.i[kept], j=found.j[kept], shifts=found.shifts[kept], offsets=before[found.offsets])
