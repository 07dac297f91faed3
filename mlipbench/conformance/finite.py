"""Derivatives of the energy by central differences, with their error.

The step is taken from a ladder: what central differences leave out falls with the square of the step, what rounding
adds grows with its inverse, and where both are small differs between models and precisions by orders of magnitude. At a
fixed step of 1e-3 Å a float32 model of 50 eV is wrong by 1e-2 eV/Å though its forces are right.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

LADDER: Final = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Å, or strain."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A derivative by central differences.

    Attributes:
        value: The derivative.
        error: What is left out and what rounding adds, estimated.
    """

    value: float
    error: float


def slope(energy: Callable[[float], float], noise: float) -> Slope:
    """Return the derivative of a function at zero.

    Of two steps h < H next to each other Richardson's extrapolation (Phil. Trans. R. Soc. A 210 (1911) 307) is
    ``(q² D(h) - D(H)) / (q² - 1)`` with ``q = H/h``, whose error is O(h⁴). Its error is estimated as that of rounding,
    ``noise / h``, and the difference to the extrapolation with the next larger steps; the pair with the smallest is
    taken. The largest steps, which have no larger ones, are compared with ``D(h)``.

    Args:
        energy: Returns the function at a step, eV.
        noise: Rounding of the function, eV.
    """
    central = [(energy(step) - energy(-step)) / (2 * step) for step in LADDER]
    factors = [(large / small) ** 2 for small, large in itertools.pairwise(LADDER)]
    refined = [
        (q * small - large) / (q - 1) for q, small, large in zip(factors, central[:-1], central[1:], strict=True)
    ]
    coarser = [*refined[1:], central[len(refined) - 1]]
    found = [
        Slope(value, noise / step + abs(value - other))
        for value, other, step in zip(refined, coarser, LADDER[:-1], strict=True)
    ]
    known = [one for one in found if np.isfinite(one.error)]
    return min(known, key=lambda one: one.error) if known else Slope(float("nan"), float("inf"))
