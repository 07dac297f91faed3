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
STENCIL: Final = ((-2.0, 1.0 / 12.0), (-1.0, -8.0 / 12.0), (1.0, 8.0 / 12.0), (2.0, -1.0 / 12.0))
"""Places, in steps, and weights, over the step, of the central difference of fourth order."""
_EXPLAINED: Final = 3.0
"""A difference is explained by rounding up to so many times its estimate."""


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
    ``(q² D(h) - D(H)) / (q² - 1)`` with ``q = H/h``, whose error is O(h⁴). Its error is estimated as the sum of
    rounding, ``noise / h``; of the difference to the extrapolation with the next larger steps (the largest have none,
    and are compared with ``D(h)``); and of the differences to extrapolations with smaller steps that their rounding
    does not explain, which are large where the function jumps nearby. The pair with the smallest error is taken.

    Args:
        energy: Returns the function at a step, eV.
        noise: Rounding of the function, eV.
    """
    central = [(energy(step) - energy(-step)) / (2 * step) for step in LADDER]
    factors = [(large / small) ** 2 for small, large in itertools.pairwise(LADDER)]
    refined = [
        (q * small - large) / (q - 1) for q, (small, large) in zip(factors, itertools.pairwise(central), strict=True)
    ]
    coarser = [*refined[1:], central[len(refined) - 1]]
    rounding = [noise / step for step in LADDER[:-1]]
    found = []
    for place, (value, other) in enumerate(zip(refined, coarser, strict=True)):
        finer = zip(refined[:place], rounding[:place], strict=True)
        jump = max((abs(one - value) - _EXPLAINED * allowed for one, allowed in finer), default=0.0)
        found.append(Slope(value, rounding[place] + abs(value - other) + max(jump, 0.0)))
    known = [one for one in found if np.isfinite(one.error)]
    return min(known, key=lambda one: one.error) if known else Slope(float("nan"), float("inf"))
