"""Derivatives of the energy by central differences, with their error.

The step is taken from a ladder: what central differences leave out falls with the square of the step, what rounding
adds grows with its inverse, and where both are small differs between models and precisions by orders of magnitude. At a
fixed step of 1e-3 Å a float32 model of 50 eV is wrong by 1e-2 eV/Å though its forces are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.typing import FloatArray

LADDER: Final = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Å, or strain."""
CLOSE: Final = 1e-6 * np.linspace(-4.0, 4.0, 9)
"""Å, of a line so short that what differs along it from a parabola is rounding."""
_SMOOTH: Final = 2
"""Degree of the polynomial that stands for the model along that line."""
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
    """Return the derivative of a function at zero, as `slopes` estimates it.

    Args:
        energy: Returns the function at a step, eV.
        noise: Rounding of the function, eV.
    """
    values, errors = slopes(np.array([[energy(step), energy(-step)] for step in LADDER])[..., None], noise)
    return Slope(float(values[0]), float(errors[0]))


def slopes(ends: FloatArray, noise: float) -> tuple[FloatArray, FloatArray]:
    """Return the derivatives of several functions at zero, and their errors, each of shape (n,).

    Of two steps h < H next to each other Richardson's extrapolation (Phil. Trans. R. Soc. A 210 (1911) 307) is
    ``(q² D(h) - D(H)) / (q² - 1)`` with ``q = H/h``, whose error is O(h⁴). Its error is estimated as the sum of
    rounding, ``noise / h``; of the difference to the extrapolation with the next larger steps (the largest have none,
    and are compared with ``D(h)``); and of the differences to extrapolations with smaller steps that their rounding
    does not explain, which are large where the function jumps nearby. The pair with the smallest error is taken. A
    function that is finite nowhere has NaN, and an error that is infinite.

    Args:
        ends: Shape (n_steps, 2, n), the functions a step of `LADDER` forwards and backwards.
        noise: Rounding of the functions.
    """
    steps = np.array(LADDER)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        central = (ends[:, 0] - ends[:, 1]) / (2 * steps)
        q = (steps[1:] / steps[:-1]) ** 2
        refined = (q * central[:-1] - central[1:]) / (q - 1)
        coarser = np.concatenate([refined[1:], central[len(refined) - 1 : len(refined)]])
        rounding = noise / steps[:-1]
        errors = rounding + np.abs(refined - coarser)
        for place in range(1, len(refined)):
            beyond = np.abs(refined[:place] - refined[place]) - _EXPLAINED * rounding[:place]
            errors[place] += np.maximum(beyond.max(axis=0), 0.0)
    errors = np.where(np.isfinite(errors), errors, np.inf)
    best = np.argmin(errors, axis=0)
    columns = np.arange(ends.shape[2])
    error = errors[best, columns]
    return np.where(np.isfinite(error), refined[best, columns], np.nan), error


def scatter(values: FloatArray) -> float:
    """Return how much of some values is rounding: the largest difference from parabolas along `CLOSE`.

    Args:
        values: Shape (n_points, n_values), at the points of `CLOSE`; zero is returned where one is not finite.
    """
    if not np.isfinite(values).all():
        return 0.0
    scaled = CLOSE / CLOSE.max()
    centred = values - values.mean(axis=0)
    fitted = np.polynomial.polynomial.polyfit(scaled, centred, _SMOOTH)
    return float(np.abs(centred - np.polynomial.polynomial.polyvander(scaled, _SMOOTH) @ fitted).max(initial=0.0))
