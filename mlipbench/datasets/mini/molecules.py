"""Molecules for ``mini-ethanol`` and ``mini-isomers``: geometries from bonds, GFN2-xTB dynamics, PBE labels.

Needs ASE, NumPy, SciPy, tblite and PySCF. Whatever is finished is stored in the work directory at once, and a
restarted command skips what is already there.
"""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii

from .files import load, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger("mini-molecules")
DISPLACEMENT = 0.005  # Å, each way


@dataclass(frozen=True)
class Molecule:
    """A molecule by its bonds.

    Attributes:
        name: Unique in its dataset.
        heavy: Symbols of the atoms other than hydrogen.
        bonds: Pairs of indices of bonded heavy atoms.
        hydrogens: Number of hydrogens on each heavy atom; they follow the heavy atoms, in this order.
    """

    name: str
    heavy: str
    bonds: tuple[tuple[int, int], ...]
    hydrogens: tuple[int, ...]

    @property
    def symbols(self) -> str:
        """Symbols of all atoms."""
        return self.heavy + "H" * sum(self.hydrogens)

    @property
    def all_bonds(self) -> list[tuple[int, int]]:
        """Pairs of indices of bonded atoms, hydrogens included."""
        owners = np.repeat(np.arange(len(self.heavy)), self.hydrogens).tolist()
        return [*self.bonds, *((owner, len(self.heavy) + number) for number, owner in enumerate(owners))]


@dataclass(frozen=True)
class Sampling:
    """Langevin dynamics of one molecule: K, fs, and friction in 1/fs."""

    temperature: float = 500.0
    timestep: float = 0.5
    friction: float = 0.01
    interval: float = 50.0
    equilibration: float = 2000.0
    method: str = "GFN2-xTB"


@dataclass(frozen=True)
class Level:
    """Settings of a PySCF calculation; the tolerance of the energy in Hartree."""

    xc: str = "pbe"
    basis: str = "def2-svp"
    auxiliary: str | None = "def2-universal-jfit"
    grid: int = 2
    tolerance: float = 1e-9


TIGHT = Level(auxiliary=None, grid=4, tolerance=1e-10)


@dataclass(frozen=True)
class Plan:
    """What a script makes.

    Attributes:
        name: The dataset.
        molecules: Each with the number of its frames.
        checked: Molecule and frame of each check.
        pack: Writes the data files: work directory, folder.
    """

    name: str
    molecules: dict[Molecule, int]
    checked: tuple[tuple[str, int], ...]
    pack: Callable[[Path, Path], None]


def rough_geometry(molecule: Molecule, seed: int) -> Atoms:
    """Place atoms so that bonded ones touch and all others keep apart; seeded, to be relaxed by a better method."""
    from scipy.optimize import minimize

    atoms = Atoms(molecule.symbols)
    radii = covalent_radii[atoms.numbers]
    pairs = np.array(list(combinations(range(len(atoms)), 2)))
    bonded = np.array([tuple(pair) in set(molecule.all_bonds) for pair in pairs.tolist()])
    touching = radii[pairs].sum(axis=1)

    def strain(flat: Any) -> float:
        distances = np.linalg.norm(np.diff(flat.reshape(-1, 3)[pairs], axis=1)[:, 0], axis=1)
        apart = np.minimum(distances - 1.7 * touching, 0.0)
        return float(np.where(bonded, 10 * (distances - touching) ** 2, apart**2).sum())

    start = np.random.default_rng(seed).normal(0.0, 2.0, 3 * len(atoms))
    atoms.positions = minimize(strain, start).x.reshape(-1, 3)
    return atoms


def sample(molecule: Molecule, frames: int, seed: int, path: Path) -> None:
    """Store frames of a Langevin trajectory, in order of time; the first of them follows the equilibration."""
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.optimize import BFGS
    from tblite.ase import TBLite

    settings, rng = Sampling(), np.random.default_rng(seed)
    atoms = rough_geometry(molecule, seed)
    atoms.calc = TBLite(method=settings.method, verbosity=0)
    BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.05, steps=500)
    MaxwellBoltzmannDistribution(atoms, temperature_K=settings.temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        settings.timestep * units.fs,
        temperature_K=settings.temperature,
        friction=settings.friction / units.fs,
        fixcm=False,  # the centre of mass is subtracted from the frames
        rng=rng,
    )
    dynamics.run(round(settings.equilibration / settings.timestep))
    positions, temperatures = [], []
    for _ in range(frames):
        dynamics.run(round(settings.interval / settings.timestep))
        positions.append((atoms.positions - atoms.get_center_of_mass()).tolist())
        temperatures.append(atoms.get_temperature())
    record = {"molecule": asdict(molecule), "seed": seed, "settings": asdict(settings), "positions": positions}
    write_atomic(path, record | {"temperatures": temperatures})
    LOG.info("%s: %d frames, %.0f K on average", molecule.name, frames, np.mean(temperatures))


