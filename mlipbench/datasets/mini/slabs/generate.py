"""Label the ``mini-slabs`` dataset with RPBE DFT (GPAW, LCAO), check the labels and pack them in OC20's layout.

Needs GPAW, ASE and NumPy only; run from the root of the repository::

    export OMP_NUM_THREADS=1
    nice -n 10 python -m mlipbench.datasets.mini.slabs.generate run --workers 2
    nice -n 10 python -m mlipbench.datasets.mini.slabs.generate check --workers 2
    python -m mlipbench.datasets.mini.slabs.generate pack

Every finished frame is stored in the work directory at once (temporary file, then rename) and a restarted run skips
what is already there.  Workers claim tasks one by one; a claim whose process has ended is taken over.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import socket
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.optimize import BFGS

from mlipbench.datasets.mini.files import load, write_atomic

from .packing import pack
from .systems import (
    ADSORBATE,
    GASES,
    SURFACE,
    Geometry,
    Settings,
    System,
    first_geometry,
    grid_points,
    next_positions,
    tasks,
)

if TYPE_CHECKING:
    from ase import Atoms

LOG = logging.getLogger("mini-slabs")
CHECKED = ("Cu(111) O hcp", "Au(111) OH fcc", "Ag3Pd(111) CO fcc")  # finite differences
CONVERGED = ("Ag(111) OH hcp", "Cu(100) O hollow")  # k-points and grid
DISPLACEMENT = 0.02  # Å, each way
VARIANTS: dict[str, dict[str, Any]] = {
    "kpts 3x3": {"kpts": (3, 3, 1)},
    "h 0.17": {"h": 0.17},
    "kpts 4x4": {"kpts": (4, 4, 1)},
}

Work = partial[None]


def calculator(settings: Settings, atoms: Atoms, log: Path) -> Any:
    """A fresh GPAW calculator; gas molecules take the Γ point and GPAW's mixer for molecules."""
    from gpaw import GPAW, FermiDirac, Mixer

    periodic = bool(atoms.pbc.any())
    return GPAW(
        mode="lcao",
        basis=settings.basis,
        xc=settings.xc,
        gpts=grid_points(atoms, settings),
        setups=dict(settings.setups),
        kpts={"size": settings.kpts if periodic else (1, 1, 1)},
        occupations=FermiDirac(settings.width),
        symmetry={"point_group": False},
        mixer=Mixer(0.1, 6, 30) if periodic else Mixer(0.25, 3, 1),
        convergence={"density": settings.density},
        maxiter=settings.maxiter,
        txt=str(log),
    )


def evaluate(atoms: Atoms) -> dict[str, Any]:
    """Energies in eV and raw forces ``(n, 3)`` in eV/Å (no constraint applied), with geometry and cost in seconds."""
    start, cpu = time.time(), time.process_time()
    energy = atoms.get_potential_energy()
    free_energy = atoms.calc.get_potential_energy(atoms, force_consistent=True)
    forces = atoms.get_forces(apply_constraint=False)
    return {
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "tags": atoms.get_tags().tolist(),
        "energy": float(energy),
        "free_energy": float(free_energy),
        "forces": forces.tolist(),
        "iterations": int(atoms.calc.get_number_of_iterations()),
        "seconds": time.time() - start,
        "cpu_seconds": time.process_time() - cpu,
    }


def frame_path(work: Path, system: System, fid: int) -> Path:
    """Where one finished frame is stored."""
    return work / "frames" / f"{system.sid:03d}-{fid}.json"


def label_system(system: System, work: Path, limit: int, calc: Any) -> Any:
    """Label what is missing of a system's first ``limit`` frames; returns the calculator for the next system."""
    settings, geometry = Settings(), Geometry()
    atoms = first_geometry(system, settings, geometry)
    for fid in range(min(limit, system.frames)):
        path = frame_path(work, system, fid)
        if path.exists():
            continue
        if not system.relaxed:
            atoms.positions = first_geometry(system, settings, geometry, fid).positions
        elif fid:
            atoms.positions = next_positions(load(frame_path(work, system, fid - 1)), geometry)
        calc = calc or calculator(settings, atoms, work / "logs" / f"{system.sid}.txt")
        atoms.calc = calc
        if system.slab in GASES:
            BFGS(atoms, logfile=None, maxstep=0.05).run(fmax=0.05, steps=25)
        record = evaluate(atoms)
        record |= {"system": asdict(system), "fid": fid, "settings": asdict(settings), "geometry": asdict(geometry)}
        write_atomic(path, record)
        LOG.info("%s frame %d: %.4f eV, %.0f s", system.config, fid, record["energy"], record["seconds"])
    return calc


