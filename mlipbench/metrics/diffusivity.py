"""Self-diffusivity from the mean squared displacement of atoms, in 1e-9 m²/s.

Frames must be in order of time and equally far apart. MDSim's estimator (Fu et al., TMLR 2023;
https://github.com/kyonofx/MDsim, ``observable.ipynb``) stands beside one without its defects: it divides by one start
too few at each lag, subtracts the mean of the atoms that are looked at, and has no interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.blocks import FEWEST, BlockEstimate, student

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.metrics.pairs import Lattice
    from mlipbench.typing import AnyArray, FloatArray

UNIT: Final = 10.0
"""1e-9 m²/s in one Å²/ps."""
BLOCK_LAGS: Final = 2
"""Length of a block in longest lags."""


@dataclass(frozen=True, slots=True)
class Lags:
    """The lags that a mean squared displacement is fitted over.

    Attributes:
        first: Shortest lag, frames.
        last: Longest lag, frames, included; if it is the first, the line goes through the origin.
        interval: ps between frames.

    Raises:
        ValueError: A lag is not positive, they are out of order, or the interval is not positive and finite.
    """

    first: int
    last: int
    interval: float

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        if not (1 <= self.first <= self.last and 0 < self.interval < np.inf):
            raise ValueError(f"lags of {self.first} to {self.last} frames, {self.interval} ps apart, cannot be fitted")


def unwrap(positions: AnyArray, lattice: Lattice) -> FloatArray:
    """Follow atoms across the boundaries, from frame to frame by the nearest image.

    Args:
        positions: Shape (n_frames, n_atoms, 3), Å, wrapped or not.
        lattice: The cell of all frames.

    Returns:
        Shape (n_frames, n_atoms, 3), Å; the first frame is as it was.

    Raises:
        ValueError: A step reaches half the shortest lattice vector, so that the way of the atom cannot be told.
    """
    positions = np.asarray(positions, dtype=np.float64)
    direct = np.diff(positions, axis=0)
    nearest = lattice.nearest(direct)
    lengths = np.linalg.norm(nearest, axis=2)
    lost = np.argwhere(~(lengths < lattice.unmistakable))
    if lost.size:
        frame, atom = lost[0]
        raise ValueError(
            f"atom {atom} moves {lengths[frame, atom]:.3g} Å or more from frame {frame} to {frame + 1}; from half the "
            f"shortest lattice vector, {lattice.unmistakable:.3g} Å, its way cannot be told; store more frames"
        )
    crossed = np.rint((nearest - direct) @ lattice.inverse).cumsum(axis=0)  # whole numbers: no rounding adds up
    return np.concatenate([positions[:1], positions[1:] + crossed @ lattice.cell])


def without_drift(positions: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Return positions relative to the centre of each frame.

    MDSim subtracts the plain mean of the atoms whose diffusivity is asked for, which takes (1 - 1/N) off that of N
    independent atoms. The centre of mass of the whole system does not.

    Args:
        positions: Shape (n_frames, n_atoms, 3), Å, unwrapped.
        weights: Shape (n_atoms,), masses in any unit; None for a plain mean.
    """
    centre: FloatArray = np.average(positions, axis=1, weights=weights)
    return positions - centre[:, None]


def mean_squared_displacement(positions: FloatArray, lag: int) -> float:
    """Return the mean of |r(s + lag) - r(s)|² over atoms and all T - lag starts s.

    Args:
        positions: Shape (T, n_atoms, 3), Å, unwrapped.
        lag: Frames, from 0 to T - 1.

    Returns:
        Å².

    Raises:
        ValueError: No two frames are that far apart, or there is no atom.
    """
    if not (0 <= lag < len(positions) and positions.shape[1]):
        raise ValueError(
            f"{positions.shape[1]} atoms in {len(positions)} frames have no displacement over {lag} frames"
        )
    moved = positions[lag:] - positions[: len(positions) - lag]
    return float(np.vdot(moved, moved) / (moved.shape[0] * moved.shape[1]))


