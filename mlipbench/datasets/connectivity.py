"""Names of molecules by their bonds, for data that do not say which molecule a structure is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.elements import SYMBOLS

if TYPE_CHECKING:
    import numpy.typing as npt

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray

# Bonds between heavy atoms are at most a tenth longer than the sum of their radii, and atoms of strained rings that are
# not bonded a third; bonds to hydrogen stretch more, and nothing that is not bonded comes near.
_STRETCH: Final = 1.2
_STRETCH_OF_HYDROGEN: Final = 1.35
_ROUNDS: Final = 8  # bonds that a name looks ahead
_MIX: Final = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def molecule_names(batch: StructureBatch) -> AnyArray:
    """Return a name for each structure, equal for structures whose atoms are bonded alike, in whatever order they come.

    Atoms are bonded where they are closer than 1.2 times the sum of their covalent radii, 1.35 times if one is hydrogen
    (Cordero et al., Dalton Trans. 2832 (2008), as ASE has them). The name is the formula and a hash of the bonds by
    colour refinement (Weisfeiler and Lehman, 1968), which tells apart all but highly symmetric graphs. Periodic images
    are not looked at.

    Args:
        batch: Molecules.

    Returns:
        Shape (n_structures,), text.
    """
    names = np.empty(batch.n_structures, dtype=object)
    for size in np.unique(batch.counts):
        rows = np.flatnonzero(batch.counts == size)
        atoms = batch.offsets[rows][:, None] + np.arange(size)
        numbers = np.asarray(batch.numbers)[atoms]
        hashes = _hashes(numbers, _bonds(numbers, np.asarray(batch.positions)[atoms]))
        compositions, of_row = np.unique(np.sort(numbers, axis=1), axis=0, return_inverse=True)
        formulas = np.array([_formula(own) for own in compositions])[of_row.reshape(-1)]
        names[rows] = [f"{formula}-{value:016x}" for formula, value in zip(formulas, hashes.tolist(), strict=True)]
    return names.astype(str)


def _bonds(numbers: AnyArray, positions: AnyArray) -> npt.NDArray[np.bool_]:
    """Return shape (n, size, size), whether two atoms are bonded."""
    from ase.data import covalent_radii

    radii = covalent_radii[numbers]
    hydrogen = (numbers[:, :, None] == 1) | (numbers[:, None, :] == 1)
    reach = np.where(hydrogen, _STRETCH_OF_HYDROGEN, _STRETCH) * (radii[:, :, None] + radii[:, None, :])
    distances = np.linalg.norm(positions[:, :, None] - positions[:, None, :], axis=-1)
    bonded: npt.NDArray[np.bool_] = (distances < reach) & ~np.eye(numbers.shape[1], dtype=np.bool_)
    return bonded


def _hashes(numbers: AnyArray, bonds: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Return shape (n,), the same for graphs that differ in the order of atoms alone."""
    colours = _mixed(numbers.astype(np.uint64))
    for _ in range(_ROUNDS):
        around = np.where(bonds, _mixed(colours)[:, None, :], np.uint64(0)).sum(axis=2, dtype=np.uint64)
        colours = _mixed(colours + _MIX[0] * around)
    return _mixed(_mixed(colours).sum(axis=1, dtype=np.uint64))


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scatter 64-bit numbers, as the last step of splitmix64 does."""
    with np.errstate(over="ignore"):
        values = values + _MIX[0]
        values = (values ^ (values >> np.uint64(30))) * _MIX[1]
        values = (values ^ (values >> np.uint64(27))) * _MIX[2]
        return values ^ (values >> np.uint64(31))


def _formula(numbers: AnyArray) -> str:
    from ase.formula import Formula

    return str(Formula.from_list([SYMBOLS[number] for number in numbers.tolist()]).format("hill"))
