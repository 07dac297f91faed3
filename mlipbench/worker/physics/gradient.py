"""Whether forces are the gradient of the energy, and whether they are the gradient of anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.finite import LADDER, STENCIL, slope

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray
    from mlipbench.worker.physics.model import Model

_STEP: Final = 1e-2
"""Å along a unit vector of all coordinates, for derivatives of forces."""


def probe_gradient(model: Model, structure: StructureBatch, directions: int, seed: int) -> dict[str, float]:
    """Compare forces with the energy, and the Jacobian of the forces with its transpose.

    With u a random unit vector of all d = 3 n_atoms coordinates, the mean of ((F + ∂E/∂x)·u)² is the mean square of the
    components of F + ∂E/∂x. With random orthonormal u and v, |J|² is the mean of d |J u|², and |J - Jᵀ|² the mean of
    d (d - 1) (u·J v - v·J u)², both without bias, since every orthonormal basis gives the same sums.

    Args:
        model: The model.
        structure: A single structure of at least two atoms.
        directions: Directions that are drawn; no more than there are coordinates.
        seed: Of the directions.
    """
    size = structure.positions.size
    drawn = np.random.default_rng(seed).standard_normal((size, min(directions, size)))
    basis = np.linalg.qr(drawn)[0].T
    ends = np.array([sign * step for step in LADDER for sign in (-1, 1)])
    there = structure.positions + (ends[None, :, None] * basis[:, None, :]).reshape(-1, *structure.positions.shape)
    energies = model.moved(structure, there).energy.reshape(len(basis), -1)
    here = model.moved(structure, structure.positions[None])
    noise = model.epsilon * float(abs(here.energy[0]))
    tables = [dict(zip(ends.ravel().tolist(), row.tolist(), strict=True)) for row in energies]
    slopes = np.array([slope(table.__getitem__, noise).value for table in tables])
    deviation = basis @ here.forces.ravel() + slopes
    return {"gradient_deviation": float(np.mean(deviation**2))} | _asymmetry(basis, _jacobian(model, structure, basis))


def _jacobian(model: Model, structure: StructureBatch, basis: FloatArray) -> FloatArray:
    """Return J u for each row u, shape (n_directions, n_coordinates), eV/Å², by differences of fourth order."""
    places, weights = np.array(STENCIL).T
    steps = _STEP * places[:, None, None] * basis
    forces = model.moved(structure, structure.positions + steps.reshape(-1, *structure.positions.shape)).forces
    columns: FloatArray = np.tensordot(weights, forces.reshape(steps.shape), 1) / _STEP
    return columns


def _asymmetry(basis: FloatArray, columns: FloatArray) -> dict[str, float]:
    """Return the two squared norms that the asymmetry of the Jacobian is made of."""
    n, size = basis.shape
    inner = basis @ columns.T
    skew = (inner - inner.T)[np.triu_indices(n, 1)]
    return {
        "jacobian_antisymmetric": size * (size - 1) * float(np.mean(skew**2)) / 4,
        "jacobian_squared": size * float(np.mean(np.sum(columns**2, axis=1))),
    }
