"""Units at the file boundary; inside mlipbench everything is eV, Å and what follows from them.

The constants are the exact SI values and the CODATA 2018 values of the atomic units.
"""

from __future__ import annotations

from types import MappingProxyType

from mlipbench.errors import ConfigError

_ELEMENTARY_CHARGE = 1.602176634e-19  # C, exact
_AVOGADRO = 6.02214076e23  # 1/mol, exact
_EV_PER_KJ_MOL = 1e3 / (_AVOGADRO * _ELEMENTARY_CHARGE)
_HARTREE = 27.211386245988  # eV, CODATA 2018
_BOHR = 0.529177210903  # Å, CODATA 2018

ENERGY = MappingProxyType(
    {
        "eV": 1.0,
        "meV": 1e-3,
        "kcal/mol": 4.184 * _EV_PER_KJ_MOL,
        "kJ/mol": _EV_PER_KJ_MOL,
        "Ha": _HARTREE,
        "Ry": _HARTREE / 2,
    }
)
LENGTH = MappingProxyType({"A": 1.0, "bohr": _BOHR, "nm": 10.0})
_PASCAL = 1e-30 / _ELEMENTARY_CHARGE  # eV/Å³
STRESS = MappingProxyType({"eV/A^3": 1.0, "GPa": 1e9 * _PASCAL, "kbar": 1e8 * _PASCAL})


def energy_factor(unit: str) -> float:
    """Return what a value in `unit` is multiplied by to give eV.

    Raises:
        ConfigError: The unit is not known.
    """
    return _factor(ENERGY, unit, "energy")


def length_factor(unit: str) -> float:
    """Return what a value in `unit` is multiplied by to give Å.

    Raises:
        ConfigError: The unit is not known.
    """
    return _factor(LENGTH, unit, "length")


def forces_factor(unit: str) -> float:
    """Return what a value in `unit`, such as ``kcal/mol/A``, is multiplied by to give eV/Å.

    Raises:
        ConfigError: The unit is not an energy over a length, both known.
    """
    energy, _, length = unit.rpartition("/")
    return _factor(ENERGY, energy, "forces", unit) / _factor(LENGTH, length, "forces", unit)


def stress_factor(unit: str) -> float:
    """Return what a value in `unit` is multiplied by to give eV/Å³.

    Raises:
        ConfigError: The unit is not known.
    """
    return _factor(STRESS, unit, "stress")


def _factor(table: MappingProxyType[str, float], unit: str, quantity: str, shown: str | None = None) -> float:
    if unit not in table:
        known = ", ".join(table)
        raise ConfigError(f"unknown {quantity} unit {shown or unit!r}", remedy=f"known units: {known}")
    return table[unit]
