"""What stands below a table: footnotes, and sentences on data and origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlipbench.checkpoint import TRAINED_SHARE
from mlipbench.datasets.entry import GAP
from mlipbench.report.standing import key_difference
from mlipbench.status import Role, Status, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.published import Protocol, Reference
    from mlipbench.report.grouping import Group
    from mlipbench.store.records import Manifest, MetricRecord


class Notes:
    """Numbers footnotes in the order of their first use."""

    def __init__(self) -> None:
        """Start without any."""
        self._numbers: dict[str, int] = {}

    def add(self, texts: Iterable[str]) -> tuple[int, ...]:
        """Return the numbers of some footnotes, new ones where they have none yet."""
        return tuple(sorted({self._numbers.setdefault(text, len(self._numbers) + 1) for text in texts}))

    @property
    def texts(self) -> tuple[str, ...]:
        """The footnotes; number 1 is the first."""
        return tuple(self._numbers)


def cell_notes(record: MetricRecord | None) -> tuple[str, ...]:
    """Return what must be known of one number, but for why it is not ranked."""
    if record is None:
        return ()
    reason = record.reason or "no reason is recorded"
    if record.status is Status.FAILED:
        return (f"failed: {reason}",)
    if record.status is Status.NOT_APPLICABLE:
        return (f"not applicable: {reason}",)
    found = [record.reason] if record.reason and record.status is not Status.PARTIAL else []
    if record.conversion:
        found.append(f"energies: {record.conversion}")
    return tuple(found)


def training_notes(records: Sequence[MetricRecord | None]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return what must be known of a model's training data: of its whole row, or else of each of its numbers.

    Args:
        records: The numbers of the row.

    Returns:
        The notes of the row, and those of each number; either is empty.
    """
    numbers = [record if record is not None and record.value is not None else None for record in records]
    said = {number.training for number in numbers if number is not None}
    if len(said) == 1:
        return tuple(text for text in said if text), ((),) * len(numbers)
    return (), tuple((number.training,) if number is not None and number.training else () for number in numbers)


def shared_notes(records: Sequence[MetricRecord | None]) -> tuple[str, ...]:
    """Return the notes that all numbers of a column have in common; they stand at its head."""
    noted = [cell_notes(record) for record in records if record is not None and record.value is not None]
    if len(noted) < 2:  # noqa: PLR2004 - one number shares nothing
        return ()
    return tuple(note for note in noted[0] if all(note in other for other in noted))


def row_notes(run: RunRecord, dataset: str) -> tuple[str, ...]:
    """Return what must be known of one model on one dataset."""
    note = run.manifest.model.card.get("note") if run.manifest else None
    trained = _trained(training_facts(run, dataset))
    return tuple(str(text) for text in (note, *trained) if text)


def training_facts(run: RunRecord, dataset: str) -> Mapping[str, Any]:
    """Return what the manifest keeps of the training of a network of ours; empty for other models."""
    facts = run.manifest.model.checkpoints.get(dataset, {}) if run.manifest else {}
    return facts if "verdict" in facts else {}


def _trained(facts: Mapping[str, Any]) -> Iterator[str]:
    if not facts:
        return
    verdict = facts["verdict"]
    data = f"{facts['n_train']} structures of {facts['dataset']}"
    length = f"{facts['steps']} steps at learning rate {facts['learning_rate']:g}"
    yield f"{facts['parameters']} parameters ({facts['preset']}); recipe {facts['recipe']} on {data}, {length}"
    if verdict["trained"]:
        return
    if verdict["ratio"] is None:
        yield "untrained: the validation structures have no forces to tell"
        return
    high = verdict["high"]
    bound = "too few clusters for an interval" if high is None else f"up to {high:.2f} within its interval"
    yield (
        f"untrained: on the validation structures the force MAE is {verdict['ratio']:.2f} of that of zero forces "
        f"({bound}), and a trained network stays below {TRAINED_SHARE:g}"
    )


def about_data(group: Group, home: Group) -> tuple[str, ...]:
    """Return sentences on the data behind a table.

    Args:
        group: The runs of the table.
        home: The first table of the same task and dataset.
    """
    manifests = [run.manifest for run in group.runs if run.manifest]
    sentences = []
    for manifest in manifests:
        for dataset in manifest.datasets:
            if dataset.name == group.dataset:
                reference = f"energies: {dataset.energy_reference}"
                sentences.append(f"{dataset.title}. Labels: {dataset.level_of_theory}; {reference}.")
                sentences.extend([dataset.note] if dataset.note else [])
    sentences.extend(_split_sentences(group, manifests))
    if group.task == Task.EFFICIENCY and not any(one.variant.device.startswith("cuda") for one in manifests):
        sentences.append("On a GPU (cuda): not measured.")
    sentences.extend(_two_way_sentences(group, manifests))
    if group.part:
        difference = key_difference(group, home)
        said = f" Between this table and the first one differ: {difference}." if difference else ""
        sentences.append(f"These numbers are not comparable with those of the other tables of this dataset.{said}")
    return tuple(dict.fromkeys(sentences))


