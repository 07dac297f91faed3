"""Make the structures that physics is probed on: atoms, dimers, molecules, crystals, and slabs of mini-slabs.

    python -m mlipbench.datasets.mini.probes.generate OUT

Nothing is labelled. Molecules and crystals are displaced at random, so that no force vanishes by symmetry; slabs are
frames of mini-slabs' validation splits.
"""

from __future__ import annotations

import argparse
import io
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.data import atomic_numbers, chemical_symbols, covalent_radii
from ase.io import read, write

from mlipbench.datasets.mini.files import write_checksums

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SEED = 2402
METALS = {"Ag": 4.16, "Au": 4.19, "Cu": 3.63, "Pd": 3.94}  # lattice constants in Å, as of RPBE
ELEMENTS = ("H", "C", "O", *METALS)
MOLECULES = ("H2O", "CH4", "CH3OH", "HCOOH")
HEAVIEST = 94  # Pu, the last element that universal models cover
THERMAL = 0.05  # Å
DECIMALS = 4
BOND = 1.05  # sums of covalent radii


def atom(symbol: str) -> Atoms:
    """An atom by itself."""
    return Atoms([symbol], positions=[[0.0, 0.0, 0.0]])


def dimer(symbol: str) -> Atoms:
    """Two atoms of an element, about a bond apart, along no axis."""
    distance = 2 * BOND * float(covalent_radii[atomic_numbers[symbol]])
    return Atoms([symbol] * 2, positions=[[0.0, 0.0, 0.0], distance * np.array([2.0, 1.0, 2.0]) / 3.0])


def disturbed(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """Atoms moved at random."""
    atoms.positions += rng.normal(0, THERMAL, atoms.positions.shape)
    return atoms


def crystals(rng: np.random.Generator) -> list[Atoms]:
    """The four metals in cubic cells of four atoms, and two ordered alloys."""
    made = [disturbed(bulk(symbol, "fcc", a=a, cubic=True), rng) for symbol, a in METALS.items()]
    for first, second in (("Cu", "Au"), ("Ag", "Pd")):
        alloy = bulk(first, "fcc", a=(METALS[first] + METALS[second]) / 2, cubic=True)
        alloy.symbols[:2] = second
        made.append(disturbed(alloy, rng))
    return made


def slabs() -> list[Atoms]:
    """One frame of each metal of mini-slabs' `val_id`, without its labels."""
    folder = Path(__file__).parents[1] / "slabs" / "val_id"
    frames: list[Atoms] = []
    for path in sorted(folder.glob("*.extxyz.xz")):
        frames += read(io.StringIO(lzma.decompress(path.read_bytes()).decode()), ":", format="extxyz")
    found: dict[str, Atoms] = {}
    for frame in frames:
        metal = next(symbol for symbol in frame.get_chemical_symbols() if symbol in METALS)
        if metal not in found and "C" in frame.get_chemical_symbols():
            found[metal] = Atoms(frame.symbols, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
    return [found[metal] for metal in METALS]


def named(frames: Iterable[Atoms]) -> list[Atoms]:
    """The frames with rounded positions, and their formulas as names."""
    made = []
    for frame in frames:
        frame.positions = frame.positions.round(DECIMALS)
        frame.info = {"sid": frame.get_chemical_formula()}
        made.append(frame)
    return made


def main() -> None:
    """Write all splits and their checksums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    rng = np.random.default_rng(SEED)
    everything = chemical_symbols[1 : HEAVIEST + 1]
    splits: dict[str, Sequence[Atoms]] = {
        "atoms": [atom(symbol) for symbol in ELEMENTS],
        "dimers": [dimer(symbol) for symbol in ELEMENTS],
        "molecules": [disturbed(molecule(name), rng) for name in MOLECULES],
        "crystals": crystals(rng),
        "slabs": slabs(),
        "all_atoms": [atom(symbol) for symbol in everything],
        "all_dimers": [dimer(symbol) for symbol in everything],
    }
    out.mkdir(parents=True, exist_ok=True)
    files = []
    for name, frames in splits.items():
        path = out / f"{name}.extxyz.xz"
        with lzma.open(path, "wt", encoding="utf-8", preset=9) as file:
            write(file, named(frames), format="extxyz")
        files.append(path)
    write_checksums(out, sorted(files))


if __name__ == "__main__":
    main()
