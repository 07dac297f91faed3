"""The classical potential that labels ``mini-methane``: methane by OPLS-AA with electrostatics of short range."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from ase import units

from mlipbench.datasets.mini.mechanics import ForceField, Molecules

KCAL = units.kcal / units.mol  # eV


class FlexibleMethane(Molecules):
    """Methane by the parameters of OPLS-AA (Jorgensen, Maxwell and Tirado-Rives, JACS 118, 11225 (1996)).

    Its Coulomb and Lennard-Jones interactions are cut off with shifted forces (`Molecules`), which theirs are not.
    """

    # theirs are constants of k (x - x0)², twice those here
    field: ClassVar[ForceField] = ForceField(
        symbols=("C", "H", "H", "H", "H"),
        bond=(2 * 340.0 * KCAL, 1.09),
        angle=(2 * 33.0 * KCAL, np.radians(107.8)),
        charges=(-0.24, 0.06),
        epsilon=(0.066 * KCAL, 0.030 * KCAL),
        sigma=(3.50, 2.50),
    )
