"""Run molecular dynamics of Li3PS4 with the potential of this folder and pack it in the layout of LiPS.

From the root of the repository, with mlipbench installed::

    export OMP_NUM_THREADS=1
    python -m mlipbench.datasets.mini.lips.generate run
    python -m mlipbench.datasets.mini.lips.generate check
    python -m mlipbench.datasets.mini.lips.generate pack
    python -m mlipbench.datasets.mini.lips.generate measure
"""

from __future__ import annotations

import argparse
import io
import logging
import lzma
from itertools import combinations_with_replacement, product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.calculators.fd import calculate_numerical_forces
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import NoseHooverChainNVT
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.optimize import FIRE
from scipy.signal import find_peaks
from vesin import ase_neighbor_list

from mlipbench.datasets.mini.files import write_checksums
from mlipbench.datasets.mini.lips.potential import ELEMENTS, BornMayer

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LOG = logging.getLogger("mini-lips")
CELL = ((11.7, 0.0, 0.0), (1.3, 11.4, 0.0), (-1.0, 1.0, 11.3))  # Å
BOND = 2.05  # Å, P-S at the start
TEMPERATURE = 520.0  # K
TIMESTEP = 2.0  # fs
INTERVAL = 50.0  # fs between frames
FRAMES = 1001
EQUILIBRATION = 20_000.0  # fs
SEED = 0
DISPLACEMENT = 0.001  # Å, each way
RDF_CUTOFF = 6.0  # Å
RDF_BINS = 120
PROMINENCE = 0.3  # of a peak of g(r)
LAGS = (20, 100)  # frames between which the mean squared displacement is fitted
BLOCKS = 5
FILE = "lips.extxyz.xz"


def start() -> Atoms:
    """Eight tetrahedra on a grid of the cell, and lithium half-way between neighbouring ones: Li24P8S32."""
    cell = np.array(CELL)
    grid = np.array(list(product((0.0, 0.5), repeat=3)))
    corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) / np.sqrt(3) * BOND
    lithium = (grid[:, None] + np.eye(3) / 4).reshape(-1, 3) @ cell
    phosphorus = grid @ cell
    sulphur = (phosphorus[:, None] + corners).reshape(-1, 3)
    return Atoms("Li24P8S32", np.concatenate([lithium, phosphorus, sulphur]), cell=cell, pbc=True)


def simulate(path: Path) -> None:
    """Equilibrate with Langevin dynamics, then store frames of a Nosé-Hoover chain, positions not wrapped."""
    atoms, rng = start(), np.random.default_rng(SEED)
    atoms.calc = BornMayer()
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=500)
    thermalize_momenta(atoms, temperature_K=TEMPERATURE, rng=rng)
    step = TIMESTEP * units.fs
    heat = Langevin(atoms, step, temperature_K=TEMPERATURE, friction=0.01 / units.fs, fixcm=False, rng=rng)
    heat.run(round(EQUILIBRATION / TIMESTEP))
    Stationary(atoms)
    dynamics = NoseHooverChainNVT(atoms, step, temperature_K=TEMPERATURE, tdamp=100 * units.fs)
    positions, temperatures = [], []
    for _ in range(FRAMES):
        dynamics.run(round(INTERVAL / TIMESTEP))
        positions.append(atoms.get_positions())
        temperatures.append(atoms.get_temperature())
    LOG.info("temperature %.0f K on average", np.mean(temperatures))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(positions))


def pack(path: Path, out: Path) -> None:
    """Label the rounded positions (10⁻⁵ Å) and write them, so that the labels belong to what is stored."""
    atoms, text = start(), io.StringIO()
    for positions in np.load(path):
        atoms.positions = np.round(positions, 5)
        atoms.calc = BornMayer()
        frame = atoms.copy()
        energy, forces = round(atoms.get_potential_energy(), 6), np.round(atoms.get_forces(), 5)
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
        write(text, frame, format="extxyz")
    (out / FILE).write_bytes(lzma.compress(text.getvalue().encode(), preset=9))
    write_checksums(out, [out / FILE])


