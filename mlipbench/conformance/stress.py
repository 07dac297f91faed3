"""Which units and order the stress is in, told by how the energy follows strain."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.agreement import NONE_TAKEN
from mlipbench.conformance.compare import NOISE_FACTOR
from mlipbench.conformance.constants import stress_factor
from mlipbench.conformance.finite import slope
from mlipbench.conformance.result import Measured, failed, judged, not_applicable, not_supported, passed
from mlipbench.conformance.symmetry import VOIGT
from mlipbench.conformance.units import DIRECT, SCATTER, SIGNAL, common_factor
from mlipbench.models.interface import Property

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray

SLOPE: Final = 5e-3
"""How far the slope of the stress on dE/dε/V may be from one."""
LEAST: Final = 1e-5
"""eV/Å³, the stated tolerance of a component, beside `SLOPE` of the largest."""
_NORMAL: Final = 3
_NAMES: Final = ("xx", "yy", "zz", "yz", "xz", "xy")
_NO_STRESS: Final = "the card declares no stress"


@dataclass(frozen=True, slots=True, eq=False)
class Strained:
    """The stress of a crystal, told and by finite strain.

    Attributes:
        told: Shape (6,), what the model predicts, eV/Å³.
        measured: Shape (6,), dE/dε/V by central differences, eV/Å³.
        error: Shape (6,), of `measured`.
        volume: Å³.
    """

    told: FloatArray
    measured: FloatArray
    error: FloatArray
    volume: float

    @property
    def diagonal_factor(self) -> float:
        """The slope of what is told on what is measured, of xx, yy and zz, which most wrong orders leave in place."""
        told, measured = self.told[:_NORMAL], self.measured[:_NORMAL]
        return float(told @ measured / (measured @ measured))

    @property
    def uncertainty(self) -> float:
        """The relative error of xx, yy and zz; infinite where there is no stress."""
        size = float(np.linalg.norm(self.measured[:_NORMAL]))
        return float(np.linalg.norm(self.error[:_NORMAL])) / size if size > 0 else float("inf")


def stress_units(subject: Subject) -> CheckResult:
    """The regression slope of xx, yy and zz on the derivative of the energy by strain over the volume is one."""
    if Property.STRESS not in subject.capabilities.properties or not subject.conservative:
        return not_applicable("stress_units", _why_not(subject))
    if not subject.crystals:
        return not_supported("stress_units", NONE_TAKEN)
    found = [strained(subject, one) for one in subject.crystals]
    clear = [one for one in found if one.uncertainty * SIGNAL < 1]
    return _judge_slopes(clear) if clear else _without_strain(found)


def _judge_slopes(clear: Sequence[Strained]) -> CheckResult:
    """Return what the slopes of crystals say whose energies change under strain."""
    factors = np.array([one.diagonal_factor for one in clear])
    volumes = np.array([one.volume for one in clear])
    middle = float(np.median(factors))
    allowed = max(SLOPE, NOISE_FACTOR * max(one.uncertainty for one in clear))
    measured = Measured(float(np.abs(factors - 1).max()), allowed)
    if measured.within:
        return passed("stress_units", measured, f"slope {middle:.5f} over {len(clear)} crystals")
    if _alike(factors / volumes) and np.ptp(volumes) > SCATTER * volumes.max():
        problem, remedy = "the stress is the virial, not divided by the volume", "divide by the volume of the cell"
        unit = float(np.median(factors / volumes))
        if abs(unit - 1) > SCATTER:
            problem, remedy = f"{problem}; {stress_factor(unit).problem}", f"{remedy}, and {stress_factor(unit).remedy}"
    elif _alike(factors):
        factor = stress_factor(middle)
        problem, remedy = f"{factor.problem} (slope {middle:.5g})", factor.remedy
    else:
        return not_applicable("stress_units", "the stress does not follow the energy; see stress_components")
    return failed("stress_units", problem, remedy, measured)


def stress_components(subject: Subject) -> CheckResult:
    """The six components stand in the order xx yy zz yz xz xy, each the derivative by its strain, up to one factor."""
    if Property.STRESS not in subject.capabilities.properties or not subject.conservative:
        return not_applicable("stress_components", _why_not(subject))
    if not subject.crystals:
        return not_supported("stress_components", NONE_TAKEN)
    worst = Measured(0.0, 1.0, "eV/Å³")
    for one in (strained(subject, crystal) for crystal in subject.crystals):
        told = one.told / _factor(one)
        allowed = max(LEAST + SLOPE * float(np.abs(one.measured).max()), NOISE_FACTOR * float(one.error.max()))
        measured = Measured(float(np.abs(told - one.measured).max()), allowed, "eV/Å³")
        if not measured.within:
            return failed("stress_components", *_explain(told, one.measured, allowed), measured)
        worst = max(worst, measured, key=lambda found: found.ratio)
    return passed("stress_components", worst, f"six components of {len(subject.crystals)} crystals")


def strained(subject: Subject, crystal: StructureBatch) -> Strained:
    """Return the stress of a crystal, told and by finite strain."""
    stress = subject.predict(crystal).stress
    if stress is None:
        raise TypeError("the stress was not asked for")
    volume = float(abs(np.linalg.det(crystal.cell[0])))
    noise = subject.noise(crystal).energy
    slopes = []
    for a, b in VOIGT:
        unit = np.zeros((3, 3))
        unit[a, b] += 0.5
        unit[b, a] += 0.5
        slopes.append(slope(lambda step, unit=unit: subject.energy(_deformed(crystal, step * unit)), noise))  # type: ignore[misc]
        subject.alive()
    return Strained(
        stress[0],
        np.array([one.value for one in slopes]) / volume,
        np.array([one.error for one in slopes]) / volume,
        volume,
    )


def _deformed(crystal: StructureBatch, strain: FloatArray) -> StructureBatch:
    change = np.eye(3) + strain
    return replace(crystal, positions=crystal.positions @ change, cell=crystal.cell @ change)


def _why_not(subject: Subject) -> str:
    return _NO_STRESS if Property.STRESS not in subject.capabilities.properties else DIRECT


def _without_strain(found: Sequence[Strained]) -> CheckResult:
    """Return the outcome where no energy changes under strain, to within its error."""
    missed = max(float(np.abs(one.told - one.measured).max()) for one in found)
    error = max(float(one.error.max()) for one in found)
    return judged(
        "stress_units", Measured(missed, max(LEAST, NOISE_FACTOR * error), "eV/Å³"),
        "there is stress, although the energy does not change under strain",
        "return the energy and the stress of one forward pass of one structure",
        "no energy changes under strain by more than its rounding, and no stress is larger",
    )  # fmt: skip


def _alike(factors: FloatArray) -> bool:
    middle = float(np.median(factors))
    return bool(np.all(np.abs(factors - middle) <= SCATTER * abs(middle)))


def _factor(found: Strained) -> float:
    """Return the factor of xx, yy and zz; one where they are not all too large by the same."""
    if found.uncertainty * SIGNAL >= 1:
        return 1.0
    return common_factor(found.told[:_NORMAL], found.measured[:_NORMAL]) or 1.0


def _explain(told: FloatArray, measured: FloatArray, allowed: float) -> tuple[str, str]:
    """Return what six numbers are that are not the stress, and what would put them right."""
    for order in itertools.permutations(range(len(VOIGT))):
        for sign in (1, -1):
            if np.abs(told - sign * measured[list(order)]).max() <= allowed:
                names = " ".join(_NAMES[place] for place in order)
                minus = " with the wrong sign" if sign < 0 else ""
                return (f"the components stand in the order {names}, not {' '.join(_NAMES)}{minus}",
                        "put them into Voigt's order")  # fmt: skip
    for size, name in ((2.0, "twice"), (0.5, "half"), (0.0, "zero in place of")):
        if np.abs(told - measured * np.array([1, 1, 1, size, size, size])).max() <= allowed:
            return (f"yz, xz and xy are {name} what they should be",
                    "take the mean of the two off-diagonal elements of the tensor")  # fmt: skip
    return (
        "the stress is not the derivative of the energy by strain over the volume",
        "differentiate the energy by a symmetric strain of positions and cell together",
    )
