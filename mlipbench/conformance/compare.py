"""How far two predictions of one structure are apart, and how far they may be."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.result import Measured
from mlipbench.models.interface import Predictions, Property

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.structures import StructureBatch

UNITS: Final[Mapping[Property, str]] = MappingProxyType(
    {Property.ENERGY: "eV", Property.FORCES: "eV/Å", Property.STRESS: "eV/Å³"}
)


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far two predictions may differ: ``absolute + relative * largest magnitude``.

    Attributes:
        energy: eV per atom.
        energy_relative: Of the energy's magnitude.
        forces: eV/Å for forces; the same number in eV/Å³ serves stress.
        forces_relative: Of the largest component of that structure.
    """

    energy: float
    energy_relative: float
    forces: float
    forces_relative: float


# Sums in float32 over some 100 neighbours, in another order, differ by about 1e-5 relative; ten to a hundred times
# that is still far below the difference between two unlike structures, which is what the check has to see.
SUMMATION: Final[Mapping[str, Tolerances]] = MappingProxyType(
    {
        "float32": Tolerances(energy=1e-4, energy_relative=1e-5, forces=1e-3, forces_relative=1e-3),
        "float64": Tolerances(energy=1e-5, energy_relative=1e-7, forces=1e-4, forces_relative=1e-5),
    }
)
"""For one structure alone and in a batch."""
SYMMETRY: Final[Mapping[str, Tolerances]] = MappingProxyType(
    {
        "float32": SUMMATION["float32"],
        "float64": Tolerances(energy=1e-7, energy_relative=1e-9, forces=1e-6, forces_relative=1e-7),
    }
)
"""For structures that are the same but for how they are written down (nequip's tests: 1e-3 and 1e-8)."""


@dataclass(frozen=True, slots=True)
class Noise:
    """How much of a prediction is rounding.

    Attributes:
        energy: eV.
        forces: eV/Å.
        stress: eV/Å³.
    """

    energy: float = 0.0
    forces: float = 0.0
    stress: float = 0.0


NOISE_FACTOR: Final = 5.0
"""A difference counts where it is larger than so many times the noise."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference of one property of two predictions.

    Attributes:
        quantity: The property.
        measured: The difference, infinite where one of the two alone is finite, and what is allowed.
    """

    quantity: Property
    measured: Measured

    def describe(self) -> str:
        """Return what differs by how much."""
        if np.isinf(self.measured.value):
            return f"{self.quantity} is finite in one of the two only"
        return f"{self.quantity} by {self.measured.value:.3g} {self.measured.unit}"


def part(batch: StructureBatch, predictions: Predictions, index: int) -> Predictions:
    """Return what `predictions` of a batch say of one of its structures."""
    atoms = slice(batch.offsets[index], batch.offsets[index + 1])
    return Predictions(
        energy=predictions.energy[index : index + 1],
        forces=None if predictions.forces is None else predictions.forces[atoms],
        stress=None if predictions.stress is None else predictions.stress[index : index + 1],
    )


def widest_gap(
    one: Predictions, other: Predictions, n_atoms: int, tolerances: Tolerances, noise: Noise | None = None
) -> Gap | None:
    """Return the property in which two predictions of one structure differ most, relative to what is allowed.

    A property that one of the two lacks is left out; None where nothing is left. Values that are not finite in both do
    not differ.

    Args:
        one: Of one structure.
        other: Of the same structure; its magnitudes are what relative tolerances refer to.
        n_atoms: Atoms of the structure.
        tolerances: How far they may differ.
        noise: What of both is rounding; five times that is always allowed.
    """
    noise = noise or Noise()
    found = [
        _gap(name, one, other, tolerances, (getattr(noise, name), max(1, n_atoms)))
        for name in Property
        if getattr(one, name) is not None and getattr(other, name) is not None and getattr(one, name).size
    ]
    return max(found, key=lambda gap: gap.measured.ratio, default=None)


def _gap(name: Property, one: Predictions, other: Predictions, tolerances: Tolerances, scale: tuple[float, int]) -> Gap:
    noise, n_atoms = scale
    left, right = getattr(one, name), getattr(other, name)
    size = float(np.nanmax(np.abs(right), initial=0.0))
    if name is Property.ENERGY:
        allowed = tolerances.energy * n_atoms + tolerances.energy_relative * size
    else:
        allowed = tolerances.forces + tolerances.forces_relative * size
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return Gap(name, Measured(np.inf, allowed, UNITS[name]))
    value = float(np.nanmax(np.abs(left - right), initial=0.0))
    return Gap(name, Measured(value, max(allowed, NOISE_FACTOR * noise), UNITS[name]))
