"""Sample ethanol at 500 K with GFN2-xTB, label it with PBE/def2-SVP and pack it in MD17's layout.

From the root of the repository, with the packages that `mlipbench.datasets.mini.molecules` names::

    export OMP_NUM_THREADS=1
    python -m mlipbench.datasets.mini.ethanol.generate run
    python -m mlipbench.datasets.mini.ethanol.generate check
    python -m mlipbench.datasets.mini.ethanol.generate pack
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms, units

from mlipbench.datasets.mini.files import load, write_checksums
from mlipbench.datasets.mini.molecules import Molecule, Plan, command_line, frame_path

ETHANOL = Molecule("ethanol", "CCO", ((0, 1), (1, 2)), (3, 2, 1))
FRAMES = 240


def pack(work: Path, out: Path) -> None:
    """Write ``ethanol.npz`` with MD17's keys, shapes and units (kcal/mol, kcal/mol/Å), in order of time."""
    frames = [load(frame_path(work, ETHANOL.name, number)) for number in range(FRAMES)]
    unit = units.kcal / units.mol
    np.savez_compressed(
        out / "ethanol.npz",
        z=Atoms(ETHANOL.symbols).numbers.astype(np.uint8),
        R=np.array([frame["positions"] for frame in frames]),
        E=np.array([[frame["energy"]] for frame in frames]) / unit,
        F=np.array([frame["forces"] for frame in frames]) / unit,
    )
    write_checksums(out, [out / "ethanol.npz"])


PLAN = Plan("mini-ethanol", {ETHANOL: FRAMES}, (("ethanol", 0), ("ethanol", 80), ("ethanol", 160)), pack)

if __name__ == "__main__":
    command_line(PLAN, Path(__file__).parent)