def mdsim_diffusivity(positions: FloatArray, frames: slice, index: int, interval: float) -> float | None:
    """Return the diffusivity as MDSim estimates it.

    ``D = Σ_s <|y(s + k) - y(s)|²> / (6 k) / (T - 1 - k)`` with the lag k = index + 1, y relative to the plain mean of
    the atoms in each of T frames, and T - k starts s: one more than it divides by. LiPS: the Li atoms, frames
    ``[400:collapse:4]`` of 0.0125 ps, index 700, only if the collapse comes after frame 3200. Water: the O atoms,
    frames ``[:collapse:10]`` of 0.1 ps, index 99, only if the collapse does not come before frame 1000.

    Args:
        positions: Shape (n_frames, n_atoms, 3), Å, unwrapped, of the atoms that are looked at.
        frames: The frames that are looked at, T of them.
        index: Place in MDSim's array of diffusivities, from 0.
        interval: ps from one frame of `positions` to the next.

    Returns:
        1e-9 m²/s; None where T - 1 - k is not positive. (There MDSim's array is infinite, or ends before the index:
        LiPS runs that collapse at frames 3201 to 3208 pass its gate and have no value.)

    Raises:
        ValueError: The index is negative, the interval not positive, or there is no atom.
    """
    if index < 0 or not interval > 0:
        raise ValueError(f"no diffusivity at index {index} of frames {interval} ps apart")
    chosen, lag = positions[frames], index + 1
    starts = len(chosen) - lag
    if starts < 2:  # noqa: PLR2004 - T - 1 - k of at least 1
        return None
    squared = mean_squared_displacement(without_drift(chosen), lag)
    return UNIT * squared * starts / (starts - 1) / (6 * lag * interval * (frames.step or 1))


@dataclass(frozen=True, slots=True)
class Diffusion:
    """What one trajectory says of the diffusivity, as a whole and in blocks of equal length.

    Attributes:
        value: 1e-9 m²/s, from all starts.
        n_blocks: Blocks that the trajectory is cut into, as many of `BLOCK_LAGS` longest lags as it holds, 1 at least.
        mean: 1e-9 m²/s, mean of the blocks' diffusivities.
        spread: 1e-9 m²/s, root of their mean squared deviation from that.
    """

    value: float
    n_blocks: int
    mean: float
    spread: float


def diffusion(positions: FloatArray, lags: Lags) -> Diffusion | None:
    """Return the diffusivity of one trajectory from the slope of its mean squared displacement.

    ``D = slope / 6`` of the least-squares line through the mean squared displacements at all lags of the range. With
    one lag alone, ``D = MSD / (6 t)``: MDSim's choice with the right number of starts.

    Args:
        positions: Shape (n_frames, n_atoms, 3), Å, unwrapped and without drift.
        lags: The lags.

    Returns:
        None where the trajectory is not longer than the longest lag.
    """
    if len(positions) <= lags.last:
        return None
    n_blocks = max(1, len(positions) // (BLOCK_LAGS * lags.last))
    length = len(positions) // n_blocks
    blocks = [_slope(positions[number * length : (number + 1) * length], lags) for number in range(n_blocks)]
    return Diffusion(_slope(positions, lags), n_blocks, float(np.mean(blocks)), float(np.std(blocks)))


def pooled(replicas: Sequence[Diffusion]) -> BlockEstimate:
    """Return the diffusivity of several trajectories of the same system, with a 95 % interval over all their blocks.

    Trajectories count by their blocks. Blocks have no displacement in common, so that the interval is Student's over
    them; it is cut at 0. They count alike even where one is as short as the lag allows: starts within a lag of each
    other say much the same. Measured coverage over 2,000 sets of random walks of 24 atoms: 0.94 to 0.95 for 3 to 10
    replicas of one block each, of equal or unequal lengths; 0.96 to 0.98 where replicas hold 2 to 20 blocks, because
    the value has starts across their ends, too.

    Args:
        replicas: What each trajectory says.

    Returns:
        1e-9 m²/s; without a value where there is no trajectory, without an interval below `FEWEST` blocks.
    """
    if not replicas:
        return BlockEstimate(None, None, None, 0, "no trajectory is longer than the longest lag")
    counts = np.array([each.n_blocks for each in replicas])
    value = float(np.average([each.value for each in replicas], weights=counts))
    n = int(counts.sum())
    if n < FEWEST:
        return BlockEstimate(value, None, None, n, f"{n} blocks of {BLOCK_LAGS} lags, an interval needs {FEWEST}")
    means, spreads = (np.array([getattr(each, name) for each in replicas]) for name in ("mean", "spread"))
    off = means - np.average(means, weights=counts)
    variance = float(np.sum(counts * (spreads**2 + off**2))) / (n - 1)
    half = student(n - 1) * float(np.sqrt(variance / n))
    return BlockEstimate(value, max(value - half, 0.0), value + half, n)


def _slope(positions: FloatArray, lags: Lags) -> float:
    """Return the diffusivity from the mean squared displacements at all lags of the range, 1e-9 m²/s."""
    squared = [mean_squared_displacement(positions, lag) for lag in range(lags.first, lags.last + 1)]
    times = lags.interval * np.arange(lags.first, lags.last + 1)
    slope = squared[0] / times[0] if len(times) == 1 else np.polyfit(times, squared, 1)[0]
    return float(UNIT * slope / 6)
