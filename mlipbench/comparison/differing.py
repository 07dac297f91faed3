"""Which parts of the comparability keys of two numbers differ.

A key is a hash; what it was made of (`mlipbench.plan.cells`) stands in the manifests, all but the version of metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.datasets.entry import GAP
from mlipbench.metrics.catalogue import find_metric
from mlipbench.status import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.store.records import DatasetIdentity, Manifest, MetricRecord

_NONE: Final = "none"
_CONTENT: Final = "content of the split"
_GPU: Final = "GPU"
"""No part of the key, but times on two kinds of them say nothing of models."""


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """A part of the comparability key that differs.

    Attributes:
        field: What it is.
        a: Its value in A.
        b: Its value in B.
    """

    field: str
    a: str
    b: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.field}: {self.a} against {self.b}"


def differing(a: tuple[Manifest, MetricRecord], b: tuple[Manifest, MetricRecord]) -> tuple[FieldDifference, ...]:
    """Return what keeps two numbers of one metric from being compared; empty where nothing does.

    Args:
        a: Manifest and number of A.
        b: The same of B.
    """
    parts = [dict(_parts(*one)) for one in (a, b)]
    names = list(dict.fromkeys([*parts[0], *parts[1]]))
    pairs = ((name, parts[0].get(name, _NONE), parts[1].get(name, _NONE)) for name in names)
    found = tuple(FieldDifference(*pair) for pair in pairs if pair[1] != pair[2])
    (first, one), (second, other) = a, b
    if one.comparability_key == other.comparability_key:
        return tuple(difference for difference in found if difference.field.endswith((_CONTENT, _GPU)))
    if found:
        return found
    if first.code_version != second.code_version:
        return (FieldDifference("version of the metric, by mlipbench", first.code_version, second.code_version),)
    return (FieldDifference("comparability key", one.comparability_key, other.comparability_key),)


def _parts(manifest: Manifest, record: MetricRecord) -> Iterator[tuple[str, str]]:
    """Yield name and value of what the key of a number was made of."""
    identity = next((one for one in manifest.datasets if one.name == record.dataset), None)
    definition = find_metric(record.task, record.metric)
    if identity is None or definition is None:
        return
    yield "free_atoms_only", str(identity.entry.get("free_atoms_only", False))
    if record.split == GAP:
        gap = identity.entry.get("gap") or {}
        splits = [str(name) for name in (gap.get("base"), *(gap.get("others") or ()))]
        yield "splits of the gap", ", ".join(splits)
        for name in splits:
            for field, value in _of_split(manifest, record, name, identity):
                yield f"{name}: {field}", value
    else:
        yield from _of_split(manifest, record, record.split, identity)
    if definition.needs_one_reference:
        yield "conversion of energies", str(record.conversion or _NONE)
        yield from _of_fit(manifest, identity)
    if definition.own_references:
        references = (identity.entry.get("references") or {}).get("split")
        yield "content of the references", identity.splits.get(str(references), _NONE)
        yield "map of the references", str(identity.references_sha256 or _NONE)
    if definition.timed:
        yield from _conditions(manifest)


def _of_split(
    manifest: Manifest, record: MetricRecord, name: str, identity: DatasetIdentity
) -> Iterator[tuple[str, str]]:
    yield _CONTENT, identity.splits.get(name, _NONE)
    place = (record.task, record.dataset, name)
    known = next((one for one in manifest.splits if (one.task, one.dataset, one.split) == place), None)
    if known is None:
        return
    yield "selection", known.selection
    for field, value in known.parameters.items():
        yield f"parameter {field}", str(value)
    if "reference" in known.parameters and record.task == Task.MD:
        yield "content of the reference trajectory", identity.splits.get(str(known.parameters["reference"]), _NONE)


def _of_fit(manifest: Manifest, identity: DatasetIdentity) -> Iterator[tuple[str, str]]:
    route = next((one for one in manifest.routes if one.dataset == identity.name), None)
    if route is not None and route.fit is not None:
        yield "content of the split that the shift is fitted on", identity.splits.get(route.fit, _NONE)


def _conditions(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "device", manifest.variant.device
    yield "threads", str(manifest.threads)
    yield "processor", str(manifest.hardware.get("parent", {}).get("processor", "unknown"))
    if manifest.variant.device.startswith("cuda"):
        yield _GPU, str(manifest.hardware.get("worker", {}).get("gpu", "unknown"))