def label_task(systems: tuple[System, ...], work: Path, val_frames: int) -> None:
    """Label the systems of one task; an SCF that does not converge is recorded and the next system goes on."""
    from gpaw import KohnShamConvergenceError

    calc: Any = None
    for system in systems:
        limit = val_frames if system.split.startswith("val") else system.frames
        try:
            calc = label_system(system, work, limit, calc)
        except KohnShamConvergenceError as error:
            calc = None
            write_atomic(work / "failed" / f"{system.sid:03d}.json", {"config": system.config, "error": repr(error)})
            LOG.warning("%s failed: %r", system.config, error)


def finite_difference(system: System, work: Path) -> None:
    """Compare two force components of a stored frame with central differences of the free energy (eV/Å)."""
    path = work / "checks" / f"fd-{system.sid:03d}.json"
    if path.exists():
        return
    frame = load(frame_path(work, system, 0))
    atoms = first_geometry(system, Settings(), Geometry())
    atoms.positions = frame["positions"]
    atoms.calc = calculator(Settings(), atoms, work / "logs" / f"fd-{system.sid}.txt")
    rows = []
    for index, axis in ((frame["tags"].index(ADSORBATE), 2), (frame["tags"].index(SURFACE), 0)):
        values = []
        for sign in (1, -1):
            atoms.positions = frame["positions"]
            atoms.positions[index, axis] += sign * DISPLACEMENT
            atoms.get_potential_energy()
            values.append(atoms.calc.get_potential_energy(atoms, force_consistent=True))
        numeric = -(values[0] - values[1]) / (2 * DISPLACEMENT)
        rows.append({"atom": index, "axis": "xyz"[axis], "analytic": frame["forces"][index][axis], "numeric": numeric})
    write_atomic(path, {"config": system.config, "sid": system.sid, "rows": rows})


def variant(system: System, label: str, work: Path) -> None:
    """Label the first frame of a system again with other settings."""
    path = work / "checks" / f"{label.replace(' ', '-')}-{system.sid:03d}.json"
    if path.exists():
        return
    frame = load(frame_path(work, system, 0))
    settings = Settings(**VARIANTS[label])
    atoms = first_geometry(system, settings, Geometry())
    atoms.positions = frame["positions"]
    atoms.calc = calculator(settings, atoms, work / "logs" / f"{path.stem}.txt")
    write_atomic(path, evaluate(atoms) | {"system": asdict(system), "variant": label, "settings": asdict(settings)})
    LOG.info("%s with %s done", system.config, label)


def label_jobs(work: Path, val_frames: int) -> list[tuple[str, Work]]:
    """Named jobs of ``run``, in running order."""
    return [(task.name, partial(label_task, task.systems, work, val_frames)) for task in tasks()]


def check_jobs(work: Path) -> list[tuple[str, Work]]:
    """Named jobs of ``check``: finite differences, then each variant of the settings."""
    systems = {system.config: system for task in tasks() for system in task.systems}
    jobs: list[tuple[str, Work]] = [(f"fd-{name}", partial(finite_difference, systems[name], work)) for name in CHECKED]
    parts = [part for name in CONVERGED for part in (name, name.split()[0])]
    for label in VARIANTS:
        names = [*parts, *GASES] if label.startswith("h") else parts
        jobs += [(f"{label}-{name}", partial(variant, systems[name], label, work)) for name in names]
    return jobs


def claim(path: Path) -> bool:
    """Take a job; a claim whose process on this machine has ended is taken over."""
    owner = f"{socket.gethostname()} {os.getpid()}"
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as handle:
            handle.write(owner)
    except FileExistsError:
        host, _, pid = path.read_text().partition(" ")
        if host != socket.gethostname() or not pid or Path(f"/proc/{pid}").exists():
            return False
        path.unlink(missing_ok=True)
        return claim(path)
    return True


def work_through(jobs: list[tuple[str, Work]], work: Path, core: int) -> None:
    """Pin this process to a core and do the jobs that nobody else has claimed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.sched_setaffinity(0, {core})
    for folder in ("claims", "logs", "frames", "checks"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    for name, job in jobs:
        path = work / "claims" / name.replace(" ", "-")
        if claim(path):
            job()
            path.unlink(missing_ok=True)


def main() -> None:
    """Command line: ``run`` labels, ``check`` tests the labels, ``pack`` writes the data files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("command", choices=("run", "check", "pack"))
    parser.add_argument("--work", type=Path, default=Path("mini-slabs-work"))
    parser.add_argument("--workers", type=int, default=2, help="pinned processes to start")
    parser.add_argument("--val-frames", type=int, default=2, help="frames of each validation system, one or two")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where pack writes")
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.work, options.out)
        return
    jobs = label_jobs(options.work, options.val_frames) if options.command == "run" else check_jobs(options.work)
    workers = [
        multiprocessing.Process(target=work_through, args=(jobs, options.work, core)) for core in range(options.workers)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
