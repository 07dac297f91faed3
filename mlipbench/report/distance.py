"""How far measured numbers are from published ones under the same protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlipbench.report.notes import training_facts
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.published import Protocol, PublishedNumber, Reference
    from mlipbench.store.records import MetricRecord


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a measured number is from a published one.

    Attributes:
        value: Measured minus published, in the unit of the metric.
        citation: Where the published number stands.
        words: The same for a reader.
    """

    value: float
    citation: str
    words: str


def distance(run: RunRecord, record: MetricRecord, published: Iterable[RunRecord]) -> Distance | None:
    """Return how far a number is from the first published one of the same model under the same protocol, if any.

    The protocol is the same if dataset, split, task and metric are, if the whole split was taken and has as many
    structures as published, if the task's parameters are those that the publication states, and if the model was
    trained by the recipe that stands for the publication's training, on as many structures. What the publication
    leaves open is not compared.

    Args:
        run: A measured run.
        record: One of its numbers.
        published: What `collect` found, of which published numbers count.
    """
    if record.value is None:
        return None
    for one in published:
        if one.reference is None or one.reference.row.model != run.model:
            continue
        found = one.reference.number(record)
        if found is not None and _same(run, record, one.reference.table.protocol):
            return _distance(record.value, found, one.reference)
    return None


def _distance(value: float, found: PublishedNumber, reference: Reference) -> Distance:
    difference = value - found.value
    share = f" ({100 * difference / found.value:+.1f} %)" if found.value else ""
    shown = f"{difference / float(found.column.factor):+.{found.decimals}f}"
    unit = "" if found.column.unit == "1" else f" {found.column.unit}"
    published = f"the published {found.text}{unit} ({reference.citation}, {reference.row.name})"
    return Distance(difference, reference.citation, f"{shown}{unit}{share} from {published}")


def _same(run: RunRecord, record: MetricRecord, protocol: Protocol) -> bool:
    """Return whether all of a protocol that can be established is that of a measured number."""
    splits = run.manifest.splits if run.manifest else []
    place = (record.task, record.dataset, record.split)
    split = next((one for one in splits if (one.task, one.dataset, one.split) == place), None)
    if split is None or record.dataset != protocol.dataset:
        return False
    if split.task is not Task.MD:  # which selects frames to start from
        expected = protocol.structures.get(split.split, split.n_expected)
        if split.selection != "all" or split.n_expected != expected:
            return False
    if not _within(protocol.parameters.get(split.task, {}), split.parameters):
        return False
    if protocol.recipe is None:
        return True
    facts = training_facts(run, record.dataset)
    recipe = str(facts.get("recipe", "")).partition(" ")[0]
    return recipe == protocol.recipe and protocol.n_train in {None, facts.get("n_train")}


def _within(stated: Mapping[str, Any], taken: Mapping[str, Any]) -> bool:
    """Return whether all that is stated was taken, part by part where both have parts."""
    for name, value in stated.items():
        own = taken.get(name)
        same = _within(value, own) if isinstance(value, dict) and isinstance(own, dict) else value == own
        if not same:
            return False
    return True
