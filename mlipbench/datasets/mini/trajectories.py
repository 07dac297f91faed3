"""Trajectories for ``mini-lips``, ``mini-water`` and ``mini-methane``: how they are made, packed and measured."""

from __future__ import annotations

import argparse
import io
import logging
import lzma
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LOG = logging.getLogger("mini-trajectories")
SEED = 0
DISPLACEMENT = 0.001  # Å, each way
RDF_CUTOFF = 6.0  # Å
RDF_BINS = 120
PROMINENCE = 0.3  # of a peak of g(r)
BLOCKS = 5


@dataclass(frozen=True)
class Trajectory:
    """How a trajectory is made and measured.

    Attributes:
        file: Name of the packed data.
        start: Makes the atoms before they are relaxed.
        calculator: Makes the potential.
        temperature: In K.
        timestep: In fs.
        interval: Between frames, in fs.
        frames: Their number.
        equilibration: In fs.
        decimals: Of stored positions (Å) and forces (eV/Å).
        moving: The element whose diffusivity is measured.
        lags: In frames; between them the mean squared displacement is fitted.
    """

    file: str
    start: Callable[[], Atoms]
    calculator: Callable[[], Any]
    temperature: float
    timestep: float
    interval: float
    frames: int
    equilibration: float
    decimals: tuple[int, int]
    moving: str
    lags: tuple[int, int]


def simulate(plan: Trajectory, path: Path) -> None:
    """Equilibrate with Langevin dynamics, then store frames of a Nosé-Hoover chain, positions not wrapped."""
    atoms, rng = plan.start(), np.random.default_rng(SEED)
    atoms.calc = plan.calculator()
    FIRE(atoms, logfile=None).run(fmax=0.05, steps=500)
    thermalize_momenta(atoms, temperature_K=plan.temperature, rng=rng)
    step = plan.timestep * units.fs
    heat = Langevin(atoms, step, temperature_K=plan.temperature, friction=0.01 / units.fs, fixcm=False, rng=rng)
    heat.run(round(plan.equilibration / plan.timestep))
    Stationary(atoms)
    dynamics = NoseHooverChainNVT(atoms, step, temperature_K=plan.temperature, tdamp=100 * units.fs)
    positions, temperatures = [], []
    for _ in range(plan.frames):
        dynamics.run(round(plan.interval / plan.timestep))
        positions.append(atoms.get_positions())
        temperatures.append(atoms.get_temperature())
    LOG.info("temperature %.0f K on average", np.mean(temperatures))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array(positions))


def pack(plan: Trajectory, path: Path, out: Path) -> None:
    """Label the rounded positions and write them, so that the labels belong to what is stored."""
    atoms, text = plan.start(), io.StringIO()
    for positions in np.load(path):
        atoms.positions = np.round(positions, plan.decimals[0])
        atoms.calc = plan.calculator()
        frame = atoms.copy()
        energy, forces = round(atoms.get_potential_energy(), 6), np.round(atoms.get_forces(), plan.decimals[1])
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
        write(text, frame, format="extxyz")
    (out / plan.file).write_bytes(lzma.compress(text.getvalue().encode(), preset=9))
    write_checksums(out, [out / plan.file])


def packed(path: Path) -> list[Atoms]:
    """All frames; the text is unpacked first, because ASE jumps back in it for every frame."""
    frames: list[Atoms] = read(io.StringIO(lzma.decompress(path.read_bytes()).decode()), ":", format="extxyz")
    return frames


def check(plan: Trajectory, frames: list[Atoms]) -> None:
    """Print, for an atom of each element in three frames, how well forces and central differences agree."""
    for number in (0, plan.frames // 2, plan.frames - 1):
        atoms = frames[number].copy()
        atoms.calc = plan.calculator()
        chosen = [int(indices[0]) for indices in atoms.symbols.indices().values()]
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


def diffusivity(plan: Trajectory, frames: list[Atoms]) -> float:
    """Self-diffusion of one element in m²/s by Einstein's relation.

    It is one sixth of the slope of the mean squared displacement over all starting frames, fitted by least squares over
    `Trajectory.lags`; displacements are against the centre of mass of all atoms.
    """
    chosen = np.array(frames[0].get_chemical_symbols()) == plan.moving
    paths = np.array([(atoms.positions - atoms.get_center_of_mass())[chosen] for atoms in frames])
    lags = np.arange(plan.lags[0], plan.lags[1] + 1)
    moved = [((paths[lag:] - paths[:-lag]) ** 2).sum(axis=2).mean() for lag in lags]
    slope = np.polyfit(lags * plan.interval * 1e-15, np.array(moved) * 1e-20, 1)[0]
    return float(slope / 6)


def measure(plan: Trajectory, frames: list[Atoms]) -> None:
    """Print the first peak of g(r) for each pair of elements, and the diffusivity with its standard error."""
    for pair in combinations_with_replacement(dict.fromkeys(frames[0].get_chemical_symbols()), 2):
        radii, values = radial_distribution(frames, pair)
        first = find_peaks(values, prominence=PROMINENCE)[0][0]
        LOG.info("%s-%s: first peak of g(r) at %.3f Å, height %.2f", *pair, radii[first], values[first])
    length = len(frames) // BLOCKS
    parts = [diffusivity(plan, frames[number * length : (number + 1) * length]) for number in range(BLOCKS)]
    error = np.std(parts, ddof=1) / np.sqrt(BLOCKS)
    value = diffusivity(plan, frames)
    LOG.info("diffusivity of %s: %.2e m²/s, standard error of %d blocks %.1e", plan.moving, value, BLOCKS, error)


def main(plan: Trajectory, folder: Path) -> None:
    """Command line: ``run`` simulates, ``pack`` labels and writes, ``check`` and ``measure`` read what is packed."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", choices=("run", "pack", "check", "measure"))
    parser.add_argument("--work", type=Path, default=Path(f"mini-{folder.name}-work"))
    parser.add_argument("--out", type=Path, default=folder, help="where the packed data lie")
    options = parser.parse_args()
    positions = options.work / "positions.npy"
    if options.command == "run":
        simulate(plan, positions)
    elif options.command == "pack":
        pack(plan, positions, options.out)
    else:
        frames = packed(options.out / plan.file)
        (check if options.command == "check" else measure)(plan, frames)
