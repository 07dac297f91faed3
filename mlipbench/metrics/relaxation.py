"""Errors of relaxed structures and their energies, and the metrics made of them: those of IS2RE and IS2RS.

As in `mlipbench.metrics.errors`, a column is NaN where a structure has nothing to compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.definition import MetricDefinition
from mlipbench.metrics.errors import ENERGY_THRESHOLD
from mlipbench.metrics.values import Direction, Kind, Quantity, Scale
from mlipbench.structures.neighbors import completed_cell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray, IntArray

DISTANCE_THRESHOLDS: Final = tuple(np.arange(0.01, 0.5, 0.001).tolist())
"""Å, the 490 thresholds of `average_distance_within_threshold`; fairchem `evaluator.py`."""
_SURFACE, _ADSORBATE = 1, 2  # OC20's tags


@dataclass(frozen=True, slots=True, eq=False)
class RelaxationErrors:
    """What became of each relaxation; every array has shape (n_structures,), NaN where there is nothing to compare.

    Attributes:
        n_atoms: Number of atoms.
        n_free: Number of atoms that may move.
        energy_error: Predicted minus reference energy of the relaxed structure, eV.
        displacement_mean: Mean distance of free atoms from their reference places, Å.
        displacement_abs_sum: Σ|Δr| over the components of free atoms, Å.
        steps: Steps taken.
        converged: 1 where the forces fell below the limit, 0 where the steps ran out.
        adsorbate_height: Height of the adsorbate above the surface in the end, Å.
    """

    n_atoms: IntArray
    n_free: IntArray
    energy_error: FloatArray
    displacement_mean: FloatArray
    displacement_abs_sum: FloatArray
    steps: FloatArray
    converged: FloatArray
    adsorbate_height: FloatArray


def displacements(structures: StructureBatch, positions: FloatArray, reference: FloatArray) -> FloatArray:
    """Return from where each atom is displaced to where, by the nearest images along the periodic lattice vectors.

    The difference in scaled coordinates is brought to -0.5 ... 0.5 along periodic vectors, as fairchem does
    (`evaluator.py`, ``min_diff``). For displacements that reach half a cell of skew shape, a nearer image can exist.

    Args:
        structures: The structures, of which cells and periodicity count.
        positions: Shape (n_atoms, 3), Å.
        reference: Shape (n_atoms, 3), Å.

    Returns:
        Shape (n_atoms, 3), `positions` minus `reference`, Å.
    """
    cell = np.array(structures.cell)
    for i in np.flatnonzero(~structures.pbc.all(axis=1)):
        cell[i] = completed_cell(cell[i], structures.pbc[i])
    owner = structures.structure_index
    scaled = np.einsum("ni,nij->nj", positions - reference, np.linalg.inv(cell)[owner])
    scaled -= np.where(structures.pbc[owner], np.rint(scaled), 0.0)
    nearest: FloatArray = np.einsum("ni,nij->nj", scaled, cell[owner])
    return nearest


def displacement_sums(
    displaced: FloatArray, free: BoolArray, owner: IntArray, n_structures: int
) -> tuple[FloatArray, FloatArray]:
    """Return the mean length of the displacements of free atoms, and the sum of their absolute components.

    Args:
        displaced: Shape (n_atoms, 3), Å.
        free: Shape (n_atoms,), which atoms may move.
        owner: Shape (n_atoms,), the structure of each atom.
        n_structures: Number of structures.

    Returns:
        Two arrays of shape (n_structures,), Å; NaN for a structure without free atoms.
    """
    owner, displaced = owner[free], displaced[free]
    count = np.bincount(owner, minlength=n_structures)
    lengths = np.bincount(owner, np.linalg.norm(displaced, axis=1), minlength=n_structures)
    absolute = np.bincount(owner, np.abs(displaced).sum(axis=1), minlength=n_structures)
    mean = np.divide(lengths, count, out=np.full(n_structures, np.nan), where=count > 0)
    return mean, np.where(count > 0, absolute, np.nan)


def adsorbate_heights(structures: StructureBatch, positions: FloatArray) -> FloatArray:
    """Return how high the lowest adsorbate atom is above the mean of the surface atoms.

    Heights are measured along the normal of the first two lattice vectors, from the positions as they are. Which atoms
    are which say the tags: 1 surface, 2 adsorbate.

    Args:
        structures: The structures, of which cells and tags count.
        positions: Shape (n_atoms, 3), Å.

    Returns:
        Shape (n_structures,), Å; NaN where there are no such atoms or no such plane.
    """
    n = structures.n_structures
    if structures.tags is None:
        return np.full(n, np.nan)
    normal = np.cross(structures.cell[:, 0], structures.cell[:, 1])
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    normal = np.divide(normal, area, out=np.full((n, 3), np.nan), where=area > 0)
    owner = structures.structure_index
    height = np.einsum("ni,ni->n", positions, normal[owner])
    surface, adsorbate = structures.tags == _SURFACE, structures.tags == _ADSORBATE
    count = np.bincount(owner[surface], minlength=n)
    total = np.bincount(owner[surface], height[surface], minlength=n)
    mean = np.divide(total, count, out=np.full(n, np.nan), where=count > 0)
    lowest = np.full(n, np.nan)
    np.fmin.at(lowest, owner[adsorbate], height[adsorbate])
    found: FloatArray = lowest - mean
    return found


def _ones(columns: RelaxationErrors) -> FloatArray:
    """Count structures."""
    return np.ones(columns.n_atoms.shape)


def _within_energy(columns: RelaxationErrors) -> FloatArray:
    """Return 1 where the energy is within the threshold, 0 where not, NaN where it is unknown."""
    error = np.abs(columns.energy_error)
    return np.where(np.isnan(error), np.nan, error < ENERGY_THRESHOLD)


def _thresholds_kept(columns: RelaxationErrors) -> FloatArray:
    """Return the share of the thresholds that the mean displacement is below, NaN where it is unknown.

    Its mean over structures is the mean over thresholds of the share of structures.
    """
    distance = columns.displacement_mean
    size = len(DISTANCE_THRESHOLDS)
    above = size - np.searchsorted(DISTANCE_THRESHOLDS, distance, side="right")
    return np.where(np.isnan(distance), np.nan, above / size)


_LOWER, _HIGHER = Direction.LOWER, Direction.HIGHER
_MEAN, _SHARE = Scale(Kind.POSITIVE), Scale(Kind.FRACTION)
_ENERGY, _POSITIONS = frozenset({Quantity.RELAXED_ENERGY}), frozenset({Quantity.RELAXED_POSITIONS})

_DEFINITIONS: Final[tuple[MetricDefinition[RelaxationErrors], ...]] = (
    MetricDefinition(
        "energy_mae", "eV", _LOWER, "Relaxed energy MAE",
        "mean over structures of |ΔE| of the relaxed structures; IS2RE, fairchem `mae`",
        lambda c: np.abs(c.energy_error), _ones, _MEAN, _ENERGY,
    ),
    MetricDefinition(
        "energy_mse", "eV²", _LOWER, "Relaxed energy MSE",
        "mean over structures of ΔE² of the relaxed structures; IS2RE, fairchem `mse`",
        lambda c: np.square(c.energy_error), _ones, _MEAN, _ENERGY,
    ),
    MetricDefinition(
        "energy_within_threshold", "1", _HIGHER, "EwT",
        "share of structures with |ΔE| < 0.02 eV when relaxed; IS2RE, fairchem `energy_within_threshold`",
        _within_energy, _ones, _SHARE, _ENERGY,
    ),
    MetricDefinition(
        "average_distance_within_threshold", "1", _HIGHER, "ADwT",
        "mean over the 490 thresholds 0.010, 0.011 ... 0.499 Å of the share of structures whose free atoms are on "
        "average nearer to their reference places, by nearest images; IS2RS, fairchem "
        "`average_distance_within_threshold`; structures without free atoms are left out",
        _thresholds_kept, _ones, _SHARE, _POSITIONS,
    ),
    MetricDefinition(
        "positions_mae", "Å", _LOWER, "Position MAE",
        "mean over the components of free atoms of |Δr|; IS2RS, fairchem `mae`, which takes no nearest image",
        lambda c: c.displacement_abs_sum, lambda c: (3 * c.n_free).astype(np.float64), _MEAN, _POSITIONS,
    ),
    MetricDefinition(
        "converged", "1", _HIGHER, "Converged",
        "share of structures whose largest force on a free atom fell below `fmax` within `steps` steps",
        lambda c: c.converged, _ones, _SHARE,
    ),
    MetricDefinition(
        "steps", "1", _LOWER, "Steps",
        "mean over structures of the steps taken, those that did not converge included",
        lambda c: c.steps, _ones, _MEAN,
    ),
    MetricDefinition(
        "adsorbate_height", "Å", Direction.NEITHER, "Adsorbate height",
        "mean over structures of the height of the lowest adsorbate atom (tag 2) above the mean of the surface atoms "
        "(tag 1) when relaxed, along the normal of the first two lattice vectors",
        lambda c: c.adsorbate_height, _ones, Scale(Kind.REAL), frozenset({Quantity.TAGS}),
    ),
)  # fmt: skip

RELAXATION_METRICS: Final[Mapping[str, MetricDefinition[RelaxationErrors]]] = MappingProxyType(
    {definition.name: definition for definition in _DEFINITIONS}
)
"""The metrics of the relaxation task by name, in the order of tables."""
