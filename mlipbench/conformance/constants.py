"""Factors by which numbers are wrong where units are, and what each of them means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.units import ENERGY, LENGTH, STRESS

if TYPE_CHECKING:
    from collections.abc import Iterator

MATCH: Final = 0.01
"""Relative distance up to which a measured factor is taken for one of the table."""
_SIZES: Final = ((2.0, "twice"), (0.5, "half"))


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor and its meaning.

    Attributes:
        value: By what numbers are too large, with its sign.
        problem: What is wrong.
        remedy: What would put it right.
    """

    value: float
    problem: str
    remedy: str


def force_factor(value: float) -> Factor:
    """Return what it means that forces are `value` times the negative gradient of the energy."""
    return _nearest(value, list(_force_factors()), "the forces are {0:.6g} times the negative gradient of the energy")


def stress_factor(value: float) -> Factor:
    """Return what it means that the stress is `value` times the derivative of the energy by strain over the volume."""
    return _nearest(
        value, list(_stress_factors()), "the stress is {0:.6g} times the derivative of the energy over the volume"
    )


def _force_factors() -> Iterator[Factor]:
    for unit, size in ENERGY.items():
        if unit == "eV":
            continue
        yield Factor(1 / size, f"the forces are in {unit}/Å, the energy is in eV", f"multiply forces by {size:.8g}")
        yield Factor(size, f"the energy is in {unit}, the forces are in eV/Å", f"multiply energies by {size:.8g}")
    for length, size in LENGTH.items():
        if length == "A":
            continue
        name = {"bohr": "Bohr"}.get(length, length)
        yield Factor(size, f"the forces are in eV/{name}", f"divide forces by {size:.8g}")
        yield Factor(1 / size, f"forces were divided by {name} twice, or positions by it once",
                     f"multiply forces by {size:.8g}, or give positions in Å")  # fmt: skip
        for unit, energy in ENERGY.items():
            if unit != "eV":
                yield Factor(
                    size / energy, f"the forces are in {unit}/{name}, the energy is in eV",
                    f"multiply forces by {energy / size:.8g}",
                )  # fmt: skip
    for size, name in _SIZES:
        yield Factor(size, f"the forces are {name} the negative gradient of the energy",
                     "count every pair of atoms once, and energies and forces alike")  # fmt: skip


def _stress_factors() -> Iterator[Factor]:
    for unit, size in STRESS.items():
        if unit != "eV/A^3":
            yield Factor(1 / size, f"the stress is in {unit}", f"multiply the stress by {size:.8g}")
            yield Factor(size, f"the stress was converted from {unit} although it was in eV/Å³ already",
                         f"leave out the factor {size:.6g}")  # fmt: skip
    for size, name in _SIZES:
        yield Factor(size, f"the stress is {name} the derivative of the energy by strain over the volume",
                     "count every pair of atoms once, and energy and stress alike")  # fmt: skip


def _nearest(value: float, known: list[Factor], otherwise: str) -> Factor:
    """Return the factor of the table that is `value`, with the other sign too, else one that says the number."""
    if abs(value) < MATCH:
        known = [one for one in known if abs(one.value) > 0]
    best = min(known, key=lambda one: abs(abs(value) / one.value - 1))
    sign = " with the wrong sign" if value < 0 else ""
    minus = "change the sign, and " if value < 0 else ""
    if abs(abs(value) / best.value - 1) <= MATCH:
        return Factor(value, best.problem + sign, minus + best.remedy)
    if abs(value + 1) <= MATCH:
        return Factor(value, "the sign is wrong", "change the sign: forces are -dE/dx, stress is +dE/dε/V")
    return Factor(value, otherwise.format(value), f"divide by {value:.6g}, or correct the model's units")
