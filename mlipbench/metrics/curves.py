"""Whether an energy along one coordinate looks like one: a single well, a wall on one side, a slope on the other.

The measures are those of mlip-arena (``diatomics/analysis.py``) and ml-peg (``analyse_diatomics.py``), with their dead
zones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mlipbench.typing import FloatArray

ENERGY_DEAD_ZONE: Final = 1e-3
"""eV; smaller steps of the energy have no sign (mlip-arena)."""
FORCE_DEAD_ZONE: Final = 1e-2
"""eV/Å; smaller forces have no sign (mlip-arena)."""
CURVATURE_DEAD_ZONE: Final = 0.5
"""eV/Å²; smaller curvatures have no sign (ml-peg)."""
_LEAST: Final = 3


def sign_changes(values: FloatArray, dead_zone: float) -> int:
    """Return how often a series changes its sign, values within the dead zone left out.

    Args:
        values: Shape (n,).
        dead_zone: Magnitude below which a value has no sign.
    """
    signs = np.sign(values[np.abs(values) >= dead_zone])
    return int(np.count_nonzero(np.diff(signs)))


def count_minima(energy: FloatArray) -> int:
    """Return how many minima a curve has inside its range: from falling to rising, in steps beyond the dead zone.

    Args:
        energy: Shape (n,), eV.
    """
    steps = np.diff(energy)
    signs = np.sign(steps[np.abs(steps) >= ENERGY_DEAD_ZONE])
    return int(np.count_nonzero(np.diff(signs) > 0))


def count_inflections(distance: FloatArray, energy: FloatArray) -> int:
    """Return how often the curvature of a curve changes its sign beyond the dead zone.

    Args:
        distance: Shape (n,), Å, ascending.
        energy: Shape (n,), eV.
    """
    curvature = np.gradient(np.gradient(energy, distance), distance)
    return sign_changes(curvature, CURVATURE_DEAD_ZONE)


def tortuosity(energy: FloatArray) -> float:
    """Return the total variation of a curve over that of a curve with its ends and its minimum and no other; 1 at best.

    A curve that is flat has 1.

    Args:
        energy: Shape (n,), eV.
    """
    least = energy.min()
    direct = float(abs(energy[0] - least) + abs(energy[-1] - least))
    return float(np.abs(np.diff(energy)).sum()) / direct if direct > 0 else 1.0


def jump(energy: FloatArray) -> float:
    """Return the sum of the steps on both sides of each reversal of the energy but the one at its minimum, eV.

    As mlip-arena's energy jump, which counts the well itself too: steps within the dead zone are left out, and so is
    the reversal that every well has.

    Args:
        energy: Shape (n,), eV.
    """
    steps = np.diff(energy)
    steps = steps[np.abs(steps) >= ENERGY_DEAD_ZONE]
    turns = np.flatnonzero(np.diff(np.sign(steps)))
    sizes = np.abs(steps[turns]) + np.abs(steps[turns + 1])
    wells = np.flatnonzero(np.diff(np.sign(steps))[turns] > 0)
    if wells.size:
        sizes = np.delete(sizes, wells[np.argmin(sizes[wells])])
    return float(sizes.sum())


def branch_correlations(distance: FloatArray, energy: FloatArray) -> tuple[float, float]:
    """Return Spearman's correlation of energy and distance on this side of the minimum and beyond it: -1 and 1 at best.

    NaN for a side of fewer than three points or of one value.

    Args:
        distance: Shape (n,), Å, ascending.
        energy: Shape (n,), eV.
    """
    lowest = int(np.argmin(energy))
    near, far = slice(0, lowest + 1), slice(lowest, None)
    return _spearman(distance[near], energy[near]), _spearman(distance[far], energy[far])


def _spearman(x: FloatArray, y: FloatArray) -> float:
    if x.size < _LEAST or np.ptp(y) == 0:
        return float("nan")
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic)
