"""Labelled structures as deepmd-kit's systems: a folder of arrays for each sequence of elements."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.training.bridges.boxes import boxed

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.training.data import LabelledStructures
    from mlipbench.typing import FloatArray


def write_systems(folder: Path, data: LabelledStructures, targets: FloatArray, cutoff: float) -> list[Path]:
    """Write structures as systems of deepmd-kit, and return their folders.

    Args:
        folder: Where to; replaced if it is there.
        data: The structures, with forces.
        targets: Shape (n_structures,), eV, their energies without reference.
        cutoff: Å, of the model: images along directions without periodicity are put beyond it.
    """
    if data.forces is None:  # refused when the bridge was made
        raise TypeError("structures without forces")
    shutil.rmtree(folder, ignore_errors=True)
    batch, weights = boxed(data.structures, cutoff), force_weights(data)
    groups: dict[bytes, list[int]] = {}
    for s in range(data.n_structures):
        numbers = batch.numbers[batch.offsets[s] : batch.offsets[s + 1]].astype(np.int64)
        groups.setdefault(numbers.tobytes(), []).append(s)
    types = np.unique(batch.numbers)
    places: list[Path] = []
    for sequence, members in groups.items():
        numbers = np.frombuffer(sequence, dtype=np.int64)
        atoms = np.stack([np.arange(batch.offsets[s], batch.offsets[s + 1]) for s in members])
        arrays = {
            "coord": batch.positions[atoms],
            "box": np.stack([_right_handed(batch.cell[s]) for s in members]),
            "energy": targets[members],
            "force": data.forces[atoms],
            "atom_pref": np.repeat(weights[atoms], 3),  # one would do if 3.2.0's loader repeated it
        }
        place = folder / f"{len(places):04d}"
        (place / "set.000").mkdir(parents=True)
        for name, values in arrays.items():
            np.save(place / "set.000" / f"{name}.npy", values.reshape(len(members), -1).astype(np.float64))
        (place / "type_map.raw").write_text("".join(f"{SYMBOLS[z]}\n" for z in types), encoding="utf-8")
        rows = np.searchsorted(types, numbers)
        (place / "type.raw").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        places.append(place)
    return places


def force_weights(data: LabelledStructures) -> FloatArray:
    """Return the weight of each atom's force, shape (n_atoms,): the mean over its structure is one.

    Zero where the force does not count, else the number of atoms over that of those that count, so that a mean over all
    components is the mean over those that count.

    Args:
        data: The structures.
    """
    batch = data.structures
    counted = np.bincount(batch.structure_index, data.counted, minlength=data.n_structures)
    share = batch.counts / np.maximum(counted, 1)
    weights: FloatArray = np.where(data.counted, share[batch.structure_index], 0.0)
    return weights


def _right_handed(cell: FloatArray) -> FloatArray:
    """Return the same lattice vectors in an order of positive volume, which the package takes for granted."""
    return cell[[1, 0, 2]] if np.linalg.det(cell) < 0 else cell
