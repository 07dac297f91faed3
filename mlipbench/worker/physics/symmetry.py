"""What rotations and other precisions do to predictions, and what forces add up to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.physics.model import Model

_SHIFT: Final = 5.0
"""Å, width of the normal distribution of the shifts that go with rotations."""


def probe_net_force(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Add up the forces, per atom."""
    forces = model.moved(structure, structure.positions[None]).forces[0]
    return {"net_force": _length(forces.sum(axis=0)) / structure.n_atoms}


def probe_net_torque(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Add up the moments of the forces about the centre of the positions, per atom."""
    forces = model.moved(structure, structure.positions[None]).forces[0]
    arms = structure.positions - structure.positions.mean(axis=0)
    return {"net_torque": _length(np.cross(arms, forces).sum(axis=0)) / structure.n_atoms}


def probe_rotations(model: Model, structure: StructureBatch, rotations: int, seed: int) -> dict[str, float]:
    """Compare predictions of rotated and shifted structures with rotated predictions.

    Args:
        model: The model.
        structure: A single structure.
        rotations: Random rotations.
        seed: Of rotations and shifts.
    """
    here = model.moved(structure, structure.positions[None])
    rng = np.random.default_rng(seed)
    matrices = random_rotations(rotations, rng)
    shifts = rng.normal(0.0, _SHIFT, (rotations, 3))
    turned = [rotated(structure, matrix, shift) for matrix, shift in zip(matrices, shifts, strict=True)]
    there = model.answers(turned)
    expected = here.forces[0] @ matrices.transpose(0, 2, 1)
    return {
        "rotation_forces": float(np.abs(there.forces - expected).mean()),
        "rotation_cosine": float(np.mean(_cosines(there.forces, expected))),
        "rotation_energy": float(np.std(there.energy)),
    }


def random_rotations(count: int, rng: np.random.Generator) -> FloatArray:
    """Return rotations that are drawn uniformly, shape (count, 3, 3)."""
    from scipy.spatial.transform import Rotation

    matrices: FloatArray = Rotation.random(count, rng).as_matrix()
    return matrices


def rotated(structure: StructureBatch, matrix: FloatArray, shift: FloatArray | float = 0.0) -> StructureBatch:
    """Return a structure rotated with its cell, and then shifted.

    Args:
        structure: A single structure.
        matrix: Shape (3, 3).
        shift: Shape (3,), Å.
    """
    return replace(structure, positions=structure.positions @ matrix.T + shift, cell=structure.cell @ matrix.T)


def probe_precision(model: Model, other: Model, structure: StructureBatch) -> dict[str, float]:
    """Compare the predictions of one model loaded in two precisions."""
    one, two = (made.moved(structure, structure.positions[None]) for made in (model, other))
    return {
        "precision_energy": float(abs(one.energy[0] - two.energy[0])) / structure.n_atoms,
        "precision_forces": float(np.abs(one.forces - two.forces).max()),
    }


def _cosines(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the cosines of flattened forces, shape (n,); 1 where both are zero, 0 where one of them is."""
    first, second = one.reshape(len(one), -1), other.reshape(len(other), -1)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    alike = np.all(first == second, axis=1).astype(np.float64)
    cosines: FloatArray = np.divide(np.sum(first * second, axis=1), lengths, out=alike, where=lengths > 0)
    return cosines


def _length(vector: FloatArray) -> float:
    return float(np.linalg.norm(vector))
