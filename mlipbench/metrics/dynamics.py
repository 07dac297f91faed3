"""What simulations are scored by: one row of columns for each replica, and the metrics over replicas.

Definitions are MDSim's where it has one (Fu et al., TMLR 2023), with a corrected one beside them where theirs has a
defect. Replicas are independent: an interval is Student's over their number; the restricted mean survival time, the
share that survives and the diffusivity have intervals of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import combinations
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.metrics.blocks import LEVEL, half_width, two_sided
from mlipbench.metrics.definition import Estimate, MetricDefinition
from mlipbench.metrics.diffusivity import Diffusion, pooled
from mlipbench.metrics.ranks import ranks_of
from mlipbench.metrics.statistics import holm
from mlipbench.metrics.survival import Endings, paired_difference, restricted_mean
from mlipbench.metrics.values import Direction, Kind, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlipbench.metrics.ranks import Rank
    from mlipbench.typing import BoolArray, FloatArray, IntArray

FEWEST_REPLICAS: Final = 3
"""Replicas below which a mean has no interval."""
_UNSTABLE: Final = "they were not stable for long enough"


@dataclass(frozen=True, slots=True, eq=False)
class ReplicaScores:
    """What became of each replica; every array has shape (n_replicas,), NaN where there is nothing to say.

    Attributes:
        n_atoms: Number of atoms.
        seed: Its seed.
        horizon: ps, simulated time of a replica that completes.
        simulated: ps, simulated time of this one.
        stable: ps, until it collapsed or ended.
        failed: 1 where that was for a physical reason, 0 where it was still stable.
        rdf_mae: Error of the distribution before the collapse, as MDSim's.
        rdf_mae_corrected: The same with every curve normalised to its true number of pairs.
        rdf_wasserstein: Å, Wasserstein distance of the distributions.
        element_rdf_mae: Å, largest error among the pairs of elements, normalised to the true numbers of pairs.
        diffusivity_mdsim: 10⁻⁹ m²/s, as MDSim reads it off.
        diffusivity_error_mdsim: 10⁻⁹ m²/s, its distance from that of the reference.
        diffusivity: 10⁻⁹ m²/s, averaged correctly.
        diffusivity_reference: 10⁻⁹ m²/s, likewise of the reference.
        diffusion_blocks: Blocks that the trajectory is cut into for the interval.
        diffusion_mean: 10⁻⁹ m²/s, mean of their diffusivities.
        diffusion_spread: 10⁻⁹ m²/s, root of the mean squared deviation from that.
        drift: meV/atom/ps, slope of the total energy.
        fluctuation: meV/atom, spread of the total energy about that slope.
        temperature: K, mean.
        temperature_spread: Variance of the temperature over that of the canonical ensemble.
        equipartition: Largest deviation of an element's temperature from the mean, as a share of it.
        steps_per_second: Steps of all replicas of its batch in a second of the whole loop.
        speed_half: Half the width of the interval of that.
        step: fs, the time step.
    """

    n_atoms: IntArray
    seed: FloatArray
    horizon: FloatArray
    simulated: FloatArray
    stable: FloatArray
    failed: FloatArray
    rdf_mae: FloatArray
    rdf_mae_corrected: FloatArray
    rdf_wasserstein: FloatArray
    element_rdf_mae: FloatArray
    diffusivity_mdsim: FloatArray
    diffusivity_error_mdsim: FloatArray
    diffusivity: FloatArray
    diffusivity_reference: FloatArray
    diffusion_blocks: FloatArray
    diffusion_mean: FloatArray
    diffusion_spread: FloatArray
    drift: FloatArray
    fluctuation: FloatArray
    temperature: FloatArray
    temperature_spread: FloatArray
    equipartition: FloatArray
    steps_per_second: FloatArray
    speed_half: FloatArray
    step: FloatArray

    def taken(self, rows: IntArray | BoolArray) -> ReplicaScores:
        """Return the scores of some replicas."""
        return replace(self, **{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def _ones(scores: ReplicaScores) -> FloatArray:
    return np.ones(scores.n_atoms.shape)


def mean_estimate(values: FloatArray, why: str = "nothing could be computed") -> Estimate:
    """Return the mean over replicas with Student's interval; replicas without a value are left out and counted.

    Nothing here can be negative, so that the interval is cut at 0.

    Args:
        values: Shape (n_replicas,), not negative.
        why: Why a replica may have no value.
    """
    known = values[np.isfinite(values)]
    n, left_out = len(known), len(values) - len(known)
    said = f"{left_out} of {len(values)} replicas have no value: {why}" if left_out else None
    if not n:
        return Estimate(None, None, None, 0, said or "there is no replica")
    mean = float(np.mean(known))
    if n < FEWEST_REPLICAS:
        few = f"too few replicas for an interval: {n}"
        return Estimate(mean, None, None, n, f"{said}; {few}" if said else few)
    half = half_width(known)
    return Estimate(mean, max(mean - half, 0.0), mean + half, n, said)


def rank_replicas(definition: MetricDefinition[ReplicaScores], models: Mapping[str, ReplicaScores]) -> dict[str, Rank]:
    """Rank models over the replicas that all have.

    Replicas with one seed begin alike, so that their differences are what is compared: by the paired test of the
    metric, corrected by Holm over all pairs of models.

    Args:
        definition: The metric, with an estimate over replicas.
        models: Scores by model, of the same replicas in one order.

    Returns:
        The rank by model, of those with a value; empty where fewer than two have one or fewer than `FEWEST_REPLICAS`
        replicas are common.
    """
    if definition.estimate is None or definition.differ is None:
        return {}
    common = np.logical_and.reduce([np.isfinite(definition.numerator(scores)) for scores in models.values()])
    if int(common.sum()) < FEWEST_REPLICAS:
        return {}
    shared = {model: scores.taken(common) for model, scores in models.items()}
    values = {model: definition.estimate(scores).value for model, scores in shared.items()}
    known = sorted(model for model, value in values.items() if value is not None)
    if len(known) < 2:  # noqa: PLR2004 - one model has no rank
        return {}
    pairs = list(combinations(range(len(known)), 2))
    p_values = [definition.differ(shared[known[i]], shared[known[j]]) for i, j in pairs]
    adjusted = holm([1.0 if p is None else p for p in p_values])
    sign = 1.0 if definition.direction is Direction.HIGHER else -1.0
    heights = [sign * float(values[model] or 0.0) for model in known]
    better = np.zeros((len(known), len(known)), dtype=np.bool_)
    for (i, j), p in zip(pairs, adjusted, strict=True):
        if p <= 1 - LEVEL:
            better[i, j], better[j, i] = heights[i] > heights[j], heights[j] > heights[i]
    return dict(zip(known, ranks_of(better), strict=True))


def _by_student(column: Callable[[ReplicaScores], FloatArray]) -> Callable[[ReplicaScores, ReplicaScores], float]:
    return lambda first, second: _paired_p(column(first) - column(second))


def _paired_p(differences: FloatArray) -> float:
    """Return the two-sided p-value of no mean difference; differences that are all the same leave no doubt."""
    spread, mean = float(np.std(differences, ddof=1)), float(np.mean(differences))
    if spread == 0:
        return 1.0 if mean == 0 else 0.0
    n = len(differences)
    return two_sided(mean / spread * math.sqrt(n), n - 1)


def _times_differ(first: ReplicaScores, second: ReplicaScores, *, worst: bool) -> float | None:
    """Return the p-value of no difference in the time of stability, which knows who was censored."""
    (one, horizon), (other, _) = endings_of(first), endings_of(second)
    if worst:
        one, other = one.worst_case(horizon), other.worst_case(horizon)
    return paired_difference(one, other, horizon).p


def _mean_of(column: Callable[[ReplicaScores], FloatArray], about: str) -> Callable[[ReplicaScores], Estimate]:
    why = _UNSTABLE if about == "diffusion" else "nothing could be computed"
    return lambda scores: mean_estimate(column(scores), why)


def _diffusivity(scores: ReplicaScores) -> Estimate:
    """Return the diffusivity with the interval over the blocks of all replicas."""
    known = np.flatnonzero(np.isfinite(scores.diffusivity))
    left_out = len(scores.diffusivity) - len(known)
    said = [f"{left_out} of {len(scores.diffusivity)} replicas have no value: {_UNSTABLE}"] if left_out else []
    found = pooled(
        [
            Diffusion(
                value=float(scores.diffusivity[place]),
                n_blocks=int(scores.diffusion_blocks[place]),
                mean=float(scores.diffusion_mean[place]),
                spread=float(scores.diffusion_spread[place]),
            )
            for place in known
        ]
    )
    if len(known) and found.reason:
        said.append(found.reason)
    return Estimate(found.value, found.low, found.high, len(known), "; ".join(said) or None)


def _diffusivity_error(scores: ReplicaScores) -> Estimate:
    """Return how far the diffusivity is from that of the reference, which is taken as exact; likewise its interval."""
    found = _diffusivity(scores)
    if found.value is None:
        return found
    reference = float(scores.diffusivity_reference[np.isfinite(scores.diffusivity)][0])
    value = abs(found.value - reference)
    if found.low is None or found.high is None:
        return Estimate(value, None, None, found.n, found.reason)
    ends = sorted(abs(end - reference) for end in (found.low, found.high))
    return Estimate(value, 0.0 if found.low <= reference <= found.high else ends[0], ends[1], found.n, found.reason)


def endings_of(scores: ReplicaScores) -> tuple[Endings, float]:
    """Return how the replicas ended that have a time of stability, and the length of the simulation in ps."""
    known = np.isfinite(scores.stable)
    return Endings(scores.stable[known], scores.failed[known] > 0), float(scores.horizon.max())


def _stability(scores: ReplicaScores, *, worst: bool) -> Estimate:
    if not np.isfinite(scores.stable).any():
        return Estimate(None, None, None, 0, "no replica was simulated")
    endings, horizon = endings_of(scores)
    found = restricted_mean(endings.worst_case(horizon) if worst else endings, horizon)
    said = [found.reason]
    if found.n_censored and not worst:
        said.append(
            f"{found.n_censored} of {found.n} replicas ended for reasons that are not physical, and are censored"
        )
    return Estimate(found.value, found.low, found.high, found.n, "; ".join(filter(None, said)) or None)


def _survived(scores: ReplicaScores) -> Estimate:
    """Return the share of replicas that stay stable to the end, with Clopper and Pearson's interval.

    Replicas that are censored before count as failed.
    """
    from scipy.stats import beta

    if not np.isfinite(scores.stable).any():
        return Estimate(None, None, None, 0, "no replica was simulated")
    endings, horizon = endings_of(scores)
    failed = endings.worst_case(horizon).failed
    n, alive = len(failed), int(np.sum(~failed))
    low = 0.0 if alive == 0 else float(beta.ppf((1 - LEVEL) / 2, alive, n - alive + 1))
    high = 1.0 if alive == n else float(beta.ppf((1 + LEVEL) / 2, alive + 1, n - alive))
    return Estimate(alive / n, low, high, n)


def _ns_per_day(scores: ReplicaScores) -> FloatArray:
    """Return the simulated time in a day: steps/s x fs x 86,400 s/day x 10⁻⁶ ns/fs."""
    return scores.steps_per_second * _ns_per_step_and_day(scores)


def _ns_per_step_and_day(scores: ReplicaScores) -> FloatArray:
    return scores.step * 86_400 * 1e-6


def _speed(scores: ReplicaScores, factor: FloatArray) -> Estimate:
    """Return the speed, which all replicas have in common, with the interval over stretches between checkpoints."""
    known = np.flatnonzero(np.isfinite(scores.steps_per_second))
    if not known.size:
        return Estimate(None, None, None, 0, "nothing was timed")
    first = known[0]
    unit, value, half = float(factor[first]), float(scores.steps_per_second[first]), float(scores.speed_half[first])
    if not math.isfinite(half):
        return Estimate(unit * value, None, None, len(known), "too few stretches between checkpoints for an interval")
    return Estimate(unit * value, unit * max(value - half, 0.0), unit * (value + half), len(known))


def _defined(  # noqa: PLR0913, PLR0917 - one line of the table below
    name: str,
    unit: str,
    direction: Direction,
    title: str,
    about: str,
    formula: str,
    column: Callable[[ReplicaScores], FloatArray],
    estimate: Callable[[ReplicaScores], Estimate] | None = None,
    differ: Callable[[ReplicaScores, ReplicaScores], float | None] | None = None,
) -> MetricDefinition[ReplicaScores]:
    return MetricDefinition(
        name, unit, direction, title, formula, column, _ones, Scale(Kind.REAL), about=about, timed=about == "speed",
        estimate=estimate or _mean_of(column, about), differ=differ or _by_student(column),
    )  # fmt: skip


_LOWER, _HIGHER, _NEITHER = Direction.LOWER, Direction.HIGHER, Direction.NEITHER

_DEFINITIONS: Final = (
    _defined(
        "stability", "ps", _HIGHER, "Stability", "stability",
        "restricted mean time to collapse, to the length of the simulation: area below the Kaplan-Meier curve over "
        "replicas. A replica collapses as MDSim says: the error of its distribution in a window, or the stretch of a "
        "bond, exceeds the threshold of the suite; or it ends for a physical reason. Other ends are censored. Without "
        "any collapse the lower end is the exact binomial bound on survival times the length",
        lambda s: s.stable, lambda s: _stability(s, worst=False), lambda a, b: _times_differ(a, b, worst=False),
    ),
    _defined(
        "stability_worst_case", "ps", _HIGHER, "Stability (worst case)", "stability",
        "as `stability`, with every censored replica counted as collapsed where it ended",
        lambda s: s.stable, lambda s: _stability(s, worst=True), lambda a, b: _times_differ(a, b, worst=True),
    ),
    _defined(
        "survived", "1", _HIGHER, "Survived", "stability",
        "share of replicas that are stable to the end, with Clopper and Pearson's interval; censored ones count as "
        "collapsed",
        lambda s: (s.stable >= s.horizon * (1 - 1e-9)).astype(np.float64), _survived,
    ),
    _defined(
        "rdf_mae", "1", _LOWER, "RDF MAE", "distribution",
        "mean over replicas of mean|g - g_ref| times the range (Å; for h(r) a pure number), over the frames before the "
        "collapse against the whole reference; MDSim's g(r), in which an atom counts as a pair with itself",
        lambda s: s.rdf_mae,
    ),
    _defined(
        "rdf_mae_corrected", "1", _LOWER, "RDF MAE (corrected)", "distribution",
        "as `rdf_mae`, with g(r) normalised to the true number of pairs, so that it tends to 1",
        lambda s: s.rdf_mae_corrected,
    ),
    _defined(
        "element_rdf_mae", "1", _LOWER, "RDF MAE (worst pair)", "elements",
        "as `rdf_mae_corrected`, for each pair of elements by itself; the largest of them",
        lambda s: s.element_rdf_mae,
    ),
    _defined(
        "rdf_wasserstein", "Å", _LOWER, "RDF W1", "distribution",
        "mean over replicas of the Wasserstein-1 distance of g(r), or h(r), from that of the reference, both divided "
        "by their integrals",
        lambda s: s.rdf_wasserstein,
    ),
    _defined(
        "diffusivity_error_mdsim", "1e-9 m²/s", _LOWER, "Diffusivity error (MDSim)", "diffusion",
        "mean over replicas of |D - D_ref|, D as MDSim reads it off: mean squared displacement over 6 times one lag, "
        "relative to the unweighted mean of the atoms that diffuse, summed over starts and divided by one too few",
        lambda s: s.diffusivity_error_mdsim,
    ),
    _defined(
        "diffusivity_error", "1e-9 m²/s", _LOWER, "Diffusivity error", "diffusion",
        "distance of `diffusivity` from that of the reference, which is taken as exact; the interval likewise",
        lambda s: np.abs(s.diffusivity - s.diffusivity_reference), _diffusivity_error,
    ),
    _defined(
        "diffusivity", "1e-9 m²/s", _NEITHER, "Diffusivity", "diffusion",
        "mean squared displacement over 6 times the lag, of all starts, relative to the centre of mass; mean over "
        "replicas by their blocks of two lags (a shorter replica is one), Student's interval over the blocks of all",
        lambda s: s.diffusivity, _diffusivity,
    ),
    _defined(
        "energy_drift", "meV/atom/ps", _LOWER, "Energy drift", "energy",
        "mean over replicas of the absolute slope of the total energy per atom, by least squares",
        lambda s: np.abs(s.drift),
    ),
    _defined(
        "energy_fluctuation", "meV/atom", _LOWER, "Energy fluctuation", "energy",
        "mean over replicas of the root mean square of the total energy per atom about that slope",
        lambda s: s.fluctuation,
    ),
    _defined(
        "temperature", "K", _NEITHER, "Temperature", "temperature",
        "mean over replicas and frames of the temperature, by 3 N degrees of freedom",
        lambda s: s.temperature,
    ),
    _defined(
        "temperature_spread", "1", _NEITHER, "Temperature spread", "temperature",
        "mean over replicas of the variance of the temperature over 2 T²/(3 N), that of the canonical ensemble",
        lambda s: s.temperature_spread,
    ),
    _defined(
        "equipartition", "1", _LOWER, "Equipartition", "temperature",
        "mean over replicas of the largest deviation of an element's temperature from that of all atoms, as a share",
        lambda s: s.equipartition,
    ),
    _defined(
        "steps_per_second", "1/s", _HIGHER, "Steps/s", "speed",
        "steps of all replicas of a batch over the wall time of the loop beside the model: integrator, lists of "
        "neighbours, model and recording; the first calls left out",
        lambda s: s.steps_per_second, lambda s: _speed(s, _ones(s)),
    ),
    _defined(
        "ns_per_day", "ns/day", _HIGHER, "ns/day", "speed",
        "simulated time of all replicas of a batch in a day, from `steps_per_second`",
        _ns_per_day, lambda s: _speed(s, _ns_per_step_and_day(s)),
    ),
)  # fmt: skip

DYNAMICS_METRICS: Final[Mapping[str, MetricDefinition[ReplicaScores]]] = MappingProxyType(
    {definition.name: definition for definition in _DEFINITIONS}
)
"""The metrics of simulations by name, in the order of tables."""
