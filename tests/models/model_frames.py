"""Structures that adapters are compared with their package's calculator on, and the comparison."""

from __future__ import annotations

import os

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule

from mlipbench.models.interface import Property

ALL = frozenset(Property)
MOST = frozenset({Property.ENERGY, Property.FORCES})


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    """Return the structure with atoms displaced by 0.1 Å, and the cell strained where it is periodic throughout."""
    rng = np.random.default_rng(seed)
    atoms = atoms.copy()
    atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
    if atoms.pbc.all():
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.normal(0, 0.02, (3, 3))), scale_atoms=True)
    return atoms


def slab(*, pbc: bool = True, seed: int = 2) -> Atoms:
    """Return CO on Cu(111), with tags as OC20 has them."""
    atoms = fcc111("Cu", (2, 2, 3), vacuum=7.0)
    add_adsorbate(atoms, molecule("CO"), 1.9, "ontop")
    atoms.set_tags(np.where(np.isin(atoms.numbers, [6, 8]), 2, atoms.positions[:, 2] > 11))
    atoms.pbc = [True, True, pbc]
    return rattled(atoms, seed)


def periodic() -> dict[str, Atoms]:
    """Return structures that are periodic in all directions, by what is special in them."""
    outside = rattled(bulk("Cu", cubic=True), 1)
    outside.positions += [[13.0, -20.0, 4.0], [-7.0, 9.0, 31.0], [0, 0, 0], [55.0, 0, 0]]
    triclinic = rattled(bulk("Cu"), 4)
    triclinic.set_cell(triclinic.cell.array @ [[1.0, 0.2, 0.1], [0, 1.1, 0.3], [0, 0, 1.0]], scale_atoms=True)
    left = rattled(bulk("CuO", "rocksalt", a=4.3), 3)
    left.set_cell(left.cell.array[[1, 0, 2]])
    return {
        "bulk": rattled(bulk("Cu", cubic=True)),
        "slab": slab(),
        "triclinic": triclinic,
        "outside": outside,
        "left-handed": left,
        "boxed molecule": molecule("CH3CH2OH", vacuum=6.0, pbc=True),
        "one atom": Atoms("O", cell=[12.0] * 3, pbc=True),
    }


def expected(calculator: object, atoms: Atoms) -> tuple[float, np.ndarray]:
    """Return energy and forces that a package's calculator finds for a structure alone."""
    atoms = atoms.copy()
    atoms.calc = calculator
    return float(atoms.get_potential_energy()), atoms.get_forces()


def assert_close(found, batch, index: int, energy: float, forces: np.ndarray, tolerance: float = 1.0) -> None:
    """Check a row against a calculator: 1e-5 eV per atom and 1e-4 eV/Å, times a tolerance."""
    atoms = slice(batch.offsets[index], batch.offsets[index + 1])
    assert abs(found.energy[index] - energy) / len(forces) <= 1e-5 * tolerance
    np.testing.assert_allclose(found.forces[atoms], forces, rtol=0, atol=1e-4 * tolerance)


def cost_facts(adapter, frames: list[Atoms]):
    """Return what a worker that holds the adapter counts, and check that it counts the same once more."""
    from mlipbench.cost import CostFacts
    from mlipbench.protocol import Message, MessageKind, batch_arrays
    from mlipbench.structures import StructureBatch
    from mlipbench.worker.flops import count
    from mlipbench.worker.session import Session

    reading, writing = os.pipe()
    try:
        request = Message(
            MessageKind.COUNT, {"properties": sorted(MOST)}, batch_arrays(StructureBatch.from_atoms(frames))
        )
        session = Session(reply_fd=writing, loaded=adapter)
        first, second = (CostFacts.from_header(count(session, request).header) for _ in range(2))
    finally:
        os.close(reading)
        os.close(writing)
    assert first == second
    return first
