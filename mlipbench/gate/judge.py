"""Runs judged against a baseline, metric by metric."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mlipbench.comparison.changes import Place
from mlipbench.comparison.comparing import COMPARED, Verdict, compare
from mlipbench.datasets.entry import GAP
from mlipbench.errors import ConfigError
from mlipbench.gate.baseline import by_key, named, score_files
from mlipbench.gate.facts import facts
from mlipbench.gate.findings import Finding, State
from mlipbench.gate.policy import Effect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.comparing import ComparedMetric, Comparison
    from mlipbench.comparison.scores import ScoreReader
    from mlipbench.gate.policy import Policy, Rule
    from mlipbench.store.records import MetricRecord

WORST: Final = 5
"""Structures named for each kind of error of each split."""
_UNKNOWN: Final = frozenset({Verdict.TOO_FEW_CLUSTERS, Verdict.NO_INTERVAL})
_FOUND: Final = frozenset({Verdict.BETTER, Verdict.WORSE, Verdict.DIFFERENT})


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of all runs of a baseline.

    Attributes:
        findings: One by one.
        comparisons: The comparisons that they rest on, A being the baseline.
    """

    findings: tuple[Finding, ...]
    comparisons: tuple[Comparison, ...]


def judge(base: Sequence[RunRecord], head: Sequence[RunRecord], policy: Policy, scores: ScoreReader) -> Judged:
    """Judge runs against those of a baseline.

    A metric is a regression where its change for the worse is significant at 5 % over all metrics and splits of its
    run (Holm) and larger than the policy tolerates. What is counted needs no test.

    Args:
        base: The runs of the baseline.
        head: The runs that are judged.
        policy: What counts as worse.
        scores: Where scores per structure come from.

    Raises:
        ConfigError: The runs are of another suite, or of another version of it.
        ResultsError: A file of scores or timings is missing or damaged.
    """
    there, known = by_key(head, "the runs that are judged"), by_key(base, "the baseline")
    findings: list[Finding] = []
    comparisons: list[Comparison] = []
    for key, run in known.items():
        other = there.get(key)
        if other is None:
            findings.append(Finding(State.INCOMPLETE, named(run), "run", "there is no finished run of it"))
            continue
        _same_suite(run, other)
        score_files(other)
        comparison = compare(_limited(run, policy), _limited(other, policy), scores, WORST)
        comparisons.append(comparison)
        findings += [*facts(run, other), *_metrics(comparison, policy)]
    new = [named(run) for key, run in there.items() if key not in known]
    findings += [Finding(State.NOT_COMPARABLE, name, "run", "the baseline holds no run of it") for name in new]
    return Judged(tuple(findings), tuple(comparisons))


def _same_suite(base: RunRecord, head: RunRecord) -> None:
    if base.manifest is None or head.manifest is None:
        return
    suites = [f"{one.manifest.suite.name} version {one.manifest.suite.version}" for one in (base, head) if one.manifest]
    if suites[0] != suites[1]:
        raise ConfigError(
            f"the baseline is of the suite {suites[0]}, the run of {suites[1]}",
            where=named(head),
            remedy="save a baseline of this suite with `mlipbench gate --save`",
        )


def _limited(run: RunRecord, policy: Policy) -> RunRecord:
    """Return a run without the numbers that the policy ignores, and without gaps between splits.

    A gap grows where the split that it is measured from gets better. The splits themselves are judged.
    """
    rules = {record: policy.rule(_place(record)) for record in run.metrics if record.split != GAP}
    kept = (record for record, rule in rules.items() if rule is None or rule.effect is not Effect.IGNORE)
    return replace(run, metrics=tuple(kept))


def _metrics(comparison: Comparison, policy: Policy) -> Iterator[Finding]:
    base, head = (
        {_place(record): record for record in run.metrics if record.value is not None}
        for run in (comparison.a, comparison.b)
    )
    name = named(comparison.b)
    for row in comparison.metrics:
        rule, place = policy.rule(row.place), row.place
        if place not in base and place not in head:
            continue
        if rule is None or row.verdict is Verdict.NOT_COMPARABLE or place not in base:
            said = "; ".join(row.notes) or "this version of mlipbench knows no such metric"
            yield Finding(State.NOT_COMPARABLE, name, place.metric, said, place, row, comparison)
        elif place not in head:
            said = f"the number is lost: {'; '.join(row.notes)}"
            yield Finding(_bad(rule), name, place.metric, said, place, row, comparison)
        elif row.verdict not in COMPARED or row.change is None or row.change.difference is None:
            yield Finding(State.NOT_JUDGED, name, place.metric, "; ".join(row.notes), place, row, comparison)
        else:
            value = base[place].value if row.change.a is None else row.change.a
            tolerance = rule.tolerance(value or 0.0)
            state, said = _compared(row, row.change.difference.value, tolerance, rule)
            measured = state is not State.NOT_JUDGED
            yield Finding(state, name, place.metric, said, place, row, comparison, tolerance, measured)


def _compared(row: ComparedMetric, difference: float, tolerance: float, rule: Rule) -> tuple[State, str]:
    """Return what became of a metric that was compared, and in which words."""
    worsening = rule.worsening(difference)
    if difference == 0.0:
        return State.UNCHANGED, "the same"
    if row.verdict in _UNKNOWN or (row.verdict not in _FOUND and worsening > tolerance and _boundless(row)):
        why = "; ".join(row.notes) or row.verdict.value
        return State.NOT_JUDGED, f"changed, and nothing tells whether by chance ({why})"
    if row.verdict not in _FOUND:
        return State.UNCHANGED, "not distinguishable"
    if worsening > tolerance:
        return _bad(rule), "worse"
    return (State.UNCHANGED, "worse by no more than is tolerated") if worsening > 0.0 else (State.IMPROVED, "better")


def _boundless(row: ComparedMetric) -> bool:
    """Return whether a change has no interval, such as one that a single structure makes."""
    parts = (None, None) if row.change is None else (row.change.difference, row.change.relative)
    return all(part is None or part.low is None for part in parts)


def _bad(rule: Rule) -> State:
    return State.REGRESSION if rule.effect is Effect.FAIL else State.WARNING


def _place(record: MetricRecord) -> Place:
    return Place(record.task, record.dataset, record.split, record.metric)
