"""What needs no statistics: structures that fail or are missing, and capabilities that are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from mlipbench.comparison.changes import Place
from mlipbench.elements import format_elements, parse_elements
from mlipbench.gate.baseline import named
from mlipbench.gate.findings import Finding, State
from mlipbench.models.card import CapabilitySpec
from mlipbench.models.interface import ForceKind
from mlipbench.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.store.records import Manifest, SplitRecord


def facts(base: RunRecord, head: RunRecord) -> Iterator[Finding]:
    """Yield what the head has lost against the baseline.

    Args:
        base: The run of the baseline.
        head: The run that is judged.
    """
    if base.manifest is None or head.manifest is None:
        return
    name = named(head)
    for said in _lost_capabilities(base.manifest, head.manifest):
        yield Finding(State.REGRESSION, name, "lost capability", said)
    there = {(one.task, one.dataset, one.split): one for one in head.manifest.splits}
    for split in base.manifest.splits:
        place = Place(split.task.value, split.dataset, split.split, "")
        other = there.get((split.task, split.dataset, split.split))
        if other is None:
            said = f"{split.n_expected} structures are no longer evaluated"
            yield Finding(State.REGRESSION, name, "lost split", said, place)
            continue
        yield from (Finding(State.REGRESSION, name, *one, place) for one in _fewer(split, other))


def _fewer(base: SplitRecord, head: SplitRecord) -> Iterator[tuple[str, str]]:
    """Yield what there is less of in a split, and in which words."""
    why = f": {head.reason}" if head.reason else ""
    if head.n_expected < base.n_expected:
        yield "fewer structures", f"{head.n_expected} of {base.n_expected}"
    if head.n_failed > base.n_failed:
        yield "failed structures", f"{base.n_failed} -> {head.n_failed} of {head.n_expected}{why}"
    if head.n_not_applicable > base.n_not_applicable:
        yield "declined structures", f"{base.n_not_applicable} -> {head.n_not_applicable} of {head.n_expected}{why}"
    elif base.status is not Status.NOT_APPLICABLE and head.status is Status.NOT_APPLICABLE:
        yield "lost task", head.reason or "not applicable"


def _lost_capabilities(base: Manifest, head: Manifest) -> Iterator[str]:
    first, second = (_declared(manifest.model.card) for manifest in (base, head))
    if first is None or second is None:
        return
    for name in ("stress", "pbc", "molecules"):
        if getattr(first, name) and not getattr(second, name):
            yield f"{name}: yes -> no"
    if first.forces is ForceKind.CONSERVATIVE and second.forces is not ForceKind.CONSERVATIVE:
        yield f"forces: {first.forces.value} -> {second.forces.value}"
    for name in ("dtypes", "devices"):
        if lost := set(getattr(first, name)) - set(getattr(second, name)):
            yield f"{name}: without {', '.join(sorted(lost))}"
    if more := set(second.needs) - set(first.needs):
        yield f"needs {', '.join(sorted(need.value for need in more))}"
    if first.elements and second.elements:
        covered, left = (parse_elements(one) for one in (first.elements, second.elements))
        if covered - left:
            yield f"elements: without {format_elements(covered - left)}"


def _declared(card: dict[str, Any]) -> CapabilitySpec | None:
    """Return what a stored card declares; None where this version of mlipbench cannot tell."""
    try:
        return CapabilitySpec.model_validate(card.get("capabilities"))
    except ValidationError:
        return None
