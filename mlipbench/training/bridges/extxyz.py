"""Labelled structures as extended XYZ with every digit, for trainers that read files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.training.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import FloatArray

ENERGY_KEY: Final = "REF_energy"
FORCES_KEY: Final = "REF_forces"


def write_extxyz(
    path: Path, data: LabelledStructures, targets: FloatArray, info: Mapping[str, FloatArray] | None = None
) -> None:
    """Write structures with their energies and forces, in the shortest form that reads back to the same float64.

    ASE's own writer keeps eight digits after the point.

    Args:
        path: The file.
        data: The structures.
        targets: Shape (n_structures,), eV, their energies without reference.
        info: Further numbers by key, shape (n_structures,) each.
    """
    text = "".join(_frame(data, s, targets, info or {}) for s in range(data.n_structures))
    replace_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))


def _frame(data: LabelledStructures, s: int, targets: FloatArray, info: Mapping[str, FloatArray]) -> str:
    batch = data.structures
    atoms = slice(batch.offsets[s], batch.offsets[s + 1])
    cell = "" if not batch.cell[s].any() else f'Lattice="{_numbers(batch.cell[s])}" '
    forces = "" if data.forces is None else f":{FORCES_KEY}:R:3"
    pbc = " ".join("T" if periodic else "F" for periodic in batch.pbc[s])
    values = {ENERGY_KEY: targets, **info}
    numbers = " ".join(f"{key}={float(value[s])!r}" for key, value in values.items())
    header = f'{cell}Properties=species:S:1:pos:R:3{forces} {numbers} pbc="{pbc}"'
    return "\n".join([str(int(batch.counts[s])), header, *_rows(data, atoms)]) + "\n"


def _rows(data: LabelledStructures, atoms: slice) -> Iterator[str]:
    columns = [data.structures.positions[atoms]]
    if data.forces is not None:
        columns.append(data.forces[atoms])
    for number, row in zip(data.structures.numbers[atoms].tolist(), np.concatenate(columns, axis=1), strict=True):
        yield f"{SYMBOLS[number]} {_numbers(row)}"


def _numbers(values: FloatArray) -> str:
    return " ".join(repr(value) for value in np.asarray(values, dtype=np.float64).ravel().tolist())