def evaluate(symbols: str, positions: Any, level: Level, guess: Any = None) -> tuple[float, Any, Any]:
    """Energy in eV, forces ``(n, 3)`` in eV/Å and density matrix of a closed-shell molecule, positions in Å.

    The forces hold the response of the grid, without which they are no derivative of the energy on a coarse one.

    Raises:
        RuntimeError: The density does not converge.
    """
    from pyscf import dft, gto

    place = zip(Atoms(symbols).symbols, np.asarray(positions) / units.Bohr, strict=True)
    molecule = gto.M(atom=[(symbol, tuple(xyz)) for symbol, xyz in place], basis=level.basis, unit="Bohr", verbose=0)
    method = dft.RKS(molecule, xc=level.xc)
    if level.auxiliary:
        method = method.density_fit(auxbasis=level.auxiliary)
    method.grids.level = level.grid
    method.conv_tol = level.tolerance
    energy = method.kernel(dm0=guess)
    if not method.converged:
        raise RuntimeError(f"the density of {symbols} does not converge")
    gradient = method.nuc_grad_method()
    gradient.grid_response = True
    return float(energy) * units.Hartree, -gradient.kernel() * units.Hartree / units.Bohr, method.make_rdm1()


def frame_path(work: Path, name: str, number: int) -> Path:
    """Where one labelled frame is stored."""
    return work / "frames" / f"{name}-{number:03d}.json"


def run(plan: Plan, work: Path) -> None:
    """Sample every molecule, then label all frames, round by round so that all molecules advance together."""
    for seed, (molecule, frames) in enumerate(plan.molecules.items()):
        path = work / "samples" / f"{molecule.name}.json"
        if not path.exists():
            sample(molecule, frames, seed, path)
    samples = {molecule: load(work / "samples" / f"{molecule.name}.json") for molecule in plan.molecules}
    guesses: dict[Molecule, Any] = {}
    for number in range(max(plan.molecules.values())):
        for molecule, frames in plan.molecules.items():
            path = frame_path(work, molecule.name, number)
            if number >= frames or path.exists():
                continue
            positions, start = samples[molecule]["positions"][number], time.process_time()
            energy, forces, guess = evaluate(molecule.symbols, positions, Level(), guesses.get(molecule))
            guesses[molecule] = guess
            record = {"symbols": molecule.symbols, "positions": positions, "energy": energy, "forces": forces.tolist()}
            record |= {"level": asdict(Level()), "cpu_seconds": time.process_time() - start}
            write_atomic(path, record)
            LOG.info("%s %d: %.6f eV, %.1f s", molecule.name, number, energy, record["cpu_seconds"])


def check(plan: Plan, work: Path) -> None:
    """Print, for a few frames, forces against central differences, and what a tighter calculation changes."""
    for name, number in plan.checked:
        frame = load(frame_path(work, name, number))
        forces, positions = np.array(frame["forces"]), np.array(frame["positions"])
        worst = np.unravel_index(np.abs(forces).argmax(), forces.shape)
        for atom, axis in (worst, (len(forces) - 1, 0)):
            step = np.zeros_like(positions)
            step[atom, axis] = DISPLACEMENT
            ends = [evaluate(frame["symbols"], positions + sign * step, Level())[0] for sign in (1, -1)]
            numeric = (ends[1] - ends[0]) / (2 * DISPLACEMENT)
            stored = forces[atom, axis]
            LOG.info(
                "%s %d, %s %d %s: force %.5f, central difference %.5f, difference %+.5f eV/Å",
                name, number, frame["symbols"][atom], atom, "xyz"[axis], stored, numeric, stored - numeric,
            )  # fmt: skip
        energy, tight, _ = evaluate(frame["symbols"], positions, TIGHT)
        change = np.abs(tight - forces)
        LOG.info(
            "%s %d with exact Coulomb integrals and grid 4: energy %+.2f meV, forces %.4f mean, %.4f largest (eV/Å)",
            name, number, 1000 * (energy - frame["energy"]), change.mean(), change.max(),
        )  # fmt: skip


def command_line(plan: Plan, folder: Path) -> None:
    """Run a script: ``run`` samples and labels, ``check`` tests the labels, ``pack`` writes the data files."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    parser = argparse.ArgumentParser(description=command_line.__doc__)
    parser.add_argument("command", choices=("run", "check", "pack"))
    parser.add_argument("--work", type=Path, default=Path(f"{plan.name}-work"))
    parser.add_argument("--out", type=Path, default=folder, help="where pack writes")
    options = parser.parse_args()
    if options.command == "pack":
        plan.pack(options.work, options.out)
    elif options.command == "run":
        run(plan, options.work)
    else:
        check(plan, options.work)
