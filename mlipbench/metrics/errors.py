"""Errors of predicted energies, forces and stresses, and the S2EF metrics made of them.

`structure_errors` turns labels and predictions into one row of sums per structure, the definitions turn such rows into
metrics. A column is NaN where a structure has nothing to compare: its prediction failed, its label is missing, or the
caller set it so because the quantity does not apply. Such structures are left out of that metric alone.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.definition import MetricDefinition, shaped
from mlipbench.metrics.values import Direction, Kind, Quantity, Scale, StructureErrors, Transform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.metrics.values import Properties
    from mlipbench.typing import AnyArray, BoolArray, FloatArray, IntArray

ENERGY_THRESHOLD: Final = 0.02
"""eV, of `energy_forces_within_threshold`; fairchem `evaluator.py`, ``e_thresh``."""
FORCE_THRESHOLD: Final = 0.03
"""eV/Å, of `energy_forces_within_threshold`; fairchem `evaluator.py`, ``f_thresh``."""
COSINE_EPS: Final = 1e-8
"""eV/Å, smallest norm a force is divided by; default of ``torch.nn.functional.cosine_similarity``."""


@np.errstate(over="ignore", invalid="ignore")  # failed rows may hold anything; inf stays inf, and `evaluate` says so
def structure_errors(
    labels: Properties,
    predictions: Properties,
    offsets: AnyArray,
    free: BoolArray | None = None,
    ok: BoolArray | None = None,
) -> StructureErrors:
    """Sum the errors of each structure, in float64.

    A property that labels or predictions lack gives NaN columns, and so does a reference label that is NaN in what
    counts. Forces on atoms that are not free are never looked at.

    Args:
        labels: Reference values of n_structures structures.
        predictions: Predicted values of the same structures; rows of failed ones hold anything.
        offsets: Shape (n_structures + 1,); structure i has the atoms offsets[i] to offsets[i + 1].
        free: Shape (n_atoms,), True where forces count; None counts all (fairchem: ``fixed == 0``).
        ok: Shape (n_structures,), False where the prediction failed; None means that all succeeded.

    Returns:
        One row per structure, NaN where it failed.

    Raises:
        ValueError: If a shape does not fit, or a prediction marked as good is NaN or infinite where it counts.
    """
    offsets = _checked_offsets(offsets)
    n_structures, n_atoms = offsets.size - 1, int(offsets[-1])
    good = np.ones(n_structures, dtype=bool) if ok is None else shaped(ok, (n_structures,), "ok").astype(bool)
    energy = _pair(labels.energy, predictions.energy, (n_structures,), "energy")
    stress = _pair(labels.stress, predictions.stress, (n_structures, 6), "stress")
    forces = _pair(labels.forces, predictions.forces, (n_atoms, 3), "forces")
    offsets_free = offsets
    if free is not None:
        chosen = shaped(free, (n_atoms,), "free").astype(bool)
        offsets_free = np.concatenate(([0], np.cumsum(chosen)))[offsets]
        forces = None if forces is None else (forces[0][chosen], forces[1][chosen])
    energy_error = np.full(n_structures, np.nan)
    stress_abs_sum = np.full(n_structures, np.nan)
    if energy is not None:
        _require_finite(energy[1], good, "energy")
        energy_error[good] = (energy[1] - energy[0])[good]
    if stress is not None:
        _require_finite(stress[1], good, "stress")
        stress_abs_sum[good] = np.abs(stress[1] - stress[0]).sum(axis=1)[good]
    return StructureErrors(
        np.diff(offsets),
        np.diff(offsets_free),
        energy_error,
        *_force_columns(forces, offsets_free, good),
        stress_abs_sum=stress_abs_sum,
        stress_n=np.where(np.isnan(stress_abs_sum), 0, 6),
    )


def _checked_offsets(offsets: AnyArray) -> IntArray:
    """Return the offsets as int64 if they cut a list of atoms into structures."""
    checked = np.asarray(offsets).astype(np.int64)
    if checked.ndim != 1 or checked.size == 0 or checked[0] != 0 or np.any(np.diff(checked) < 0):
        msg = "offsets must be one-dimensional, start at 0 and never decrease"
        raise ValueError(msg)
    return checked


def _pair(
    label: AnyArray | None, prediction: AnyArray | None, shape: tuple[int, ...], name: str
) -> tuple[FloatArray, FloatArray] | None:
    """Return label and prediction in float64, or None where one is missing."""
    if label is None or prediction is None:
        return None
    return (
        shaped(label, shape, f"labels.{name}").astype(np.float64, copy=False),
        shaped(prediction, shape, f"predictions.{name}").astype(np.float64, copy=False),
    )


def _require_finite(prediction: FloatArray, good: BoolArray, name: str) -> None:
    """Refuse what is marked good and is not a number: it would drop out of the averages and flatter the model."""
    finite = np.isfinite(prediction)
    bad = np.flatnonzero(good & ~(finite if finite.ndim == 1 else finite.all(axis=1)))
    if bad.size:
        msg = f"{bad.size} predictions of {name} are not finite, first in structure {bad[0]}, but not marked as failed"
        raise ValueError(msg)


def _force_columns(
    forces: tuple[FloatArray, FloatArray] | None, offsets: IntArray, good: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return the five force columns; forces and offsets are of free atoms only."""
    if forces is None:
        missing = np.full(good.size, np.nan)
        return missing, missing, missing, missing, missing
    label, prediction = forces
    largest = _segments(np.maximum, np.abs(prediction).max(axis=1, initial=0.0), offsets, 0.0)
    _require_finite(largest, good, "forces")
    absolute = np.abs(prediction - label)
    magnitude, cosine = _magnitude_and_cosine(prediction, label)
    columns = (
        _segments(np.add, absolute.sum(axis=1), offsets, 0.0),
        _segments(np.add, np.square(absolute).sum(axis=1), offsets, 0.0),
        _segments(np.maximum, absolute.max(axis=1, initial=0.0), offsets, np.nan),
        _segments(np.add, cosine, offsets, 0.0),
        _segments(np.add, magnitude, offsets, 0.0),
    )
    for column in columns:
        column[~good] = np.nan
    return columns


