"""Units and digits that a reader can take in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.metrics.values import Kind
from mlipbench.units import energy_factor

if TYPE_CHECKING:
    from collections.abc import Sequence

_STORED: Final = "eV"
_MILLI: Final = 1e3
_MOST_DECIMALS: Final = 6
_LARGE: Final = 1e6


@dataclass(frozen=True, slots=True)
class DisplayUnit:
    """How the numbers of one metric are shown.

    Attributes:
        name: The unit as shown; empty for pure numbers.
        factor: What stored numbers are multiplied by.
        whole: Whether they are counts, shown with all their digits.
    """

    name: str
    factor: float = 1.0
    whole: bool = False


def display_units(
    unit: str, values: Sequence[float], wanted: Sequence[str] = (), *, kind: Kind = Kind.POSITIVE
) -> tuple[DisplayUnit, ...]:
    """Choose the units that numbers of one metric are shown in, at least one.

    Args:
        unit: The unit they are stored in.
        values: The numbers that will be shown.
        wanted: Units of energy that a suite asks for; they take the place of eV in `unit`.
        kind: Their range; shares are shown in percent.
    """
    if unit == "1":
        return (DisplayUnit("%", 100.0) if kind is Kind.FRACTION else DisplayUnit("", whole=kind is Kind.COUNT),)
    if (unit == _STORED or unit.startswith(f"{_STORED}/")) and wanted:
        rest = unit.removeprefix(_STORED)
        return tuple(DisplayUnit(f"{energy}{rest}", 1.0 / energy_factor(energy)) for energy in wanted)
    sizes = [abs(value) for value in values if value]
    if (unit == _STORED or unit.startswith(f"{_STORED}/")) and (not sizes or min(sizes) < 1.0):
        return (DisplayUnit(f"m{unit}", _MILLI),)
    return (DisplayUnit(unit),)


def format_number(value: float, low: float | None = None, high: float | None = None) -> str:
    """Return ``value [low, high]`` with as many digits as the interval supports.

    Half the width of the interval is given with two significant digits. Without an interval, or with one without width,
    the value has three.

    Args:
        value: The number, in the unit shown.
        low: Lower end of the interval, None where there is none.
        high: Upper end of the interval, None where there is none.
    """
    if low is None or high is None:
        return _fixed(value, _decimals(value, 3))
    half = (high - low) / 2
    decimals = _decimals(half, 2) if half > 0 else _decimals(value, 3)
    return f"{_fixed(value, decimals)} [{_fixed(low, decimals)}, {_fixed(high, decimals)}]"


def _decimals(size: float, digits: int) -> int:
    """Return how many decimals show `digits` significant digits of `size`."""
    if size == 0 or not math.isfinite(size):
        return 0
    return max(0, digits - 1 - math.floor(math.log10(abs(size))))


def _fixed(value: float, decimals: int) -> str:
    if abs(value) >= _LARGE or decimals > _MOST_DECIMALS:
        return f"{value:.3g}"
    return f"{value:.{decimals}f}"
