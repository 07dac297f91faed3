"""Molecules of a central atom and its hydrogens: bonds and angles, and pair interactions between molecules."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.geometry import find_mic
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.special import erfc
from vesin import ase_neighbor_list

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

COULOMB = units.Hartree * units.Bohr  # eV Å, e²/(4 π ε₀)
SAME = 1e-6  # Å, between two ways to compute one vector


@dataclass(frozen=True)
class ForceField:
    """Parameters of one kind of molecule; constants are those of ``k (x - x0)² / 2``.

    Attributes:
        symbols: The central atom, then its hydrogens.
        bond: Constant in eV/Å² and length in Å.
        angle: Constant in eV/rad² and angle between two hydrogens in rad.
        charges: Of the central atom and of a hydrogen, in e.
        epsilon: Likewise, depth of the Lennard-Jones potential of two such atoms in eV.
        sigma: Likewise, its zero in Å. Unlike atoms have the geometric means of both.
        damping: Of the Coulomb interaction, 1/Å.
        cutoff: In Å.
    """

    symbols: tuple[str, ...]
    bond: tuple[float, float]
    angle: tuple[float, float]
    charges: tuple[float, float]
    epsilon: tuple[float, float]
    sigma: tuple[float, float]
    damping: float = 0.25
    cutoff: float = 6.0

    def unshifted(self, r: Floats, first: Ints, second: Ints) -> tuple[Floats, Floats]:
        """Energy ``U = k q_i q_j erfc(a r)/r + 4 ε ((s/r)¹² - (s/r)⁶)`` of pairs in eV and its derivative in eV/Å.

        Args:
            r: Shape (n_pairs,), distances in Å.
            first: Shape (n_pairs,), 0 for a central atom and 1 for a hydrogen.
            second: Likewise.
        """
        charges = np.multiply.outer(self.charges, self.charges)[first, second]
        sigma = np.sqrt(np.multiply.outer(self.sigma, self.sigma))[first, second]
        epsilon = np.sqrt(np.multiply.outer(self.epsilon, self.epsilon))[first, second]
        coulomb = COULOMB * charges * erfc(self.damping * r) / r
        gauss = COULOMB * charges * 2 * self.damping / np.sqrt(np.pi) * np.exp(-((self.damping * r) ** 2)) / r
        sixth = (sigma / r) ** 6
        lennard_jones = 4 * epsilon * sixth * (sixth - 1)
        return coulomb + lennard_jones, -coulomb / r - gauss - 24 * epsilon * sixth * (2 * sixth - 1) / r


class Molecules(Calculator):  # type: ignore[misc]
    """Energy (eV), forces ``(n, 3)`` (eV/Å) and stress ``(6,)`` (eV/Å³) of molecules of one kind, one after another.

    Two atoms of different molecules, or of one and its own image, closer than the cutoff ``c`` contribute
    ``V(r) = U(r) - U(c) - (r - c) U'(c)`` with `ForceField.unshifted` as ``U``, so that energy and forces go to zero at
    the cutoff. The Coulomb part is the damped shifted force of Fennell and Gezelter, J. Chem. Phys. 124, 234104 (2006).

    Raises:
        ValueError: The atoms are not such molecules, in the order of `ForceField.symbols`.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]
    field: ClassVar[ForceField]

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fill ``results``; stress only where the cell has a volume."""
        super().calculate(atoms, properties, system_changes)
        size = len(self.field.symbols)
        if list(self.atoms.symbols) != list(self.field.symbols) * (len(self.atoms) // size):
            raise ValueError(f"the potential is one of molecules whose atoms are {', '.join(self.field.symbols)}")
        positions = self.atoms.positions.reshape(-1, size, 3)
        vectors = (positions[:, 1:] - positions[:, :1]).reshape(-1, 3)
        arms = find_mic(vectors, self.atoms.cell, self.atoms.pbc)[0].reshape(-1, size - 1, 3)
        within, pulls = self._within(arms)
        between, forces, virial = self._between(arms)
        forces = forces.reshape(-1, size, 3)
        forces[:, 1:] -= pulls
        forces[:, 0] += pulls.sum(axis=1)
        self.results = {"energy": within + between, "forces": forces.reshape(-1, 3)}
        if self.atoms.cell.rank == 3:  # noqa: PLR2004
            virial = virial + np.einsum("mai,maj->ij", arms, pulls)
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial / self.atoms.get_volume())

    def _within(self, arms: Floats) -> tuple[float, Floats]:
        """Energy of bonds and angles, and its derivatives by the vectors from central atoms to hydrogens.

        Args:
            arms: Shape (n_molecules, n_hydrogens, 3), these vectors in Å.
        """
        (stiffness, length), (bending, angle) = self.field.bond, self.field.angle
        r = np.linalg.norm(arms, axis=2, keepdims=True)
        directions = arms / r
        energy = stiffness / 2 * ((r - length) ** 2).sum()
        slopes = stiffness * (r - length) * directions
        for one, other in combinations(range(arms.shape[1]), 2):
            cosine = (directions[:, one] * directions[:, other]).sum(axis=1, keepdims=True)
            theta = np.arccos(cosine)
            energy += bending / 2 * ((theta - angle) ** 2).sum()
            slope = -bending * (theta - angle) / np.sin(theta)  # by the cosine
            slopes[:, one] += slope * (directions[:, other] - cosine * directions[:, one]) / r[:, one]
            slopes[:, other] += slope * (directions[:, one] - cosine * directions[:, other]) / r[:, other]
        return float(energy), slopes

    def _between(self, arms: Floats) -> tuple[float, Floats, Floats]:
        """Energy, forces of shape (n_atoms, 3) and virial of shape (3, 3) in eV of pairs not in one molecule."""
        size = len(self.field.symbols)
        first, second, vectors = ase_neighbor_list("ijD", self.atoms, self.field.cutoff)
        places = np.concatenate([np.zeros_like(arms[:, :1]), arms], axis=1).reshape(-1, 3)
        joined = (first // size == second // size) & (
            np.abs(vectors - places[second] + places[first]).max(axis=1, initial=0.0) < SAME
        )
        first, second, vectors = first[~joined], second[~joined], vectors[~joined]
        r = np.linalg.norm(vectors, axis=1)
        kinds = np.minimum(first % size, 1), np.minimum(second % size, 1)
        energy, slope = self.field.unshifted(r, *kinds)
        last_energy, last_slope = self.field.unshifted(np.full_like(r, self.field.cutoff), *kinds)
        # every pair stands twice in the list
        pulls = (slope - last_slope)[:, None] * vectors / r[:, None]
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, first, pulls)
        total = (energy - last_energy - (r - self.field.cutoff) * last_slope).sum() / 2
        return float(total), forces, vectors.T @ pulls / 2
