"""Rows for the mean over trainings of one model that differ in their seed alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.seeds import over_seeds
from mlipbench.metrics.values import Kind
from mlipbench.report.notes import training_facts
from mlipbench.status import Source, Status, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.report.table import Table
    from mlipbench.store.records import MetricRecord

_FACTS = ("net", "trainer", "preset", "recipe", "dataset", "n_train", "code")
"""What is known of two trainings that differ in their seed alone must agree in."""


class _Place(NamedTuple):
    task: str
    dataset: str
    split: str
    metric: str


def seed_means(records: Sequence[RunRecord]) -> tuple[RunRecord, ...]:
    """Return the means over seeds, as rows of their own beside the runs they are of.

    Runs belong together whose suite, card, variant and code agree, and whose networks were trained on the dataset by
    one recipe with different seeds. A model that was not trained by a seed has no such mean, and neither have costs.

    Args:
        records: What `mlipbench.comparison.collect.collect` found.
    """
    datasets = dict.fromkeys(record.dataset for run in records for record in run.metrics)
    found: dict[tuple[str, ...], list[tuple[RunRecord, str]]] = {}
    for run in records:
        for dataset in datasets:
            facts = training_facts(run, dataset)
            if "seed" in facts and run.manifest is not None:
                found.setdefault(_family(run, dataset), []).append((run, dataset))
    means = (_mean([run for run, _ in members], members[0][1]) for members in found.values())
    return tuple(mean for mean in means if mean is not None)


def averaged(tables: Iterable[Table]) -> tuple[RunRecord, ...]:
    """Return the means over seeds that stand in some tables, each once."""
    found = (row.run for table in tables for row in table.rows)
    return tuple({id(run): run for run in found if run is not None and run.source is Source.AVERAGED}.values())


def _family(run: RunRecord, dataset: str) -> tuple[str, ...]:
    """Return what runs that differ in their seed alone have in common."""
    manifest, facts = run.manifest, training_facts(run, dataset)
    if manifest is None:
        raise ValueError("a run without a manifest was not trained")
    same = (
        manifest.suite.sha256,
        manifest.code_version,
        manifest.model.card_sha256,
        manifest.variant.model_dump_json(),
    )
    return (run.model, dataset, *same, *(str(facts.get(name)) for name in _FACTS))


def _mean(runs: Sequence[RunRecord], dataset: str) -> RunRecord | None:
    """Return the means of some runs on a dataset; None where there are none."""
    seeds = sorted(training_facts(run, dataset)["seed"] for run in runs)
    if len(set(seeds)) < len(seeds):  # they differ in something else
        return None
    records = tuple(_means(runs, dataset, seeds))
    if not records:
        return None
    variant = f"{runs[0].variant}, mean of {len(seeds)} seeds"
    return replace(
        runs[0],
        variant=variant,
        seed=None,
        source=Source.AVERAGED,
        metrics=records,
        run_id="",
        directory=None,
        manifest=None,
    )


def _means(runs: Sequence[RunRecord], dataset: str, seeds: Sequence[int]) -> Iterator[MetricRecord]:
    numbers = [
        {_Place(one.task, one.dataset, one.split, one.metric): one for one in run.metrics if one.dataset == dataset}
        for run in runs
    ]
    untrained = sum(not training_facts(run, dataset)["verdict"]["trained"] for run in runs)
    said = (
        f"mean over the training seeds {', '.join(map(str, seeds))}; interval: Student's over these, structures fixed"
    )
    said += f"; {untrained} of {len(runs)} count as untrained" if untrained else ""
    for place, first in numbers[0].items():
        own = [records[place] for records in numbers if place in records]
        kind = _averaged(place)
        if kind is None or len(own) < len(runs) or not _alike(own):
            continue
        found = over_seeds([record.value for record in own if record.value is not None], kind)
        if found is not None:
            yield first.model_copy(
                update={
                    "value": found.value,
                    "ci_low": found.low,
                    "ci_high": found.high,
                    "two_way_low": None,
                    "two_way_high": None,
                    "design_effect": None,
                    "n": min(record.n for record in own),
                    "n_clusters": 0,
                    "reason": said,
                }
            )


def _averaged(place: _Place) -> Kind | None:
    """Return the range of a metric that depends on the seed; None of costs, and of what is not known."""
    definition = find_metric(place.task, place.metric)
    if definition is None or definition.timed or place.task == Task.EFFICIENCY:
        return None
    return None if definition.scale.kind is Kind.COUNT else definition.scale.kind


def _alike(records: Sequence[MetricRecord]) -> bool:
    """Return whether numbers are all complete, and of the same thing."""
    same = {(one.comparability_key, one.unit, one.relation, one.conversion, one.training) for one in records}
    return len(same) == 1 and all(one.status is Status.OK and one.value is not None for one in records)
