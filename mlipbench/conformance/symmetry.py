"""Whether structures that are the same but for how they are written down have the same predictions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.agreement import Fault, Pair, agree
from mlipbench.models.interface import Predictions
from mlipbench.structures.batch import PER_ATOM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray, IntArray

VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_SHIFT: Final = (1.37, -4.12, 7.73)
_ROTATIONS: Final = 3


def translation(subject: Subject) -> CheckResult:
    """A shift of all atoms changes nothing."""
    pairs = [
        Pair(one, subject.predict(one.moved(one.positions + _SHIFT)), subject.predict(one))
        for one in subject.structures
    ]
    fault = Fault("a shift of all atoms changes predictions", "make no use of absolute positions")
    return agree("translation", subject, pairs, fault)


def rotation(subject: Subject) -> CheckResult:
    """Rotation of a molecule turns its forces and leaves its energy."""
    fault = Fault(
        "a rotated molecule has other predictions",
        "look for coordinates that are used one by one, for mixed-up axes, and for reduced precision (TF32)",
    )
    return agree("rotation", subject, _turned(subject, subject.molecules, 1), fault)


def rotated_cell(subject: Subject) -> CheckResult:
    """Rotation of a crystal or slab with its cell turns forces and stress and leaves the energy."""
    fault = Fault(
        "a crystal that is rotated with its cell has other predictions",
        "take lattice vectors as the rows of the cell, and forces in the frame in which positions were given",
    )
    return agree("rotated_cell", subject, _turned(subject, (*subject.crystals, *subject.slabs), 1), fault)


def reflection(subject: Subject) -> CheckResult:
    """A mirror image has the mirror image's forces and the same energy."""
    fault = Fault(
        "a mirror image has other predictions", "look for cross products and triple products that change the energy"
    )
    return agree("reflection", subject, _turned(subject, subject.structures, -1), fault)


def left_handed_cell(subject: Subject) -> CheckResult:
    """A crystal has the same predictions where its lattice vectors are listed in a left-handed order."""
    pairs = [
        Pair(one, subject.predict(replace(one, cell=one.cell[:, [1, 0, 2]])), subject.predict(one))
        for one in subject.crystals
    ]
    fault = Fault(
        "a left-handed cell changes predictions", "take the magnitude of the determinant as the volume, not its value"
    )
    return agree("left_handed_cell", subject, pairs, fault)


def cell_choice(subject: Subject) -> CheckResult:
    """A crystal has the same predictions with other lattice vectors of the same lattice."""
    change = np.array([[1, 0, 0], [2, 1, 0], [-1, 1, 1]])
    pairs = [Pair(one, subject.predict(replace(one, cell=change @ one.cell)), subject.predict(one))
             for one in subject.crystals]  # fmt: skip
    fault = Fault(
        "other lattice vectors of the same lattice change predictions",
        "find all images within the cutoff by the heights of the cell, not by the lengths of its vectors",
    )
    return agree("cell_choice", subject, pairs, fault)


def permutation(subject: Subject) -> CheckResult:
    """Another order of the atoms changes the order of the forces and nothing else."""
    pairs = []
    for one in subject.structures:
        order = np.random.default_rng(one.n_atoms).permutation(one.n_atoms)
        found, expected = subject.predict(_reordered(one, order)), subject.predict(one)
        pairs.append(Pair(one, found, replace(expected, forces=_of(expected)[order])))
    fault = Fault(
        "another order of the atoms changes predictions",
        "return forces in the order in which atoms were given; a strict cap on neighbours, which takes the first of "
        "equally distant ones, does this too",
    )
    return agree("permutation", subject, pairs, fault)


def lattice_shifts(subject: Subject) -> CheckResult:
    """Atoms moved by lattice vectors, out of the cell, change nothing."""
    pairs = []
    for one in (*subject.crystals, *subject.slabs):
        whole = np.random.default_rng(one.n_atoms).integers(-3, 4, (one.n_atoms, 3)) * one.pbc[0]
        moved = one.moved(one.positions + whole @ one.cell[0])
        pairs.append(Pair(one, subject.predict(moved), subject.predict(one)))
    fault = Fault(
        "atoms moved by lattice vectors change predictions",
        "wrap atoms into the cell before neighbours are searched, or use a search that takes atoms outside",
    )
    return agree("lattice_shifts", subject, pairs, fault)


def wrapping(subject: Subject) -> CheckResult:
    """A crystal that is shifted and wrapped into its cell has the same predictions."""
    pairs = []
    for one in (*subject.crystals, *subject.slabs):
        inverse = np.linalg.inv(one.cell[0])
        scaled = (one.positions + one.cell[0].sum(axis=0) / np.array([2.0, 3.0, 5.0])) @ inverse
        wrapped = np.where(one.pbc[0], scaled % 1.0, scaled) @ one.cell[0]
        pairs.append(Pair(one, subject.predict(one.moved(wrapped)), subject.predict(one)))
    fault = Fault(
        "a crystal that is shifted and wrapped into its cell has other predictions",
        "look at how neighbours across the faces of the cell are found",
    )
    return agree("wrapping", subject, pairs, fault)


def orthogonal(determinant: int, seed: int) -> FloatArray:
    """Return a random orthogonal matrix, shape (3, 3), whose determinant is 1 or -1."""
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    turned: FloatArray = matrix * (determinant * np.sign(np.linalg.det(matrix)))
    return turned


def stress_matrix(voigt: FloatArray) -> FloatArray:
    """Return the matrix of six numbers in the order xx yy zz yz xz xy, shape (3, 3)."""
    matrix = np.zeros((3, 3))
    for value, (a, b) in zip(voigt, VOIGT, strict=True):
        matrix[a, b] = matrix[b, a] = value
    return matrix


def _turned(subject: Subject, structures: Sequence[StructureBatch], determinant: int) -> list[Pair]:
    pairs = []
    for one in structures:
        expected = subject.predict(one)
        for seed in range(_ROTATIONS):
            matrix = orthogonal(determinant, seed)
            turned = replace(one, positions=one.positions @ matrix.T, cell=one.cell @ matrix.T)
            pairs.append(Pair(one, subject.predict(turned), _turn(expected, matrix)))
    return pairs


def _turn(predictions: Predictions, matrix: FloatArray) -> Predictions:
    stress = None
    if predictions.stress is not None:
        turned = matrix @ stress_matrix(predictions.stress[0]) @ matrix.T
        stress = np.array([[turned[a, b] for a, b in VOIGT]])
    return Predictions(predictions.energy, _of(predictions) @ matrix.T, stress)


def _reordered(batch: StructureBatch, order: IntArray) -> StructureBatch:
    columns = {name: column[order] for name, column in batch.columns().items() if name in PER_ATOM}
    return replace(batch, **columns)


def _of(predictions: Predictions) -> FloatArray:
    """Return the forces, which were asked for."""
    if predictions.forces is None:
        raise TypeError("forces were not asked for")
    return predictions.forces
