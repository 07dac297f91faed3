"""What a model predicts of some structures, to be compared with what another variant of it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.models.interface import Property
from mlipbench.tasks import TaskRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlipbench.execution.evaluate import Predictor
    from mlipbench.execution.outcome import BatchOutcome
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import BoolArray, FloatArray, IntArray

STEPS: Final[Mapping[str, float]] = MappingProxyType({"float64": 1e-4, "float32": 1e-2})
"""Å by which a structure is moved along a unit vector of all its coordinates, so that one of n atoms moves by the step
over √n. What central differences leave out falls with the square of the step, what rounding of the energy adds grows
with its inverse. Slabs of 13 atoms and a PaiNN with random weights, whose forces are gradients, give 4e-7 eV/Å in
float64, and in float32 1e-3 eV/Å, more with a step ten times shorter or five times longer."""
CONSERVING: Final = 4
"""Structures that conservation is looked at with."""
_REQUEST: Final = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}))


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Predictions of some structures.

    Attributes:
        energy: Shape (n_structures,), eV; NaN where there is none.
        forces: Shape (n_atoms, 3), eV/Å, likewise.
        ok: Shape (n_structures,), where there are predictions.
        counts: Shape (n_structures,), atoms.
        reason: Why the first structure without one has none, None where all have.
    """

    energy: FloatArray
    forces: FloatArray
    ok: BoolArray
    counts: IntArray
    reason: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two answers are apart.

    Attributes:
        energy: eV for each atom, the most of a structure.
        forces: eV/Å, the most of an atom: length of the difference of two vectors.
        n_structures: Structures compared.
    """

    energy: float
    forces: float
    n_structures: int


@dataclass(frozen=True, slots=True)
class Conservation:
    """How well forces are the gradient of the energy.

    Attributes:
        error: eV/Å; None where nothing was predicted.
        n_structures: Structures that entered.
        step: Å.
    """

    error: float | None
    n_structures: int
    step: float


def ask(predictor: Predictor, batches: Sequence[StructureBatch]) -> Answers:
    """Return what a model predicts of some batches, each in one call unless it has to be divided.

    Raises:
        MlipbenchError: The model cannot be had.
        TaskEnded: Too much failed.
    """
    outcomes: list[BatchOutcome] = []
    predictor.predict_batches(enumerate(batches), _REQUEST, lambda _, outcome: outcomes.append(outcome))
    reasons = [
        reason for outcome in outcomes for reason in [*outcome.reasons.values(), *outcome.not_applicable.values()]
    ]
    return Answers(
        energy=np.concatenate([outcome.columns[Property.ENERGY] for outcome in outcomes]),
        forces=np.concatenate([outcome.columns[Property.FORCES] for outcome in outcomes]),
        ok=np.concatenate([outcome.ok for outcome in outcomes]),
        counts=np.concatenate([batch.counts for batch in batches]),
        reason=next(iter(reasons), None),
    )


def difference(own: Answers, reference: Answers) -> Difference | str:
    """Return how far answers are from those of a reference to the same structures, or why that cannot be said.

    Structures that the reference does not predict are left out; that another predicts less than it is a difference
    that no number tells.
    """
    if not reference.ok.any():
        return f"it predicts nothing: {reference.reason}"
    lost = int(np.sum(reference.ok & ~own.ok))
    if lost:
        return f"{lost} structures that it predicts are not predicted: {own.reason}"
    atoms = np.repeat(reference.ok, reference.counts)
    energy = np.abs(own.energy - reference.energy)[reference.ok] / reference.counts[reference.ok]
    forces = np.linalg.norm((own.forces - reference.forces)[atoms], axis=1)
    return Difference(float(energy.max()), float(forces.max(initial=0.0)), int(reference.ok.sum()))


def conservation(predictor: Predictor, structures: StructureBatch, precision: str, seed: int) -> Conservation:
    """Return the root mean square of F·d + dE/dd over a few structures, evenly spaced among those given.

    d is a unit vector of the 3n coordinates of a structure of n atoms, drawn from the sphere, and dE/dd the central
    difference of two energies. It is zero where forces are the negative gradient of the energy. Where they have a head
    of their own it is about the root mean square of a component of F + ∇E, since d weighs all coordinates alike.

    Args:
        predictor: Keeps a worker with the model loaded.
        structures: Where from.
        precision: ``float32`` or ``float64``, which decides the step, one of `STEPS`.
        seed: Of the directions.

    Raises:
        MlipbenchError: The model cannot be had.
        TaskEnded: Too much failed.
    """
    step = STEPS[precision]
    places = np.unique(np.linspace(0, structures.n_structures - 1, CONSERVING).round().astype(np.int64))
    batches, directions = [], []
    for place in places.tolist():
        generator = np.random.Generator(np.random.PCG64([seed, place]))
        three = structures.select(np.full(3, place))
        drawn = generator.standard_normal((three.n_atoms // 3, 3))
        directions.append(drawn / np.linalg.norm(drawn))
        moves = [factor * step * directions[-1] for factor in (0.0, 1.0, -1.0)]
        batches.append(three.moved(three.positions + np.concatenate(moves)))
    answers = ask(predictor, batches)
    residuals, atom = [], 0
    for number, direction in enumerate(directions):
        forces, atom = answers.forces[atom : atom + len(direction)], atom + 3 * len(direction)
        _, ahead, behind = answers.energy[3 * number : 3 * number + 3]
        residuals.append(float(np.sum(forces * direction)) + (ahead - behind) / (2 * step))
    known = [residual for residual in residuals if np.isfinite(residual)]
    error = float(np.sqrt(np.mean(np.square(known)))) if known else None
    return Conservation(error, len(known), step)
