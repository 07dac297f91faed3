"""Whether energy and forces are continuous as an atom moves past others.

A jump keeps its size however short the interval that holds it; what a smooth function changes by does not. So a scan is
refined where its fourth differences are largest, which fall with the fourth power of the spacing where a function is
smooth and not at all where it jumps, until a smooth function would not change any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.structures.kinds import Kind, kind_of, open_direction, widest_gap
from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray, IntArray
    from mlipbench.worker.physics.model import Answers, Model

_SPACING: Final = 0.1
"""Å between points of the scan."""
_PULLED: Final = 14.0
"""Å by which an atom is pulled away, further than any cutoff in use."""
_SHIFTED: Final = 2.0
"""Å by which an atom inside a crystal is moved to and fro."""
_INTERVALS: Final = 4
"""Intervals that are refined, for the energy and for the forces each."""
_PARTS: Final = 8
"""Parts that an interval is cut into, of which one is refined further."""
_LEVELS: Final = 4
"""After so many an interval of the scan is 2.4e-5 Å long."""
_REACH: Final = 2
"""Points beyond each end of a row that fourth differences need."""
_ASIDE: Final = 1e-2
"""Å between the points that a slope on one side of a jump is taken from."""
_ONE_SIDED: Final = np.array([-1.5, 2.0, -0.5])
"""Weights of f(0), f(h) and f(2h) in the derivative at 0, in units of 1/h; of second order."""


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """A straight way of one atom.

    Attributes:
        structure: A single structure.
        atom: Place of the atom.
        direction: Shape (3,), unit vector.
        length: Å.
    """

    structure: StructureBatch
    atom: int
    direction: FloatArray
    length: float

    def ask(self, model: Model, places: FloatArray) -> Answers:
        """Return what the model says at places along the way, shape (n,), Å."""
        positions = np.repeat(self.structure.positions[None], len(places), axis=0)
        positions[:, self.atom] += places[:, None] * self.direction
        return model.moved(self.structure, positions)


def probe_continuity(model: Model, structure: StructureBatch) -> dict[str, float]:
    """Return the largest jumps of energy, forces and the energy's slope as one atom moves.

    The outermost atom of a molecule or slab is pulled away, past the cutoff; in a crystal the first atom is moved
    between its neighbours, so that those of all shells cross cutoff and cap.
    """
    path = _path(structure)
    places = _SPACING * np.arange(-_REACH, round(path.length / _SPACING) + _REACH + 1, dtype=np.float64)
    scan = path.ask(model, places)
    inner = places[_REACH : -_REACH - 1]
    by_energy = _refined(model, path, inner[_worst(_bends(_values(scan, forces=False)))], forces=False)
    by_forces = _refined(model, path, inner[_worst(_bends(_values(scan, forces=True)))], forces=True)
    starts, width = np.concatenate([by_energy, by_forces]), _SPACING / _PARTS**_LEVELS
    around = path.ask(model, (starts + width * np.arange(-1, 3)[:, None]).ravel())
    energy_jumps = _beyond_smooth(_values(around, forces=False), len(starts))
    force_jumps = _beyond_smooth(_values(around, forces=True), len(starts))
    worst = {int(np.argmax(energy_jumps)), int(np.argmax(force_jumps))}
    slopes = _slope_jumps(model, path, starts[sorted(worst)], width)
    return {
        "cutoff_energy_jump": float(energy_jumps.max()),
        "cutoff_force_jump": float(force_jumps.max()),
        "cutoff_slope_jump": float(slopes.max()),
    }


def _path(structure: StructureBatch) -> _Path:
    positions = structure.positions
    kind = kind_of(structure)
    if kind is Kind.CRYSTAL:
        direction = np.random.default_rng(structure.n_atoms).standard_normal(3)
        return _Path(structure, 0, direction / np.linalg.norm(direction), _SHIFTED)
    if kind is Kind.SLAB:
        return _slab_path(structure)
    arms = positions - positions.mean(axis=0)
    atom = int(np.argmax(np.linalg.norm(arms, axis=1)))
    return _Path(structure, atom, arms[atom] / np.linalg.norm(arms[atom]), _PULLED)


def _slab_path(structure: StructureBatch) -> _Path:
    """Return the way of the atom at the edge of the gap into it, no nearer to the next image than half of the gap."""
    axis = open_direction(structure)
    normal = np.linalg.inv(completed_cell(structure.cell[0], structure.pbc[0]))[:, axis]
    direction = normal / np.linalg.norm(normal)
    if axis is None or not structure.pbc[0, axis]:
        return _Path(structure, int(np.argmax(structure.positions @ normal)), direction, _PULLED)
    gap = widest_gap(structure, axis)
    return _Path(structure, gap.below, direction, min(_PULLED, gap.width / 2))


def _values(answers: Answers, *, forces: bool) -> FloatArray:
    """Return forces or energies as rows of numbers, shape (n, n_values)."""
    return answers.forces.reshape(len(answers.energy), -1) if forces else answers.energy[:, None]


def _bends(values: FloatArray) -> FloatArray:
    """Return the least of the fourth differences at both ends of each interval, shape (n - 5,).

    Those at the ends of an interval that holds a jump are three times the jump. The first and last two intervals have
    none.

    Args:
        values: Shape (n, n_values), at equal distances.
    """
    fourth = np.abs(np.diff(values, 4, axis=0)).max(axis=1)
    bends: FloatArray = np.minimum(fourth[:-1], fourth[1:])
    return bends


def _worst(bends: FloatArray) -> IntArray:
    """Return the places of the largest, in order."""
    chosen: IntArray = np.sort(np.argsort(bends)[-_INTERVALS:])
    return chosen


def _refined(model: Model, path: _Path, starts: FloatArray, *, forces: bool) -> FloatArray:
    """Return the starts of the shortest intervals within which a scan bends most, shape (n,), Å.

    Args:
        model: The model.
        path: The way.
        starts: Shape (n,), Å, of intervals of the scan.
        forces: Whether it is forces that bend; else the energy.
    """
    width = _SPACING
    for _ in range(_LEVELS):
        width /= _PARTS
        grid = starts[:, None] + width * np.arange(-_REACH, _PARTS + _REACH + 1)
        values = _values(path.ask(model, grid.ravel()), forces=forces).reshape(*grid.shape, -1)
        starts = starts + width * np.array([np.argmax(_bends(row)) for row in values])
    return starts


def _beyond_smooth(values: FloatArray, n_intervals: int) -> FloatArray:
    """Return the largest change in each interval that the mean change in its two neighbours does not explain.

    Args:
        values: Shape (4 n_intervals, n_values), a width before the intervals, at their starts and ends, and a width
            behind them.
        n_intervals: Number of intervals.
    """
    before, within, behind = np.diff(values.reshape(4, n_intervals, -1), axis=0)
    jumps: FloatArray = np.abs(within - (before + behind) / 2).max(axis=1)
    return jumps


def _slope_jumps(model: Model, path: _Path, starts: FloatArray, width: float) -> FloatArray:
    """Return by how much the energy's slopes on both sides of jumps differ at least, shape (n,), eV/Å.

    Each slope is taken with two steps; what these differ by is taken from the difference of the slopes.
    """
    offsets = _ASIDE * np.array([0.0, 0.5, 1.0, 2.0])
    places = [starts[:, None] - offsets, starts[:, None] + width + offsets]
    energy = path.ask(model, np.concatenate(places).ravel()).energy.reshape(2, len(starts), 4)
    fine, coarse = energy[..., :3] @ _ONE_SIDED / (_ASIDE / 2), energy[..., [0, 2, 3]] @ _ONE_SIDED / _ASIDE
    certain = np.abs(fine.sum(axis=0)) - np.abs(fine - coarse).sum(axis=0)
    differences: FloatArray = np.maximum(certain, 0.0)
    return differences