def packed(path: Path) -> list[Atoms]:
    """All frames; the text is unpacked first, because ASE jumps back in it for every frame."""
    frames: list[Atoms] = read(io.StringIO(lzma.decompress(path.read_bytes()).decode()), ":", format="extxyz")
    return frames


def check(frames: list[Atoms]) -> None:
    """Print, for an atom of each element in three frames, how well forces and central differences agree."""
    for number in (0, FRAMES // 2, FRAMES - 1):
        atoms = frames[number].copy()
        atoms.calc = BornMayer()
        chosen = [atoms.symbols.indices()[element][0] for element in ELEMENTS]
        numeric = calculate_numerical_forces(atoms, eps=DISPLACEMENT, iatoms=chosen)
        worst = np.abs(numeric - frames[number].get_forces()[chosen]).max()
        LOG.info("frame %d: forces and central differences agree to %.1e eV/Å", number, worst)


def radial_distribution(frames: list[Atoms], pair: tuple[str, str]) -> tuple[Floats, Floats]:
    """Radii in Å and g(r) of two elements, the number of pairs over that of an ideal gas of the same density."""
    symbols = np.array(frames[0].get_chemical_symbols())
    edges = np.linspace(0.0, RDF_CUTOFF, RDF_BINS + 1)
    counts = np.zeros(RDF_BINS)
    for atoms in frames:
        first, second, distances = ase_neighbor_list("ijd", atoms, RDF_CUTOFF)
        chosen = (symbols[first] == pair[0]) & (symbols[second] == pair[1])
        counts += np.histogram(distances[chosen], edges)[0]
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    density = (symbols == pair[1]).sum() / frames[0].get_volume()
    return (edges[1:] + edges[:-1]) / 2, counts / (len(frames) * (symbols == pair[0]).sum() * density * shells)


def diffusivity(frames: list[Atoms]) -> float:
    """Self-diffusion of lithium in m²/s by Einstein's relation.

    It is one sixth of the slope of the mean squared displacement over all starting frames, fitted by least squares over
    `LAGS`; displacements are against the centre of mass of all atoms.
    """
    chosen = np.array(frames[0].get_chemical_symbols()) == "Li"
    paths = np.array([(atoms.positions - atoms.get_center_of_mass())[chosen] for atoms in frames])
    lags = np.arange(LAGS[0], LAGS[1] + 1)
    moved = [((paths[lag:] - paths[:-lag]) ** 2).sum(axis=2).mean() for lag in lags]
    slope = np.polyfit(lags * INTERVAL * 1e-15, np.array(moved) * 1e-20, 1)[0]
    return float(slope / 6)


def measure(frames: list[Atoms]) -> None:
    """Print the first peak of g(r) for each pair of elements, and lithium's diffusivity with its standard error."""
    for pair in combinations_with_replacement(ELEMENTS, 2):
        radii, values = radial_distribution(frames, pair)
        first = find_peaks(values, prominence=PROMINENCE)[0][0]
        LOG.info("%s-%s: first peak of g(r) at %.3f Å, height %.2f", *pair, radii[first], values[first])
    length = len(frames) // BLOCKS
    parts = [diffusivity(frames[number * length : (number + 1) * length]) for number in range(BLOCKS)]
    error = np.std(parts, ddof=1) / np.sqrt(BLOCKS)
    LOG.info("diffusivity of Li: %.2e m²/s, standard error of %d blocks %.1e", diffusivity(frames), BLOCKS, error)


def main() -> None:
    """Command line: ``run`` simulates, ``pack`` labels and writes, ``check`` and ``measure`` read what is packed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", choices=("run", "pack", "check", "measure"))
    parser.add_argument("--work", type=Path, default=Path("mini-lips-work"))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the packed data lie")
    options = parser.parse_args()
    trajectory = options.work / "positions.npy"
    if options.command == "run":
        simulate(trajectory)
    elif options.command == "pack":
        pack(trajectory, options.out)
    else:
        frames = packed(options.out / FILE)
        (check if options.command == "check" else measure)(frames)


if __name__ == "__main__":
    main()
