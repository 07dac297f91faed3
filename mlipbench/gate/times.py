"""Times of two versions, measured in the same rounds, judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.comparison.changes import Place
from mlipbench.gate.findings import Finding, State, run_title
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.metrics.paired_costs import TimeRatio
    from mlipbench.runner.sides import SideBySide

LATENCY = "latency_p50"


def suspects(first: Sequence[SideBySide]) -> list[SideBySide]:
    """Return what was slower, and has to be measured once more before it counts."""
    return [one for one in first if one.ratio is not None and one.ratio.slower]


def judge_times(first: Sequence[SideBySide], again: Sequence[SideBySide]) -> Iterator[Finding]:
    """Yield what became of times.

    A model is slower where the interval of its ratio to the older version excludes 1, the ratio is 1.05 at least, and
    the change is five times the noise, in two measurements.

    Args:
        first: What was measured.
        again: What was measured once more, of `suspects`.
    """
    confirmed = {one.key: one for one in again}
    for one in first:
        state, said = _judged(one, confirmed.get(one.key))
        place = Place(Task.EFFICIENCY.value, one.dataset, one.split, LATENCY)
        name = run_title(one.model, one.variant, one.seed)
        measured = state is not State.NOT_COMPARABLE
        yield Finding(state, name, "time of one structure", said, place, measured=measured)


def _judged(first: SideBySide, again: SideBySide | None) -> tuple[State, str]:
    if first.ratio is None:
        state = State.REGRESSION if first.broken else State.NOT_COMPARABLE
        return state, first.reason or "nothing was timed"
    said = _words(first.ratio)
    if not first.ratio.slower:
        low, high = first.ratio.ratio.low, first.ratio.ratio.high
        if low is not None and low > 1.0 and not first.ratio.fine:
            return State.NOT_JUDGED, f"{said}; slower perhaps, but times scatter too much to tell"
        faster = high is not None and high < 1.0
        return State.IMPROVED if faster else State.UNCHANGED, said
    if again is None or again.ratio is None:
        why = "" if again is None else f": {again.reason}"
        return State.NOT_JUDGED, f"{said}; it was not measured once more{why}"
    twice = f"{said}; once more: {_words(again.ratio)}"
    return (State.REGRESSION, twice) if again.ratio.slower else (State.UNCHANGED, f"{twice}: not confirmed")


def _words(found: TimeRatio) -> str:
    ratio, low, high = found.ratio
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    seen = f"a slow-down by {100 * found.least:.1f} % would have been seen"
    return f"{found.a:.3g} -> {found.b:.3g} ms, ratio {ratio:.3f}{interval} over {found.n} rounds; {seen}"