def _magnitude_and_cosine(prediction: FloatArray, label: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return | |F_pred| - |F_ref| | and the cosine between both, each of shape (n_atoms,).

    The cosine follows the documentation of ``torch.nn.functional.cosine_similarity``, which fairchem calls: each norm
    is clamped from below on its own, x·y / (max(|x|, eps) max(|y|, eps)), not their product (as older PyTorch had it).
    A zero vector gives 0. fairchem computes it in float32; here it is float64.
    """
    norms = [np.hypot(np.hypot(force[:, 0], force[:, 1]), force[:, 2]) for force in (prediction, label)]
    scales = [np.maximum(norm, COSINE_EPS)[:, None] for norm in norms]
    cosine = np.clip(np.einsum("ij,ij->i", prediction / scales[0], label / scales[1]), -1.0, 1.0)
    return np.abs(norms[0] - norms[1]), cosine


def _segments(operation: np.ufunc, values: FloatArray, offsets: IntArray, empty: float) -> FloatArray:
    """Reduce values over each structure; `reduceat` would return a neighbour's value for an empty one."""
    reduced = np.full(offsets.size - 1, empty)
    filled = np.flatnonzero(np.diff(offsets))
    if filled.size:
        reduced[filled] = operation.reduceat(values, offsets[filled])
    return reduced


def _ones(columns: StructureErrors) -> FloatArray:
    """Count structures."""
    return np.ones(columns.n_atoms.shape)


def _free_atoms(columns: StructureErrors) -> FloatArray:
    """Count free atoms."""
    return columns.n_free.astype(np.float64)


def _free_components(columns: StructureErrors) -> FloatArray:
    """Count force components of free atoms."""
    return (3 * columns.n_free).astype(np.float64)


def _per_atom(columns: StructureErrors) -> FloatArray:
    """Return the energy error per atom, eV/atom; NaN for a structure without atoms."""
    n_atoms: FloatArray = np.where(columns.n_atoms > 0, columns.n_atoms, np.nan).astype(np.float64)
    return columns.energy_error / n_atoms


def _within_threshold(columns: StructureErrors) -> FloatArray:
    """Return 1 where energy and forces are within the thresholds, 0 where not, NaN where either is unknown."""
    energy, force = np.abs(columns.energy_error), columns.force_max
    within = (energy < ENERGY_THRESHOLD) & (force < FORCE_THRESHOLD)
    return np.where(np.isnan(energy) | np.isnan(force), np.nan, within)


def _adsorption(columns: StructureErrors) -> FloatArray:
    """Return |ΔE_ads|, NaN where the caller supplied none."""
    error = columns.adsorption_energy_error
    return np.full(columns.n_atoms.shape, np.nan) if error is None else np.abs(error)


def _relative(columns: StructureErrors) -> FloatArray:
    error = columns.relative_energy_error
    return np.full(columns.n_atoms.shape, np.nan) if error is None else np.abs(error)


_LOWER, _HIGHER = Direction.LOWER, Direction.HIGHER
_ENERGY, _FORCES = frozenset({Quantity.ENERGY}), frozenset({Quantity.FORCES})
_MEAN = Scale(Kind.POSITIVE)
_ROOT_MEAN = Scale(Kind.POSITIVE, Transform.SQRT)

_DEFINITIONS: Final[tuple[MetricDefinition[StructureErrors], ...]] = (
    MetricDefinition(
        "energy_mae", "eV", _LOWER, "Energy MAE",
        "mean over structures of |ΔE|; fairchem `mae`",
        lambda c: np.abs(c.energy_error), _ones, _MEAN, _ENERGY,
    ),
    MetricDefinition(
        "energy_rmse", "eV", _LOWER, "Energy RMSE",
        "root of the mean over structures of ΔE²; root of fairchem `mse`",
        lambda c: np.square(c.energy_error), _ones, _ROOT_MEAN, _ENERGY,
    ),
    MetricDefinition(
        "energy_per_atom_mae", "eV/atom", _LOWER, "Energy MAE per atom",
        "mean over structures of |ΔE| / number of all atoms; fairchem `per_atom_mae`, which counts free "
        "atoms where only these are evaluated",
        lambda c: np.abs(_per_atom(c)), _ones, _MEAN, _ENERGY,
    ),
    MetricDefinition(
        "energy_per_atom_rmse", "eV/atom", _LOWER, "Energy RMSE per atom",
        "root of the mean over structures of (ΔE / number of all atoms)²; root of fairchem `per_atom_mse`",
        lambda c: np.square(_per_atom(c)), _ones, _ROOT_MEAN, _ENERGY,
    ),
    MetricDefinition(
        "forces_mae", "eV/Å", _LOWER, "Force MAE",
        "mean over the components of free atoms of |ΔF|; fairchem `mae`",
        lambda c: c.force_abs_sum, _free_components, _MEAN, _FORCES,
    ),
    MetricDefinition(
        "forces_rmse", "eV/Å", _LOWER, "Force RMSE",
        "root of the mean over the components of free atoms of ΔF²; root of fairchem `mse`, while its `rmse` is a mean "
        "of vector norms",
        lambda c: c.force_sq_sum, _free_components, _ROOT_MEAN, _FORCES,
    ),
    MetricDefinition(
        "forces_cosine_similarity", "1", _HIGHER, "Force cosine",
        "mean over free atoms of the cosine between predicted and reference force, 0 for a zero vector; fairchem "
        "`cosine_similarity`",
        lambda c: c.force_cosine_sum, _free_atoms, Scale(Kind.BOUNDED), _FORCES,
    ),
    MetricDefinition(
        "forces_magnitude_error", "eV/Å", _LOWER, "Force magnitude error",
        "mean over free atoms of | |F_pred| - |F_ref| |; fairchem `magnitude_error`",
        lambda c: c.force_magnitude_sum, _free_atoms, _MEAN, _FORCES,
    ),
    MetricDefinition(
        "energy_forces_within_threshold", "1", _HIGHER, "EFwT",
        "share of structures with |ΔE| < 0.02 eV and max |ΔF| < 0.03 eV/Å over the components of free atoms; fairchem "
        "`energy_forces_within_threshold`; structures without free atoms are left out",
        _within_threshold, _ones, Scale(Kind.FRACTION), _ENERGY | _FORCES,
    ),
    MetricDefinition(
        "stress_mae", "eV/Å³", _LOWER, "Stress MAE",
        "mean over the six Voigt components of |Δσ|; not fairchem's, which counts off-diagonal components twice",
        lambda c: c.stress_abs_sum, lambda c: c.stress_n.astype(np.float64), _MEAN, frozenset({Quantity.STRESS}),
    ),
    MetricDefinition(
        "adsorption_energy_mae_self", "eV", _LOWER, "Adsorption energy MAE (own references)",
        "mean over structures of |ΔE_ads|, the model's adsorption energy formed from its own slab and gas energies",
        _adsorption, _ones, _MEAN, _ENERGY, own_references=True,
    ),
    MetricDefinition(
        "relative_energy_mae", "eV", _LOWER, "Energy MAE within clusters",
        "mean over structures of |ΔE - mean ΔE of the structures of the same cluster and composition|, such as frames "
        "of a relaxation; structures without another one are left out",
        _relative, _ones, _MEAN, _ENERGY | {Quantity.CLUSTERS},
    ),
)  # fmt: skip

S2EF_METRICS: Final[Mapping[str, MetricDefinition[StructureErrors]]] = MappingProxyType(
    {definition.name: definition for definition in _DEFINITIONS}
)
"""The metrics of the s2ef task by name, in the order of tables."""
