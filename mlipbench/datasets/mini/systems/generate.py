"""Make mini-systems: slabs as large as OC20's, LiPS-like cells, molecules, and copper of growing size.

    python -m mlipbench.datasets.mini.systems.generate OUT

The structures have the sizes and densities of those that costs are quoted for, and no more: nobody relaxed them with a
physical potential. The training structures are labelled by a Lennard-Jones potential without chemistry, so that a step
of training can be timed.
"""

from __future__ import annotations

import argparse
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, bulk, fcc111, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import covalent_radii
from ase.io import write
from ase.optimize import FIRE
from vesin import ase_neighbor_list

from mlipbench.datasets.mini.files import write_checksums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SEED = 2311
METALS = {"Cu": 3.63, "Pd": 3.94, "Pt": 3.97, "Ag": 4.16}  # lattice constants in Å, as of RPBE
ADSORBATES = ("CO", "OH", "CH3", "H2O")
MOLECULES = ("CH3CH2OH", "C6H6", "CH3COOH", "C4H4O", "CH3COCH3", "C5H8")
LIPS = {"Li": 27, "P": 12, "S": 44}  # 83 atoms, as MDSim's LiPS
LIPS_CELL = 11.6  # Å, edge of a cube at LiPS's density
LADDER = ((1, 1, 3), (2, 2, 2), (2, 3, 4), (4, 4, 5), (6, 6, 7), (8, 10, 10), (13, 14, 14))  # cubic cells of 4 atoms
THERMAL = 0.05  # Å, by which atoms are moved at random
DECIMALS = 4


class LennardJones(Calculator):  # type: ignore[misc]  # ASE has no types
    """``ε ((s/r)¹² - 2 (s/r)⁶)``, shifted to end at the cutoff; s is the sum of the covalent radii."""

    implemented_properties = ("energy", "forces")
    epsilon, cutoff = 0.05, 6.0  # eV, Å

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Evaluate energy and forces."""
        super().calculate(atoms, properties, system_changes)
        i, j, vectors = ase_neighbor_list("ijD", self.atoms, self.cutoff)
        radii = covalent_radii[self.atoms.numbers]
        r, s = np.linalg.norm(vectors, axis=1), radii[i] + radii[j]
        power, end = (s / r) ** 6, (s / self.cutoff) ** 6
        energy = 0.5 * self.epsilon * np.sum(power**2 - 2 * power - end**2 + 2 * end)
        push = 12 * self.epsilon * (power - power**2) / r**2
        forces = np.zeros((len(self.atoms), 3))
        np.add.at(forces, i, push[:, None] * vectors)
        self.results = {"energy": float(energy), "forces": forces}


def relaxed(atoms: Atoms, steps: int, rng: np.random.Generator) -> Atoms:
    """Move atoms apart that stand too close, and then all a little."""
    atoms.calc = LennardJones()
    FIRE(atoms, logfile=None, maxstep=0.1).run(fmax=0.2, steps=steps)
    atoms.calc = None
    atoms.positions += rng.normal(0, THERMAL, atoms.positions.shape)
    return atoms


def slab(rng: np.random.Generator) -> Atoms:
    """An adsorbate on four layers of a metal: 66 to 68 atoms, and vacuum."""
    metal = str(rng.choice(list(METALS)))
    atoms = fcc111(metal, (4, 4, 4), a=METALS[metal], vacuum=8.0)
    add_adsorbate(atoms, molecule(str(rng.choice(ADSORBATES))), 2.0, str(rng.choice(["ontop", "fcc", "hcp"])))
    atoms.pbc = True
    return relaxed(atoms, 20, rng)


def lips(rng: np.random.Generator) -> Atoms:
    """Lithium, phosphorus and sulphur at random in a cube."""
    symbols = rng.permutation([symbol for symbol, count in LIPS.items() for _ in range(count)])
    positions = rng.uniform(0, LIPS_CELL, (len(symbols), 3))
    return relaxed(Atoms(list(symbols), positions, cell=[LIPS_CELL] * 3, pbc=True), 200, rng)


def free_molecule(rng: np.random.Generator) -> Atoms:
    """A molecule without a cell: 9 to 13 atoms."""
    return relaxed(molecule(str(rng.choice(MOLECULES))), 0, rng)


def copper(cells: tuple[int, int, int], rng: np.random.Generator) -> Atoms:
    """Copper with thermal displacements."""
    atoms = bulk("Cu", a=METALS["Cu"], cubic=True).repeat(cells)
    atoms.positions += rng.normal(0, THERMAL, atoms.positions.shape)
    return atoms


def labelled(frames: Iterable[Atoms]) -> Iterator[Atoms]:
    """The frames with the labels of the potential at positions as they are written."""
    for atoms in frames:
        atoms.positions = atoms.positions.round(DECIMALS)
        atoms.calc = LennardJones()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        yield atoms


def main() -> None:
    """Write all splits and their checksums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    rng = np.random.default_rng(SEED)
    splits = {
        "slabs": [slab(rng) for _ in range(16)],
        "lips": [lips(rng) for _ in range(8)],
        "molecules": [free_molecule(rng) for _ in range(16)],
    }
    splits |= {f"cu-{4 * a * b * c}": [copper((a, b, c), rng)] for a, b, c in LADDER}
    for name, parts in {"train": 8, "val": 2}.items():
        made = (make(rng) for make in (slab, lips, free_molecule) for _ in range(parts))
        splits[name] = list(labelled(made))
    files = []
    for name, frames in splits.items():
        path = out / f"{name}.extxyz.xz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with lzma.open(path, "wt", encoding="utf-8", preset=9) as file:
            write(file, frames, format="extxyz", write_results=True)
        files.append(path)
    write_checksums(out, sorted(files))


if __name__ == "__main__":
    main()
