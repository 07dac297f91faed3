"""How times change from one model to another that was measured in the same rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.cost import Stage
from mlipbench.metrics.contrast import Estimate
from mlipbench.metrics.cost_estimates import MILLI
from mlipbench.metrics.paired import Change
from mlipbench.metrics.timings import FEWEST_PAIRS, medians_of_rounds, paired_ratio

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlipbench.cost import Call
    from mlipbench.typing import FloatArray, IntArray

RATIO: Final = "latency_ratio"
"""The metric that stays comparable where models were not measured in the same rounds."""
ONCE: Final = frozenset({"peak_memory", "peak_allocator", "training_step", "training_rate"})
"""Metrics that are not measured in rounds."""
PAIRED: Final[Mapping[str, tuple[Stage, str]]] = MappingProxyType(
    {
        "latency_p50": (Stage.LATENCY, "seconds"),
        "latency_prepare": (Stage.LATENCY, "prepare_seconds"),
        "latency_forward": (Stage.LATENCY, "forward_seconds"),
        "latency_energy": (Stage.ENERGY, "seconds"),
    }
)
"""Metrics that are medians of calls which each have a partner in the other model's turn: stage and field of a call."""
SLOWER: Final = 0.05
"""Share by which a model must be slower to count as slower."""
CERTAIN: Final = 5.0
"""Times its noise that a change of a time must be."""
_IN_ROUNDS: Final = (Stage.LATENCY, Stage.ENERGY)


def same_rounds(a: Sequence[Call], b: Sequence[Call]) -> bool:
    """Return whether two models were measured in the same rounds.

    Beside each call stands what the reference model took in that round. Two measurements of a time do not agree in
    every digit, so that equal ones are one measurement.

    Args:
        a: Calls of A.
        b: Calls of B.
    """
    times = [
        {(call.stage, call.round, call.call): call.reference_seconds for call in calls if call.stage in _IN_ROUNDS}
        for calls in (a, b)
    ]
    common = times[0].keys() & times[1].keys()
    return bool(common) and all(times[0][key] is not None and times[0][key] == times[1][key] for key in common)


@dataclass(frozen=True, slots=True)
class TimeRatio:
    """What B took over what A took, in the same rounds with the same structures.

    Attributes:
        a: Median of A, ms.
        b: Median of B, ms.
        ratio: B over A, with its interval.
        noise: What the scatter of the rounds makes uncertain of the logarithm of the ratio: its standard error.
        n: Rounds.
    """

    a: float
    b: float
    ratio: Estimate
    noise: float
    n: int

    @property
    def least(self) -> float:
        """The smallest slow-down, as a share, that is `CERTAIN` times the noise."""
        return math.expm1(CERTAIN * self.noise)

    @property
    def fine(self) -> bool:
        """Whether a slow-down by `SLOWER` would be told from noise."""
        return self.least <= SLOWER

    @property
    def slower(self) -> bool:
        """Whether B is slower by `SLOWER` at least, its interval excludes 1, and the noise is small beside that."""
        ratio, low = self.ratio.value, self.ratio.low
        certain = low is not None and low > 1.0 and math.log(ratio) >= CERTAIN * self.noise
        return certain and ratio >= 1.0 + SLOWER


def time_ratio(a: Sequence[Call], b: Sequence[Call]) -> TimeRatio:
    """Return the ratio of the times of two models that took turns, as `call_change` has it, with its noise.

    The noise is that of Hodges and Lehmann's estimate of n normal numbers, ``1.023 s / sqrt(n)`` (its asymptotic
    efficiency is 3/π), s being the scatter of the rounds' ratios by their median absolute deviation.

    Args:
        a: Calls of A with single structures.
        b: Calls of B, one for each of A's.

    Raises:
        ValueError: There are no calls in common.
    """
    from scipy.stats import median_abs_deviation

    change = call_change("latency_p50", a, b)
    if change.a is None or change.b is None or change.relative is None:
        raise ValueError(change.reason or "nothing was timed")
    first, second, rounds = _paired("latency_p50", a, b)
    middles = medians_of_rounds(np.log(second / first), rounds)
    scatter = float(median_abs_deviation(middles, scale="normal"))
    ends = (None if end is None else end + 1.0 for end in change.relative[1:])
    noise = math.sqrt(math.pi / 3.0) * scatter / math.sqrt(len(middles))
    return TimeRatio(change.a, change.b, Estimate(change.relative.value + 1.0, *ends), noise, change.n)


def call_change(metric: str, a: Sequence[Call], b: Sequence[Call]) -> Change:
    """Compare times of calls with the same structures in the same rounds.

    The relative change is the ratio of `mlipbench.metrics.timings.paired_ratio` minus 1, with its interval and the
    p-value of Wilcoxon's signed rank test; values and difference are those of the medians, without interval.

    Args:
        metric: One of `PAIRED`.
        a: Calls of A.
        b: Calls of B, for which `same_rounds` holds.
    """
    first, second, rounds = _paired(metric, a, b)
    if not len(rounds) or min(first.min(), second.min()) <= 0.0:
        return Change(None, None, None, reason="no calls that can be divided by each other")
    ratio = paired_ratio(second, first, rounds)
    if ratio.value is None:
        return Change(None, None, None, reason=ratio.reason)
    relative = Estimate(ratio.value - 1.0, *(None if end is None else end - 1.0 for end in (ratio.low, ratio.high)))
    one, other = (MILLI * float(np.median(own)) for own in (first, second))
    p = _signed_rank(np.log(second / first), rounds)
    return Change(one, other, Estimate(other - one, None, None), relative, p, ratio.n, reason=ratio.reason)


def _paired(metric: str, a: Sequence[Call], b: Sequence[Call]) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return the times of the calls that A and B have in common, and the round of each."""
    stage, field = PAIRED[metric]
    times = [
        {(call.round, call.call): float(getattr(call, field)) for call in calls if call.stage is stage}
        for calls in (a, b)
    ]
    common = sorted(times[0].keys() & times[1].keys())
    first, second = (np.asarray([own[key] for key in common]) for own in times)
    return first, second, np.asarray([number for number, _ in common], dtype=np.int64)


def _signed_rank(logs: FloatArray, rounds: IntArray) -> float | None:
    """Return the p-value of Wilcoxon's signed rank test over rounds, None where they are too few."""
    from scipy.stats import wilcoxon

    middles = medians_of_rounds(logs, rounds)
    if len(middles) < FEWEST_PAIRS:
        return None
    return float(wilcoxon(middles).pvalue) if np.any(middles != 0.0) else 1.0
