"""What a reference trajectory shows: computed once, by the code that scores simulations, and cached."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.elements import SYMBOLS
from mlipbench.metrics.diffusivity import Diffusion, Lags, diffusion, mdsim_diffusivity, unwrap, without_drift
from mlipbench.metrics.pairs import Bins, Lattice, PairCounts, count_pairs
from mlipbench.metrics.rdf import distance_density, mdsim_radial_distribution, radial_distribution
from mlipbench.plan.cells import METRIC_VERSION
from mlipbench.store.files import replacing
from mlipbench.suite.tasks import Distribution

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray, FloatArray, IntArray

_CHUNK: Final = 2_000  # frames at a time


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Which pairs of atoms a distribution is of.

    Attributes:
        name: ``all``, or the elements.
        first: Shape (n_atoms,).
        second: Shape (n_atoms,).
    """

    name: str
    first: BoolArray
    second: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What is compared with.

    Attributes:
        curves: Distributions as MDSim defines them, by pairs; shape (n_bins,) each.
        corrected: The same with the true number of pairs.
        elements: Corrected distributions of each pair of elements.
        diffusivity_mdsim: 10⁻⁹ m²/s, None where the trajectory has none.
        diffusivity: Likewise, averaged correctly.
    """

    curves: Mapping[str, FloatArray]
    corrected: Mapping[str, FloatArray]
    elements: Mapping[str, FloatArray]
    diffusivity_mdsim: float | None
    diffusivity: float | None


def element_pairs(numbers: IntArray) -> Iterator[Pairs]:
    """Yield every pair of elements that has two atoms."""
    for a, b in combinations_with_replacement(np.unique(numbers).tolist(), 2):
        first, second = numbers == a, numbers == b
        if a != b or first.sum() > 1:
            yield Pairs(f"{SYMBOLS[a]}-{SYMBOLS[b]}", first, second)


def compared_pairs(distribution: Distribution, numbers: IntArray) -> list[Pairs]:
    """Return the pairs whose distributions MDSim compares."""
    if distribution is Distribution.PAIR_RDF:
        return list(element_pairs(numbers))
    every = np.ones(len(numbers), dtype=np.bool_)
    return [Pairs("all", every, every)]


def curves(counts: PairCounts, distribution: Distribution) -> tuple[FloatArray, FloatArray]:
    """Return a distribution as MDSim defines it, and corrected; h(r) needs no correction."""
    if distribution is Distribution.DISTANCES:
        density = distance_density(counts)
        found = np.zeros(counts.bins.n) if density is None else density
        return found, found
    return mdsim_radial_distribution(counts), radial_distribution(counts)


def diffusivities(
    positions: FloatArray, numbers: IntArray, asked: Mapping[str, Any], interval: float
) -> tuple[float | None, Diffusion | None]:
    """Return the diffusivity as MDSim reads it off, 10⁻⁹ m²/s, and averaged correctly; None where there is none.

    Args:
        positions: Shape (n_frames, n_atoms, 3), Å, not wrapped, in order of time.
        numbers: Shape (n_atoms,), atomic numbers.
        asked: What the suite asks for; see `mlipbench.suite.tasks.Diffusion`.
        interval: ps between the frames.
    """
    from ase.data import atomic_masses

    stride, start = round(asked["spacing"] / interval), round(asked["start"] / interval)
    whole, frames = positions[:, numbers == SYMBOLS.index(asked["element"])], slice(start, None, stride)
    masses = np.asarray(atomic_masses[numbers], dtype=np.float64)
    steady = without_drift(positions[frames], masses)[:, numbers == SYMBOLS.index(asked["element"])]
    lag = asked["lag"] + 1
    correct = diffusion(steady, Lags(lag, lag, asked["spacing"]))
    return mdsim_diffusivity(whole, frames, asked["lag"], interval), correct


def observed(split: Split, parameters: Mapping[str, Any], interval_fs: float | None, cache: Path) -> Reference:
    """Return what a reference trajectory shows.

    Args:
        split: The trajectory.
        parameters: Of the task.
        interval_fs: fs between its frames; None where nobody says that they are in order.
        cache: The user's cache.
    """
    asked = {name: parameters[name] for name in ("distribution", "range", "bins", "diffusion")}
    key = json.dumps([METRIC_VERSION, split.content_hash, asked, interval_fs], sort_keys=True)
    path = cache / "trajectories" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if path.is_file():
        return _read(path)
    found = _observe(split, parameters, interval_fs)
    _write(path, found)
    return found


def _observe(split: Split, parameters: Mapping[str, Any], interval_fs: float | None) -> Reference:
    first, positions = split.structures(0, 1), split.frames()
    distribution, bins = Distribution(parameters["distribution"]), Bins(parameters["range"], parameters["bins"])
    lattice = None if distribution is Distribution.DISTANCES else Lattice.of(first.cell[0])
    mdsim, corrected = {}, {}
    for pairs in compared_pairs(distribution, first.numbers):
        summed = _summed(positions, lattice, bins, pairs)
        mdsim[pairs.name], corrected[pairs.name] = curves(summed, distribution)
    elements = {}
    if lattice is not None:
        for pairs in element_pairs(first.numbers):
            elements[pairs.name] = radial_distribution(_summed(positions, lattice, bins, pairs))
    mdsim_value, correct = None, None
    if parameters["diffusion"] is not None and interval_fs is not None and lattice is not None:
        whole = unwrap(positions, lattice)
        mdsim_value, correct = diffusivities(whole, first.numbers, parameters["diffusion"], interval_fs / 1000)
    return Reference(mdsim, corrected, elements, mdsim_value, None if correct is None else correct.value)


def _summed(positions: FloatArray, lattice: Lattice | None, bins: Bins, pairs: Pairs) -> PairCounts:
    """Return the mean counts of all frames as those of one, so that memory does not grow with the trajectory."""
    total = np.zeros(bins.n)
    counted = None
    for start in range(0, len(positions), _CHUNK):
        counted = count_pairs(positions[start : start + _CHUNK], lattice, bins, pairs.first, pairs.second)
        total += counted.counts.sum(axis=0)
    if counted is None:
        raise ValueError("a trajectory without frames")
    mean = total[None, :] / len(positions)
    return PairCounts(mean, bins, counted.n_first, counted.n_second, counted.n_shared, counted.volume)


def _write(path: Path, found: Reference) -> None:
    parts = {"curves": found.curves, "corrected": found.corrected, "elements": found.elements}
    arrays = {f"{part}/{name}": curve for part, kept in parts.items() for name, curve in kept.items()}
    numbers = [np.nan if one is None else one for one in (found.diffusivity_mdsim, found.diffusivity)]
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, diffusivities=np.asarray(numbers), **arrays)  # type: ignore[arg-type]  # names of arrays


def _read(path: Path) -> Reference:
    with np.load(path, allow_pickle=False) as stored:
        parts: dict[str, dict[str, FloatArray]] = {"curves": {}, "corrected": {}, "elements": {}}
        for name in stored.files:
            part, _, pairs = name.partition("/")
            if part in parts:
                parts[part][pairs] = stored[name]
        mdsim, correct = (None if np.isnan(one) else float(one) for one in stored["diffusivities"])
    return Reference(parts["curves"], parts["corrected"], parts["elements"], mdsim, correct)
