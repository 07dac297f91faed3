"""Small structures and files that the dataset tests share."""

from __future__ import annotations

import lzma
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect
from ase.io import write
from ase.io.trajectory import TrajectoryWriter

from mlipbench.datasets.records import Reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlipbench.datasets.entry import DatasetEntry
    from mlipbench.structures.columnar import Split

    Convert = Callable[..., Split]
    MakeEntry = Callable[..., DatasetEntry]
    Sample = Callable[[str], Path]

EV = {"energy": "eV", "forces": "eV/A", "length": "A", "stress": None}
KEYS: dict[str, Any] = dict.fromkeys(
    ["energy", "forces", "stress", "id", "cluster", "charge", "spin", "numbers", "positions", "cell", "pbc"]
)
LABELS = {**KEYS, "energy": "energy", "forces": "forces"}
SGDML = {**KEYS, "energy": "E", "forces": "F", "positions": "R", "numbers": "z"}


def fuzz_examples() -> int:
    """Return how many examples a test of a reader takes; the tox environment `long` wants more."""
    return int(os.environ.get("MLIPBENCH_FUZZ_EXAMPLES", "100"))


def reading(keys: dict[str, Any] | None = None, **changes: Any) -> Reading:
    fields: dict[str, Any] = {"units": EV, "keys": LABELS | (keys or {}), "pbc": None, "cluster": "structure"}
    return Reading(**(fields | changes))


def slabs(n: int = 3, *, seed: int = 0) -> list[Atoms]:
    """Periodic structures with fixed atoms whose forces are not zero, and free_energy unlike energy."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(n):
        atoms = Atoms("Cu2O", positions=rng.random((3, 3)) * 3, cell=[4.0, 5.0, 16.0], pbc=True)
        atoms.set_tags([0, 1, 2])
        atoms.set_constraint(FixAtoms(indices=[0]))
        atoms.info |= {"sid": f"random{index // 2}", "fid": index}
        calculator = SinglePointCalculator(atoms, energy=-10.0 - index, forces=rng.normal(size=(3, 3)).round(6))
        calculator.results["free_energy"] = -10.5 - index
        atoms.calc = calculator
        frames.append(atoms)
    return frames


def save(path: Path, frames: Any) -> Path:
    if path.name.endswith(".traj"):
        with TrajectoryWriter(path) as writer:
            for atoms in frames:
                writer.write(atoms)
    elif path.name.endswith(".db"):
        with connect(path) as database:
            for atoms in frames:
                database.write(atoms, key_value_pairs={"sid": atoms.info["sid"], "fid": atoms.info["fid"]})
    else:
        plain = path.with_name(path.name.removesuffix(".xz"))
        write(plain, frames, format="extxyz")
        if path.name.endswith(".xz"):
            path.write_bytes(lzma.compress(plain.read_bytes()))
    return path


def vasprun(frames: Any, pstress: float = 0.0) -> str:
    """Write structures as the ionic steps of ``vasprun.xml``, corrections in the last cycle of each alone."""

    def rows(name: str, vectors: Any) -> str:
        lines = "".join(f"<v> {x:.12f} {y:.12f} {z:.12f} </v>\n" for x, y, z in vectors)
        return f'<varray name="{name}">\n{lines}</varray>\n'

    def energies(free: float, zero: float) -> str:
        return f'<energy><i name="e_fr_energy"> {free:.8f} </i><i name="e_0_energy"> {zero:.8f} </i></energy>\n'

    symbols = "".join(f"<rc><c>{symbol:2s}</c><c>   1</c></rc>" for symbol in frames[0].get_chemical_symbols())
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
    text += '<kpoints><varray name="kpointlist"></varray></kpoints>\n'
    text += f'<parameters><separator name="ionic"><i name="PSTRESS"> {pstress} </i></separator></parameters>\n'
    text += f'<atominfo><array name="atoms"><set>{symbols}</set></array></atominfo>\n'
    head = f"<crystal>{rows('basis', frames[0].cell)}</crystal>{rows('positions', frames[0].get_scaled_positions())}"
    text += f'<structure name="initialpos">{head}</structure>\n'
    for atoms in frames:
        free, zero = (atoms.calc.results[name] for name in ("free_energy", "energy"))
        cycles = energies(free + 9, zero + 5), energies(free + 1, zero + 1)
        text += "<calculation>" + "".join(f"<scstep>{cycle}</scstep>\n" for cycle in cycles)
        crystal = f"<crystal>{rows('basis', atoms.cell)}</crystal>"
        text += f"<structure>{crystal}{rows('positions', atoms.get_scaled_positions(wrap=False))}</structure>\n"
        text += f"{rows('forces', atoms.calc.results['forces'])}{energies(free, 0.0)}</calculation>\n"
    return f"{text}</modeling>\n"


def arrays(n: Any = 4, n_atoms: Any = 3) -> Any:
    rng = np.random.default_rng(1)
    return {
        "E": rng.normal(size=(n, 1)),
        "F": rng.normal(size=(n, n_atoms, 3)),
        "R": rng.normal(size=(n, n_atoms, 3)),
        "z": np.array([8, 1, 1], dtype=np.uint8),
    }
