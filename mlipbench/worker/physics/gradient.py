"""Whether forces are the gradient of the energy, and whether they are the gradient of anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.finite import CLOSE, LADDER, scatter, slopes

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.physics.model import Answers, Model

_CLEAR: Final = 3.0
"""A difference counts where it is so many times its error."""


def probe_gradient(model: Model, structure: StructureBatch, directions: int, seed: int) -> dict[str, float]:
    """Compare forces with the energy, and the Jacobian of the forces with its transpose.

    With u a random unit vector of all d = 3 n_atoms coordinates, the mean of ((F + ∂E/∂x)·u)² is the mean square of the
    components of F + ∂E/∂x. With random orthonormal u and v, |J|² is the mean of d |J u|², and |J - Jᵀ|² the mean of
    d (d - 1) (u·J v - v·J u)², since every orthonormal basis gives the same sums. All derivatives
    take their steps from `mlipbench.conformance.finite.LADDER`, and a difference u·J v - v·J u counts where it is three
    times its error: a function that is rough on the scale of a step, or rounded, has one for every fixed step.

    Args:
        model: The model.
        structure: A single structure of at least two atoms.
        directions: Directions that are drawn; no more than there are coordinates.
        seed: Of the directions.
    """
    size = structure.positions.size
    drawn = np.random.default_rng(seed).standard_normal((size, min(directions, size)))
    basis = np.linalg.qr(drawn)[0].T
    here = model.moved(structure, structure.positions[None])
    energy_noise, forces_noise = _rounding(model, structure, basis[0], here)
    ends = np.array([[step, -step] for step in LADDER])
    there = ends[..., None, None] * basis  # steps, both ways, directions, coordinates
    found = model.moved(structure, structure.positions + there.reshape(-1, *structure.positions.shape))
    gradient, _ = slopes(found.energy.reshape(there.shape[:3]), energy_noise)
    columns, errors = slopes(found.forces.reshape(*ends.shape, -1), forces_noise)
    deviation = basis @ here.forces.ravel() + gradient
    shape = len(basis), size
    return {"gradient_deviation": float(np.mean(deviation**2))} | _asymmetry(
        basis, columns.reshape(shape), errors.reshape(shape)
    )


def _rounding(model: Model, structure: StructureBatch, unit: FloatArray, here: Answers) -> tuple[float, float]:
    """Return how much of energy and forces is rounding, eV and eV/Å: what the precision says, or what shows."""
    line = structure.positions + (CLOSE[:, None] * unit).reshape(-1, *structure.positions.shape)
    found = model.moved(structure, line)
    least = model.epsilon * float(abs(here.energy[0])), model.epsilon * float(np.abs(here.forces).max())
    return max(least[0], scatter(found.energy[:, None])), max(least[1], scatter(found.forces.reshape(len(CLOSE), -1)))


def _asymmetry(basis: FloatArray, columns: FloatArray, errors: FloatArray) -> dict[str, float]:
    """Return the two squared norms that the asymmetry of the Jacobian is made of.

    Args:
        basis: Shape (n, d), orthonormal rows u.
        columns: Shape (n, d), J u for each of them, eV/Å².
        errors: Shape (n, d), of these.
    """
    n, size = basis.shape
    pairs = np.triu_indices(n, 1)
    inner = basis @ columns.T
    explained = basis**2 @ (errors**2).T
    skew, error = (inner - inner.T)[pairs], np.sqrt((explained + explained.T)[pairs])
    certain = np.where(np.abs(skew) > _CLEAR * error, skew, 0.0)
    return {
        "jacobian_antisymmetric": size * (size - 1) * float(np.mean(certain**2)) / 4,
        "jacobian_squared": size * float(np.mean(np.sum(columns**2, axis=1))),
    }
