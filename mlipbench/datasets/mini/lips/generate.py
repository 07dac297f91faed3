"""Run molecular dynamics of Li3PS4 with the potential of this folder and pack it in the layout of LiPS.

From the root of the repository, with mlipbench installed::

    export OMP_NUM_THREADS=1
    python -m mlipbench.datasets.mini.lips.generate run
    python -m mlipbench.datasets.mini.lips.generate pack
    python -m mlipbench.datasets.mini.lips.generate check
    python -m mlipbench.datasets.mini.lips.generate measure
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms

from mlipbench.datasets.mini.lips.potential import BornMayer
from mlipbench.datasets.mini.trajectories import Trajectory, main

CELL = ((11.7, 0.0, 0.0), (1.3, 11.4, 0.0), (-1.0, 1.0, 11.3))  # Å
BOND = 2.05  # Å, P-S at the start


def start() -> Atoms:
    """Eight tetrahedra on a grid of the cell, and lithium half-way between neighbouring ones: Li24P8S32."""
    cell = np.array(CELL)
    grid = np.array(list(product((0.0, 0.5), repeat=3)))
    corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / np.sqrt(3) * BOND
    lithium = (grid[:, None] + np.eye(3) / 4).reshape(-1, 3) @ cell
    phosphorus = grid @ cell
    sulphur = (phosphorus[:, None] + corners).reshape(-1, 3)
    return Atoms("Li24P8S32", np.concatenate([lithium, phosphorus, sulphur]), cell=cell, pbc=True)


TRAJECTORY = Trajectory(
    file="lips.extxyz.xz",
    start=start,
    calculator=BornMayer,
    temperature=520.0,
    timestep=2.0,
    interval=50.0,
    frames=1001,
    equilibration=20_000.0,
    decimals=(5, 5),
    moving="Li",
    lags=(20, 100),
)

if __name__ == "__main__":
    main(TRAJECTORY, Path(__file__).parent)
