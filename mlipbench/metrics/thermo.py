"""Conservation of energy, temperature, and how it is shared between elements.

Energies are in eV, times in ps, temperatures in K. Every atom has three degrees of freedom: MDSim's start does not take
out the motion of the centre of mass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.blocks import FEWEST, BlockEstimate, cut, series_mean, student, too_short

if TYPE_CHECKING:
    from mlipbench.typing import FloatArray, IntArray

BOLTZMANN: Final = 1.380649e-23 / 1.602176634e-19
"""eV/K, exact in SI."""
_MEV: Final = 1e3


@dataclass(frozen=True, slots=True)
class Conservation:
    """How well a run without a thermostat conserves energy.

    Attributes:
        drift: Slope of the total energy, meV/atom/ps.
        fluctuation: Root mean square deviation from the line, meV/atom.
    """

    drift: BlockEstimate
    fluctuation: float


@dataclass(frozen=True, slots=True)
class TemperatureDistribution:
    """What a thermostat made of the temperature.

    Attributes:
        mean: Mean temperature, K.
        deviation: Standard deviation, K.
        variance_ratio: Variance over that of the canonical ensemble: 1 where the thermostat samples it.
    """

    mean: BlockEstimate
    deviation: float
    variance_ratio: BlockEstimate


@dataclass(frozen=True, slots=True)
class ElementTemperature:
    """Kinetic temperature of the atoms of one element.

    Attributes:
        number: Atomic number.
        n_atoms: How many atoms.
        temperature: Mean, K.
        ratio: Mean over the target: 1 where all degrees of freedom have their share.
    """

    number: int
    n_atoms: int
    temperature: BlockEstimate
    ratio: BlockEstimate


def conservation(times: FloatArray, energies: FloatArray, n_atoms: int) -> Conservation:
    """Return drift and fluctuation of the total energy.

    The drift is the slope of the least-squares line through all frames. The errors of single frames resemble those of
    their neighbours, so that its interval comes from the same line through the means of blocks, which are taken as
    independent: Student's with two degrees of freedom less than blocks, wider by how far the two slopes differ, because
    the means of blocks of whole vibrations know nothing of these.

    Args:
        times: Shape (n_frames,), ps, equally far apart.
        energies: Shape (n_frames,), potential and kinetic energy, eV.
        n_atoms: Number of atoms.

    Raises:
        ValueError: Shapes do not fit, or there are fewer than three frames or no atom.
    """
    if times.shape != energies.shape or times.ndim != 1 or len(times) < FEWEST or n_atoms < 1:
        raise ValueError(f"no line through times {times.shape} and energies {energies.shape} of {n_atoms} atoms")
    scale = _MEV / n_atoms
    line = _Line.through(times, energies)
    value = line.slope * scale
    fluctuation = float(np.sqrt(np.square(line.residuals).mean())) * scale
    spans, means = cut(times), cut(energies)
    if spans is None or means is None:
        return Conservation(BlockEstimate(value, None, None, 0, too_short(len(times))), fluctuation)
    coarse = _Line.through(spans.mean(axis=1), means.mean(axis=1))
    half = (coarse.half_width + abs(coarse.slope - line.slope)) * scale
    return Conservation(BlockEstimate(value, value - half, value + half, len(means)), fluctuation)


def log_log_slope(steps: FloatArray, fluctuations: FloatArray) -> BlockEstimate:
    """Return the power with which something grows with the time step.

    The energy along a trajectory by velocity Verlet fluctuates by O(Δt²) if forces are the gradient of a smooth energy
    (Hairer, Lubich and Wanner, Acta Numerica 12 (2003) 399), so that the slope is 2; jumps in the energy, rounding and
    forces that are no gradient make it less.

    Args:
        steps: Shape (n,), time steps in any unit.
        fluctuations: Shape (n,), such as `Conservation.fluctuation` of runs of the same length.

    Returns:
        The slope of the logarithms, with Student's interval of a regression, `n_blocks` being the number of runs;
        without interval below three runs.

    Raises:
        ValueError: Shapes do not fit, a number is not positive, or there are not two different time steps.
    """
    if steps.shape != fluctuations.shape or not (np.all(steps > 0) and np.all(fluctuations > 0)):
        raise ValueError(f"no logarithms of {steps.tolist()} and {fluctuations.tolist()}")
    if len(np.unique(steps)) < 2:  # noqa: PLR2004 - a line needs two points
        raise ValueError(f"no slope over the time steps {steps.tolist()}")
    line = _Line.through(np.log(steps), np.log(fluctuations))
    n = len(steps)
    if n < FEWEST:
        return BlockEstimate(line.slope, None, None, n, f"{n} runs, an interval needs {FEWEST}")
    return BlockEstimate(line.slope, line.slope - line.half_width, line.slope + line.half_width, n)


def kinetic_energies(velocities: FloatArray, masses: FloatArray) -> FloatArray:
    """Return the kinetic energy of each atom, ``m v² / 2``.

    Args:
        velocities: Shape (..., n_atoms, 3), √(eV/u), the unit of ASE's velocities.
        masses: Shape (n_atoms,), u.

    Returns:
        Shape (..., n_atoms), eV.
    """
    energies: FloatArray = 0.5 * masses * np.square(velocities).sum(axis=-1)
    return energies


def temperatures(kinetic: FloatArray, n_atoms: int) -> FloatArray:
    """Return instantaneous temperatures, ``2 E / (3 N kB)``.

    Args:
        kinetic: Any shape, kinetic energies of the atoms together, eV.
        n_atoms: N.

    Returns:
        The same shape, K.
    """
    return kinetic / (1.5 * n_atoms * BOLTZMANN)


def temperature_distribution(series: FloatArray, n_atoms: int) -> TemperatureDistribution:
    """Summarise the temperature along a trajectory.

    In the canonical ensemble kinetic energy is Gamma distributed and the variance of the temperature ``2 T²/(3 N)``
    (Lebowitz, Percus and Verlet, Phys. Rev. 153 (1967) 250), here with the mean as T. A thermostat that rescales
    velocities makes it less.

    Args:
        series: Shape (n_frames,), K, by `temperatures`.
        n_atoms: N.

    Raises:
        ValueError: There is no frame, or the mean is not positive.
    """
    mean = series_mean(series)
    average = float(series.mean())
    if not average > 0:
        raise ValueError(f"the mean temperature is {average} K")
    squared = np.square(series - average)
    ratio = series_mean(squared / (2 * average**2 / (3 * n_atoms)))
    return TemperatureDistribution(mean, float(np.sqrt(squared.mean())), ratio)


def equipartition(kinetic: FloatArray, numbers: IntArray, target: float) -> tuple[ElementTemperature, ...]:
    """Return the temperature of each element, in order of atomic numbers.

    Args:
        kinetic: Shape (n_frames, n_atoms), eV, by `kinetic_energies`.
        numbers: Shape (n_atoms,), atomic numbers.
        target: Temperature of the thermostat, K.

    Raises:
        ValueError: Shapes do not fit, there is no frame, or the target is not positive.
    """
    if kinetic.shape[1:] != numbers.shape or not target > 0:
        raise ValueError(f"kinetic energies {kinetic.shape} of atoms {numbers.shape} at {target} K")
    found = []
    for number in np.unique(numbers):
        own = numbers == number
        n_atoms = int(own.sum())
        series = temperatures(kinetic[:, own].sum(axis=1), n_atoms)
        found.append(ElementTemperature(int(number), n_atoms, series_mean(series), series_mean(series / target)))
    return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A least-squares line through independent points.

    Attributes:
        slope: Its slope.
        residuals: Shape (n,), how far the points lie above it.
        spread: Σ (x - mean x)².
    """

    slope: float
    residuals: FloatArray
    spread: float

    @classmethod
    def through(cls, x: FloatArray, y: FloatArray) -> _Line:
        """Fit the line; around the means, so that large offsets of energies cost no digits."""
        along, across = x - x.mean(), y - y.mean()
        spread = float(along @ along)
        slope = float(along @ across) / spread
        return cls(slope, across - slope * along, spread)

    @property
    def half_width(self) -> float:
        """How far the interval of the slope reaches to either side, for three points and more."""
        freedom = len(self.residuals) - 2
        variance = float(self.residuals @ self.residuals) / freedom / self.spread
        return student(freedom) * float(np.sqrt(variance))
