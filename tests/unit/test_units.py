"""Factors against ASE's tables and against numbers from handbooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ase.units
import pytest

from mlipbench.errors import ConfigError
from mlipbench.units import energy_factor, forces_factor, length_factor, stress_factor

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("eV", 1.0),
        ("meV", 0.001),
        ("kcal/mol", ase.units.kcal / ase.units.mol),
        ("kJ/mol", ase.units.kJ / ase.units.mol),
        ("Ha", ase.units.Hartree),
        ("Ry", ase.units.Rydberg),
    ],
)
def test_energy_factors_are_those_of_ase(unit: str, factor: float) -> None:
    assert energy_factor(unit) == pytest.approx(factor, rel=1e-7)  # ASE has CODATA 2014


def test_kcal_per_mol_is_the_handbook_s_number() -> None:
    assert energy_factor("kcal/mol") == pytest.approx(0.0433641, abs=5e-8)


@pytest.mark.parametrize(("unit", "factor"), [("A", 1.0), ("bohr", ase.units.Bohr), ("nm", 10.0)])
def test_length_factors_are_those_of_ase(unit: str, factor: float) -> None:
    assert length_factor(unit) == pytest.approx(factor, rel=1e-7)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("eV/A^3", 1.0), ("GPa", ase.units.GPa), ("kbar", 0.1 * ase.units.GPa)],
)
def test_stress_factors_are_those_of_ase(unit: str, factor: float) -> None:
    assert stress_factor(unit) == pytest.approx(factor, rel=1e-7)


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        ("eV/A", 1.0),
        ("kcal/mol/A", 0.0433641),
        ("Ha/bohr", 51.42207),
        ("meV/nm", 1e-4),
    ],
)
def test_forces_factor_divides_energy_by_length(unit: str, factor: float) -> None:
    assert forces_factor(unit) == pytest.approx(factor, rel=2e-6)


@pytest.mark.parametrize(
    ("factor", "unit"),
    [
        (energy_factor, "ev"),
        (energy_factor, ""),
        (length_factor, "pm"),
        (stress_factor, "Pa"),
        (forces_factor, "eV"),
        (forces_factor, "eV/"),
        (forces_factor, "kcal/A"),
        (forces_factor, "eV*A"),
    ],
)
def test_unknown_unit_is_named_with_the_known_ones(factor: Callable[[str], float], unit: str) -> None:
    with pytest.raises(ConfigError) as caught:
        factor(unit)
    assert (unit or "''") in str(caught.value)
    assert "known units: " in str(caught.value)
