"""The classical potential that labels ``mini-water``: flexible water, SPC/Fw with electrostatics of short range."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from ase import units

from mlipbench.datasets.mini.mechanics import ForceField, Molecules

KCAL = units.kcal / units.mol  # eV


class FlexibleWater(Molecules):
    """Water by the parameters of SPC/Fw (Wu, Tepper and Voth, J. Chem. Phys. 124, 024503 (2006)).

    Its Coulomb and Lennard-Jones interactions are cut off with shifted forces (`Molecules`), which theirs are not.
    """

    field: ClassVar[ForceField] = ForceField(
        symbols=("O", "H", "H"),
        bond=(1059.162 * KCAL, 1.012),
        angle=(75.90 * KCAL, np.radians(113.24)),
        charges=(-0.82, 0.41),
        epsilon=(0.1554253 * KCAL, 0.0),
        sigma=(3.165492, 0.0),
    )
