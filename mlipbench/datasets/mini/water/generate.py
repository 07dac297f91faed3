"""Run molecular dynamics of water with the potential of this folder and pack it in the layout of mini-lips.

From the root of the repository, with mlipbench installed::

    export OMP_NUM_THREADS=1
    python -m mlipbench.datasets.mini.water.generate run
    python -m mlipbench.datasets.mini.water.generate pack
    python -m mlipbench.datasets.mini.water.generate check
    python -m mlipbench.datasets.mini.water.generate measure
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule

from mlipbench.datasets.mini.trajectories import SEED, Trajectory, main
from mlipbench.datasets.mini.water.potential import FlexibleWater

MOLECULES = 32
DENSITY = 1.0  # g/cm³


def start() -> Atoms:
    """Molecules of random direction on the sites of a face-centred cubic lattice."""
    rng, single = np.random.default_rng(SEED), molecule("H2O")
    mass = MOLECULES * single.get_masses().sum() / units.kg * 1e3  # g
    edge = (mass / DENSITY) ** (1 / 3) * 1e8
    atoms = Atoms(cell=[edge] * 3, pbc=True)
    for site in product(range(4), repeat=3):
        if sum(site) % 2 == 0:
            turned = single.copy()
            turned.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
            turned.translate(np.array(site) * edge / 4 - turned.get_center_of_mass())
            atoms += turned
    return atoms


TRAJECTORY = Trajectory(
    file="water.extxyz.xz",
    start=start,
    calculator=FlexibleWater,
    temperature=300.0,
    timestep=0.5,
    interval=20.0,
    frames=901,
    equilibration=10_000.0,
    decimals=(4, 3),
    moving="O",
    lags=(25, 100),
)

if __name__ == "__main__":
    main(TRAJECTORY, Path(__file__).parent)
