"""Which units forces are in, told by how they follow the energy, and whether they are its gradient at all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.agreement import NONE_TAKEN
from mlipbench.conformance.compare import NOISE_FACTOR
from mlipbench.conformance.constants import force_factor
from mlipbench.conformance.finite import Slope, slope
from mlipbench.conformance.result import Measured, failed, judged, not_applicable, not_supported, passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray

DIRECT: Final = "the card declares forces of their own (`forces: direct`), which need not be a gradient"
SLOPE: Final = 5e-3
"""How far the slope of forces on -dE/dx may be from one (nequip's relative tolerance for forces)."""
_DIRECTIONS: Final = 2
SCATTER: Final = 0.02
"""How far slopes of different structures may be apart to count as one factor."""
SIGNAL: Final = 20.0
"""A gradient counts where it is so many times its error."""
_LOOSE: Final = 0.2
"""The part of what is told that a derivative may leave for its factor to be taken out first."""
_LEAST: Final = {"float64": 1e-4, "float32": 2e-3}
"""eV/Å, the stated tolerance of a component of the gradient, beside `SLOPE` of the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class Along:
    """Forces and the gradient of the energy along some directions of one structure.

    Attributes:
        n_atoms: Atoms of the structure.
        forces: Shape (n,), eV/Å, along the directions.
        gradient: Shape (n,), eV/Å, -dE/dx by central differences.
        error: Shape (n,), eV/Å, of the gradient.
    """

    n_atoms: int
    forces: FloatArray
    gradient: FloatArray
    error: FloatArray

    @property
    def factor(self) -> float:
        """The regression slope of forces on the gradient, through zero."""
        return float(self.forces @ self.gradient / (self.gradient @ self.gradient))

    @property
    def scatter(self) -> float:
        """The part of the forces that the slope leaves, relative to all of them."""
        rest = np.linalg.norm(self.forces - self.factor * self.gradient)
        return float(rest / max(np.linalg.norm(self.forces), np.linalg.norm(self.gradient) * 1e-12))

    @property
    def signal(self) -> bool:
        """Whether the gradient is clear of its error."""
        return bool(np.linalg.norm(self.gradient) > SIGNAL * np.linalg.norm(self.error))

    @property
    def uncertainty(self) -> float:
        """The relative error of the slope."""
        return float(np.linalg.norm(self.error) / np.linalg.norm(self.gradient))


def force_units(subject: Subject) -> CheckResult:
    """The regression slope of forces on -dE/dx over thermal structures is one; other slopes name units and signs."""
    if not subject.conservative:
        return not_applicable("force_units", DIRECT)
    if not subject.structures:
        return not_supported("force_units", NONE_TAKEN)
    found = [along(subject, one) for one in subject.structures]
    clear = [one for one in found if one.signal]
    return _judge_slopes(clear) if clear else _without_gradient(found)


def _judge_slopes(clear: Sequence[Along]) -> CheckResult:
    """Return what the slopes of structures say whose gradients are clear of their errors."""
    factors = np.array([one.factor for one in clear])
    middle = float(np.median(factors))
    sizes = np.array([one.n_atoms for one in clear], dtype=np.float64)
    allowed = max(SLOPE, NOISE_FACTOR * float(np.median([one.uncertainty for one in clear])))
    measured = Measured(abs(middle - 1), allowed)
    if measured.within:
        return passed("force_units", measured, f"slope {middle:.5f} over {len(clear)} structures")
    if not np.any(factors):
        problem, remedy = "all forces are zero, although the energy depends on positions", "return the model's forces"
    elif _one_value(factors / sizes, 1.0) and np.ptp(sizes) > 0:
        problem = "the energy is per atom: forces are -dE/dx times the number of atoms"
        remedy = "multiply energies by the number of atoms of their structure"
    elif _one_value(factors, middle):
        factor = force_factor(middle)
        problem, remedy = f"{factor.problem} (slope {middle:.5g})", factor.remedy
    else:
        return not_applicable("force_units", "forces do not follow the energy; see force_gradient")
    return failed("force_units", problem, remedy, measured)


def force_gradient(subject: Subject) -> CheckResult:
    """Every component of the forces is the negative gradient of the energy, up to one factor of the structure."""
    if not subject.conservative:
        return not_applicable("force_gradient", DIRECT)
    structures = [*subject.molecules[-1:], *subject.crystals[:1]]
    if not structures:
        return not_supported("force_gradient", NONE_TAKEN)
    worst = Measured(0.0, 1.0, "eV/Å")
    for one in structures:
        forces = _forces(subject, one)
        gradient, error = gradient_of(subject, one)
        factor = common_factor(forces, gradient)
        missed = np.abs(forces / abs(factor) - np.sign(factor) * gradient) if factor else np.abs(forces)
        stated = _LEAST[subject.dtype] + SLOPE * float(np.abs(gradient).max())
        allowed = np.maximum(stated, NOISE_FACTOR * error)
        place = np.unravel_index(np.argmax(missed / allowed), missed.shape)
        measured = Measured(float(missed[place]), float(allowed[place]), "eV/Å")
        if not measured.within:
            problem, remedy = _explain(forces, gradient, stated)
            return failed("force_gradient", problem, remedy, measured)
        worst = max(worst, measured, key=lambda one: one.ratio)
    return passed("force_gradient", worst, f"all components of {len(structures)} structures")


def along(subject: Subject, structure: StructureBatch) -> Along:
    """Return forces and gradient along the forces themselves and along random directions, unit vectors all."""
    forces = _forces(subject, structure)
    drawn = np.random.default_rng(structure.n_atoms).standard_normal((_DIRECTIONS, *forces.shape))
    size = np.linalg.norm(forces)
    directions = [*drawn, forces] if np.isfinite(size) and size > 0 else list(drawn)
    directions = [one / np.linalg.norm(one) for one in directions]
    noise = subject.noise(structure).energy
    slopes = [_derivative(subject, structure, one, noise) for one in directions]
    return Along(
        structure.n_atoms,
        np.array([float(np.sum(forces * one)) for one in directions]),
        np.array([-one.value for one in slopes]),
        np.array([one.error for one in slopes]),
    )


def gradient_of(subject: Subject, structure: StructureBatch) -> tuple[FloatArray, FloatArray]:
    """Return -dE/dx of every coordinate and its error, each of shape (n_atoms, 3), eV/Å."""
    noise = subject.noise(structure).energy
    shape = structure.positions.shape
    found = []
    for unit in np.eye(structure.positions.size).reshape(-1, *shape):
        found.append(_derivative(subject, structure, unit, noise))
        subject.alive()
    values = np.array([-one.value for one in found]).reshape(shape)
    return values, np.array([one.error for one in found]).reshape(shape)


def _derivative(subject: Subject, structure: StructureBatch, direction: FloatArray, noise: float) -> Slope:
    return slope(lambda step: subject.energy(structure.moved(structure.positions + step * direction)), noise)


def _forces(subject: Subject, structure: StructureBatch) -> FloatArray:
    forces = subject.predict(structure).forces
    if forces is None:
        raise TypeError("forces were not asked for")
    return forces


def _without_gradient(found: Sequence[Along]) -> CheckResult:
    """Return the outcome where no gradient is clear of its error: forces may not be beyond it either."""
    missed = max(float(np.abs(one.forces - one.gradient).max()) for one in found)
    error = max(float(one.error.max()) for one in found)
    return judged(
        "force_units", Measured(missed, NOISE_FACTOR * error, "eV/Å"),
        "there are forces, although the energy does not change with the positions",
        "return the energy and the forces of one forward pass of one structure",
        "no energy changes with the positions by more than its rounding, and no force is larger",
    )  # fmt: skip


def _one_value(values: FloatArray, middle: float) -> bool:
    """Return whether nearly all of some numbers are one number; one that a discontinuity spoils may be out."""
    out = int(np.sum(np.abs(values - middle) > SCATTER * abs(middle)))
    return out <= len(values) // 4


def common_factor(told: FloatArray, true: FloatArray) -> float:
    """Return the slope of what a model tells on the derivative; one where that is nothing or does not tell it.

    Args:
        told: Forces or components of the stress, of any shape.
        true: The derivative that they should be, same shape.
    """
    squared = float(np.sum(true * true))
    if squared == 0 or not np.isfinite(squared):
        return 1.0
    factor = float(np.sum(told * true)) / squared
    rest = np.linalg.norm(told - factor * true)
    return factor if rest <= _LOOSE * np.linalg.norm(told) else 1.0


def _explain(forces: FloatArray, gradient: FloatArray, allowed: float) -> tuple[str, str]:
    """Return what forces are that are no multiple of the gradient, and what would put them right."""
    missed = np.abs(forces - gradient).max(axis=1) > allowed
    zero: BoolArray = np.asarray(~forces.any(axis=1))
    if zero.any() and np.array_equal(missed & zero, missed):
        return (
            f"the forces on {int(zero.sum())} of {len(zero)} atoms are zero, where the energy has a gradient",
            "return the forces of all atoms, without constraints or masks",
        )
    order = np.array([int(np.abs(gradient - row).max(axis=1).argmin()) for row in forces])
    if len(set(order.tolist())) == len(order) and np.abs(gradient[order] - forces).max() <= allowed:
        return (
            f"the forces stand in another order than the atoms ({', '.join(str(i) for i in order)})",
            "undo what sorts atoms, for instance by element, before forces are returned",
        )
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            if np.abs(forces - gradient[:, axes] * signs).max() <= allowed:
                return "the components of the forces are mixed up or have other signs", "look at axes and their order"
    spread = np.ptp(forces - gradient, axis=0).max()
    if spread <= allowed:
        return ("the same vector is missing from the forces on all atoms",
                "do not remove a net force that the energy has")  # fmt: skip
    return (
        "the forces are not the negative gradient of the energy",
        "declare `forces: direct` in the card, or differentiate the energy with all that depends on positions",
    )
