"""Run molecular dynamics of methane with the potential of this folder and pack it in the layout of mini-lips.

From the root of the repository, with mlipbench installed::

    export OMP_NUM_THREADS=1
    python -m mlipbench.datasets.mini.methane.generate run
    python -m mlipbench.datasets.mini.methane.generate pack
    python -m mlipbench.datasets.mini.methane.generate check
    python -m mlipbench.datasets.mini.methane.generate measure
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule

from mlipbench.datasets.mini.methane.potential import FlexibleMethane
from mlipbench.datasets.mini.trajectories import SEED, Trajectory, main

EDGE = 15.0  # Å


def start() -> Atoms:
    """Eight molecules of random direction on a cubic grid."""
    rng, atoms = np.random.default_rng(SEED), Atoms(cell=[EDGE] * 3, pbc=True)
    for site in product((0.25, 0.75), repeat=3):
        turned = molecule("CH4")
        turned.rotate(rng.uniform(0, 360), rng.normal(size=3), center="COM")
        turned.translate(np.array(site) * EDGE)
        atoms += turned
    return atoms


TRAJECTORY = Trajectory(
    file="methane.extxyz.xz",
    start=start,
    calculator=FlexibleMethane,
    temperature=300.0,
    timestep=0.5,
    interval=50.0,
    frames=601,
    equilibration=20_000.0,
    decimals=(5, 5),
    moving="C",
    lags=(60, 100),
)

if __name__ == "__main__":
    main(TRAJECTORY, Path(__file__).parent)
