"""The classical potential that labels ``mini-lips``: ions with Born-Mayer repulsion, cut off with shifted forces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.special import erfc
from vesin import ase_neighbor_list

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ELEMENTS = ("Li", "P", "S")
CHARGES = np.array([0.6, 3.0, -1.2])  # e, in the order of ELEMENTS: the formal charges times 0.6
REPULSION = np.array([[0.0, 0.0, 800.0], [0.0, 0.0, 2000.0], [800.0, 2000.0, 15000.0]])  # eV, likewise
RANGE = 0.30  # Å, of the repulsion
DAMPING = 0.20  # 1/Å, of the Coulomb interaction
CUTOFF = 6.0  # Å
COULOMB = units.Hartree * units.Bohr  # eV Å, e²/(4 π ε₀)


def unshifted(r: Floats, charges: Floats, repulsion: Floats) -> tuple[Floats, Floats]:
    """Energy ``U = k q_i q_j erfc(a r)/r + A exp(-r/b)`` in eV and its derivative in eV/Å.

    Args:
        r: Shape (n_pairs,), distances in Å.
        charges: Shape (n_pairs,), products of the charges in e².
        repulsion: Shape (n_pairs,), A in eV.
    """
    coulomb = COULOMB * charges * erfc(DAMPING * r) / r
    gauss = COULOMB * charges * 2 * DAMPING / np.sqrt(np.pi) * np.exp(-((DAMPING * r) ** 2)) / r
    wall = repulsion * np.exp(-r / RANGE)
    return coulomb + wall, -coulomb / r - gauss - wall / RANGE


class BornMayer(Calculator):  # type: ignore[misc]
    """Pair potential of Li, P and S with energy (eV), forces ``(n, 3)`` (eV/Å) and stress ``(6,)`` (eV/Å³).

    A pair closer than the cutoff ``c`` contributes ``V(r) = U(r) - U(c) - (r - c) U'(c)``, with `unshifted` as ``U``,
    so that energy and forces go to zero at the cutoff. The Coulomb part is the damped shifted force of Fennell and
    Gezelter, J. Chem. Phys. 124, 234104 (2006).

    Raises:
        ValueError: There is an element other than Li, P and S.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fill ``results``; stress only where the cell has a volume."""
        super().calculate(atoms, properties, system_changes)
        if foreign := sorted(set(self.atoms.symbols) - set(ELEMENTS)):
            raise ValueError(f"the potential has no parameters for {', '.join(foreign)}; it covers Li, P and S")
        kinds = np.array([ELEMENTS.index(symbol) for symbol in self.atoms.symbols])
        first, second, vectors = ase_neighbor_list("ijD", self.atoms, CUTOFF)
        r = np.linalg.norm(vectors, axis=1)
        charges = CHARGES[kinds[first]] * CHARGES[kinds[second]]
        repulsion = REPULSION[kinds[first], kinds[second]]
        energy, slope = unshifted(r, charges, repulsion)
        last_energy, last_slope = unshifted(np.full_like(r, CUTOFF), charges, repulsion)
        # every pair stands twice in the list
        pulls = (slope - last_slope)[:, None] * vectors / r[:, None]
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, first, pulls)
        self.results = {
            "energy": float((energy - last_energy - (r - CUTOFF) * last_slope).sum() / 2),
            "forces": forces,
        }
        if self.atoms.cell.rank == 3:  # noqa: PLR2004
            stress = (vectors.T @ pulls) / (2 * self.atoms.get_volume())
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
