"""Sample isomers of C3H6O at 500 K with GFN2-xTB, label them with PBE/def2-SVP and pack them in ISO17's layout.

From the root of the repository, with the packages that `mlipbench.datasets.mini.molecules` names::

    export OMP_NUM_THREADS=1
    python -m mlipbench.datasets.mini.isomers.generate run
    python -m mlipbench.datasets.mini.isomers.generate check
    python -m mlipbench.datasets.mini.isomers.generate pack
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.db import connect

from mlipbench.datasets.mini.files import load, write_checksums
from mlipbench.datasets.mini.molecules import Molecule, Plan, command_line, frame_path

TRAINING = (
    Molecule("acetone", "CCCO", ((0, 1), (1, 2), (1, 3)), (3, 0, 3, 0)),
    Molecule("propanal", "CCCO", ((0, 1), (1, 2), (2, 3)), (3, 2, 1, 0)),
    Molecule("prop-2-en-1-ol", "CCCO", ((0, 1), (1, 2), (2, 3)), (2, 1, 2, 1)),
    Molecule("methoxyethene", "CCCO", ((0, 1), (1, 3), (2, 3)), (2, 1, 3, 0)),
    Molecule("methyloxirane", "CCCO", ((0, 1), (1, 2), (1, 3), (2, 3)), (3, 1, 2, 0)),
    Molecule("oxetane", "CCCO", ((0, 1), (1, 2), (0, 3), (2, 3)), (2, 2, 2, 0)),
)
UNSEEN = (
    Molecule("cyclopropanol", "CCCO", ((0, 1), (1, 2), (0, 2), (0, 3)), (1, 2, 2, 1)),
    Molecule("prop-1-en-1-ol", "CCCO", ((0, 1), (1, 2), (2, 3)), (3, 1, 1, 1)),
    Molecule("prop-1-en-2-ol", "CCCO", ((0, 1), (1, 2), (1, 3)), (3, 0, 2, 1)),
)
FRAMES = 40  # of a training isomer
REFERENCE = 32  # of these; the later ones are for test_within
VALIDATION = 4  # of these
UNSEEN_FRAMES = 40


def write_rows(path: Path, work: Path, molecules: tuple[Molecule, ...], steps: range) -> None:
    """Write one ASE database, isomer by isomer in order of time, with the same bytes whenever it is made."""
    path.unlink(missing_ok=True)
    with connect(path, type="db", use_lock_file=False) as database:
        for molecule in molecules:
            for step in steps:
                frame = load(frame_path(work, molecule.name, step))
                atoms = Atoms(frame["symbols"], frame["positions"])
                data = {"atomic_forces": np.array(frame["forces"])}
                database.write(atoms, key_value_pairs={"total_energy": frame["energy"]}, data=data)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE systems SET unique_id = printf('%032x', id), ctime = 0, mtime = 0, username = ''")
        connection.commit()
        connection.execute("VACUUM")


def pack(work: Path, out: Path) -> None:
    """Write the databases and the lists of row numbers, with ISO17's names, keys and units (eV, eV/Å)."""
    write_rows(out / "reference.db", work, TRAINING, range(REFERENCE))
    write_rows(out / "test_within.db", work, TRAINING, range(REFERENCE, FRAMES))
    write_rows(out / "test_other.db", work, UNSEEN, range(UNSEEN_FRAMES))
    rows = np.arange(1, len(TRAINING) * REFERENCE + 1).reshape(len(TRAINING), REFERENCE)
    shuffled = np.random.default_rng(0).permuted(rows, axis=1)
    validation, training = np.sort(shuffled[:, :VALIDATION].ravel()), np.sort(shuffled[:, VALIDATION:].ravel())
    for name, chosen in (("train_ids.txt", training), ("validation_ids.txt", validation)):
        (out / name).write_text("".join(f"{row}\n" for row in chosen))
    write_checksums(out, sorted([*out.glob("*.db"), *out.glob("*.txt")]))


PLAN = Plan(
    "mini-isomers",
    dict.fromkeys(TRAINING, FRAMES) | dict.fromkeys(UNSEEN, UNSEEN_FRAMES),
    (("acetone", 0), ("methyloxirane", 10), ("prop-1-en-1-ol", 5)),
    pack,
)

if __name__ == "__main__":
    command_line(PLAN, Path(__file__).parent)