def about_published(reference: Reference) -> tuple[str, ...]:
    """Return sentences on a published table: where it stands, how it was made, what is open and what is wrong."""
    table, protocol = reference.table, reference.table.protocol
    sentences = [f"Published, not measured: {reference.citation}; {reference.publication.url}", protocol.description]
    if any(row.model for row in table.rows):
        sentences.append(_protocol_sentence(protocol))
    if protocol.not_established:
        sentences.append(f"Not established: {'; '.join(protocol.not_established)}.")
    return (*sentences, *(f"Known defect: {text}" for text in table.defects))


def _protocol_sentence(protocol: Protocol) -> str:
    """Say when a measured number shows its distance; `mlipbench.report.distance` decides."""
    counts = ", ".join(f"{split} of {n:,} structures" for split, n in protocol.structures.items())
    parts = ["the split is whole" + (f" ({counts})" if counts else "")]
    parts += [
        f"the parameters of {task.value} are {', '.join(f'{name} {_flat(value)}' for name, value in stated.items())}"
        for task, stated in protocol.parameters.items()
    ]
    if protocol.recipe is not None:
        on = f" on {protocol.n_train:,} structures" if protocol.n_train else ""
        parts.append(f"the model was trained by the recipe {protocol.recipe}{on}")
    return (
        f"Measured numbers of the same model, task, split and metric of the dataset {protocol.dataset} show their "
        f"distance from these where {', and '.join(parts)}."
    )


def _flat(value: object) -> str:
    return " ".join(f"{key} {part}" for key, part in value.items()) if isinstance(value, dict) else str(value)


def split_head(group: Group, split: str) -> str:
    """Return what a split, or the gap between splits, is called at the head of a column."""
    for run in group.runs:
        for dataset in run.manifest.datasets if run.manifest else ():
            if dataset.name == group.dataset:
                found = dataset.entry.get("gap") if split == GAP else dataset.entry.get("splits", {}).get(split)
                return str((found or {}).get("title") or split)
    return split


def origin(records: Iterable[RunRecord]) -> tuple[str, ...]:
    """Return sentences on what produced the numbers."""
    manifests = [run.manifest for run in records if run.manifest]
    if not manifests:
        return ()
    suites = _joined(f"{manifest.suite.name} version {manifest.suite.version}" for manifest in manifests)
    versions = _joined(manifest.code_version for manifest in manifests)
    days = sorted(manifest.started[:10] for manifest in manifests)
    when = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    machines = _joined(_machine(manifest) for manifest in manifests)
    return (f"Suite: {suites}.", f"Produced by mlipbench {versions}, {when}.", f"Hardware: {machines}.")


def _split_sentences(group: Group, manifests: Sequence[Manifest]) -> list[str]:
    clusters: dict[str, int] = {}
    for run in group.runs:
        for record in run.metrics:
            if (record.task, record.dataset) == (group.task, group.dataset):
                clusters[record.split] = max(clusters.get(record.split, 0), record.n_clusters)
    sentences = []
    for split in (split for manifest in manifests for split in manifest.splits):
        if (split.task, split.dataset, split.role) == (group.task, group.dataset, Role.EVALUATE):
            part = "" if split.selection == "all" else f" ({split.selection})"
            independent = f", {clusters[split.split]} independent" if clusters.get(split.split) else ""
            structures = "1 structure" if split.n_expected == 1 else f"{split.n_expected} structures"
            sentences.append(f"Split {split.split}: {structures}{part}{independent}.")
    return sentences


def _two_way_sentences(group: Group, manifests: Sequence[Manifest]) -> Iterator[str]:
    """Say what the intervals leave out, where there are others that do not."""
    records = [record for run in group.runs for record in run.metrics if record.dataset == group.dataset]
    if all(record.two_way_low is None for record in records):
        return
    for dataset in (dataset for manifest in manifests for dataset in manifest.datasets):
        if dataset.name == group.dataset and dataset.entry.get("factors"):
            words = dataset.entry["factors"]["words"]
            yield (
                f"Intervals are given these {words}; those over {words} as well stand in leaderboard.csv "
                f"(two_way_low, two_way_high)."
            )


def _machine(manifest: Manifest) -> str:
    """Return the machine of the harness, and what the run used of it."""
    machine = manifest.hardware.get("parent", {})
    facts = [str(machine["processor"])] if machine.get("processor") else []
    facts += [f"{machine['cores']} cores"] if machine.get("cores") else []
    facts += [f"{machine['memory_gib']} GiB"] if machine.get("memory_gib") else []
    used = f"device {manifest.variant.device}, {manifest.threads} {'thread' if manifest.threads == 1 else 'threads'}"
    return ", ".join([*facts, used])


def device_of(manifest: Manifest) -> str:
    """Return the device that a run's times were measured on, such as ``cuda: NVIDIA H200``."""
    device = manifest.variant.device
    if device.startswith("cuda"):
        return f"{device}: {manifest.hardware.get('worker', {}).get('gpu', 'unknown')}"
    threads = f"{manifest.threads} {'thread' if manifest.threads == 1 else 'threads'}"
    return f"{device}: {manifest.hardware.get('parent', {}).get('processor', 'unknown')}, {threads}"


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(sorted(set(texts)))
