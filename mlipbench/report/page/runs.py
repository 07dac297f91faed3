"""What is known of a run, as its section of the page shows it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.metrics.catalogue import find_metric
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.comparison.scores import ScoreReader
    from mlipbench.report.page.anchors import Anchors
    from mlipbench.store.records import DatasetIdentity, Manifest, MetricRecord, SplitRecord

_MOST_NAMED: Final = 50


@dataclass(frozen=True, slots=True)
class Facts:
    """Some facts of a run.

    Attributes:
        title: What they are about.
        items: Terms with their values.
    """

    title: str
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a split.

    Attributes:
        record: As the manifest has it.
        without: Names of structures that have no prediction.
        n_more: How many more there are.
    """

    record: SplitRecord
    without: tuple[str, ...] = ()
    n_more: int = 0


@dataclass(frozen=True, slots=True)
class Number:
    """One number with all that is known of it.

    Attributes:
        anchor: Name of its row.
        record: As stored.
        title: Title of the metric.
        value: Value in full, with its unit.
        interval: 95 % interval in full.
        counted: Structures that entered, and independent clusters among them.
        said: Why its status is not ok, how energies were converted, and what must be known of the training data.
    """

    anchor: str
    record: MetricRecord
    title: str
    value: str
    interval: str
    counted: str
    said: str


@dataclass(frozen=True, slots=True)
class RunSection:
    """One run.

    Attributes:
        anchor: Name of the section.
        title: Model and variant.
        summary: What tells it from other runs.
        citation: Where published numbers stand; empty for a run.
        commands: How to repeat it.
        caution: What keeps these commands from repeating it exactly; empty where nothing is known to.
        facts: Identities, settings, hardware and versions.
        outcomes: What became of its splits.
        packages: Names and versions of all packages of the model's environment.
        numbers: Its numbers.
    """

    anchor: str
    title: str
    summary: str
    citation: str
    commands: tuple[str, ...]
    caution: str
    facts: tuple[Facts, ...]
    outcomes: tuple[Outcome, ...]
    packages: tuple[tuple[str, str], ...]
    numbers: tuple[Number, ...]


def run_section(run: RunRecord, anchors: Anchors, scores: ScoreReader) -> RunSection:
    """Return what the page says of a run, or of a model of a publication.

    Args:
        run: The run.
        anchors: Where runs and numbers stand.
        scores: Where the names of structures come from.

    Raises:
        ResultsError: A file of scores is damaged.
    """
    manifest = run.manifest
    reference = run.reference
    apart = "mean over runs of the same training but for its seed"
    if reference is not None:
        apart = f"published, {reference.publication.publication}, {reference.table.place}"
    seed = "" if run.seed is None else f", seed {run.seed}"
    return RunSection(
        anchor=anchors.run(run),
        title=f"{run.model}, {run.variant}{seed}" if reference is None else reference.row.name,
        summary=apart if manifest is None else f"suite {manifest.suite.name}, {manifest.started[:10]}",
        citation="" if reference is None else f"{reference.citation}, {reference.publication.url}",
        commands=() if manifest is None else tuple(_commands(manifest)),
        caution="" if manifest is None else _caution(manifest),
        facts=() if manifest is None else tuple(_facts(manifest)),
        outcomes=() if manifest is None else tuple(_outcomes(run, manifest, scores)),
        packages=() if manifest is None else tuple(sorted(manifest.environment.packages.items())),
        numbers=tuple(_number(run, record, anchors) for record in run.metrics),
    )


def _commands(manifest: Manifest) -> Iterator[str]:
    if manifest.git:
        yield f"git checkout {shlex.quote(clean(str(manifest.git.get('commit'))))}"
    if manifest.environment.name and manifest.environment.lock_sha256:
        yield f"mlipbench env create {shlex.quote(clean(manifest.environment.name))} --from requirements.lock"
    if manifest.arguments:
        yield f"mlipbench {shlex.join(clean(argument) for argument in manifest.arguments)}"


def _caution(manifest: Manifest) -> str:
    if not manifest.arguments:
        return "The arguments of the command were not kept."
    if manifest.git is None:
        return "The commit of the code was not kept; its version stands below."
    return "The code had changes that were not committed." if manifest.git.get("dirty") else ""


def _facts(manifest: Manifest) -> Iterator[Facts]:
    suite, variant = manifest.suite, manifest.variant
    state = f"{manifest.status.value}, {manifest.started} to {manifest.finished}"
    seconds = None if manifest.wall_seconds is None else f"{manifest.wall_seconds:g} s"
    yield _of(
        "Run",
        {
            "Run": manifest.run_id,
            "Status": state,
            "Wall time": seconds,
            "Resumed": manifest.resumed,
            "Suite": f"{suite.name} version {suite.version}, sha256 {suite.sha256}",
            "Plan": f"sha256 {manifest.plan_sha256}",
            "Code": manifest.code_version,
            "Git": manifest.git,
        },
    )
    settings = {
        "Variant": variant.name,
        "Precision": variant.precision,
        "Device": variant.device,
        "Batch": variant.batch,
        "Settings": variant.settings,
        "Seed": manifest.seed,
        "Threads": manifest.threads,
    }
    yield _of("Settings", settings)
    yield _model(manifest)
    yield from (_dataset(manifest, dataset) for dataset in manifest.datasets)
    yield _of("Hardware", {"Harness": manifest.hardware.get("parent"), "Worker": manifest.hardware.get("worker")})
    versions = {side.capitalize(): found for side, found in manifest.packages.items()}
    environment = manifest.environment
    own = {"Environment": environment.name, "Origin": environment.how, "Python": environment.python}
    lock = {"Lock": environment.lock_sha256 and f"sha256 {environment.lock_sha256}"}
    yield _of("Packages", versions | own | lock)


def _model(manifest: Manifest) -> Facts:
    card = manifest.model.card
    known = {
        "Card": f"{manifest.model.name}, sha256 {manifest.model.card_sha256}",
        "Parameters": manifest.environment.parameters,
        "Trusted by the user": manifest.model.trusted_by_user or None,
    }
    shown = ("adapter", "kwargs", "capabilities", "training_data", "licence", "paper", "note")
    told = {name.replace("_", " ").capitalize(): card.get(name) for name in shown}
    weights = {f"Checkpoint on {name}": facts for name, facts in manifest.model.checkpoints.items()}
    return _of("Model", known | told | weights)


def _dataset(manifest: Manifest, dataset: DatasetIdentity) -> Facts:
    route = next((one for one in manifest.routes if one.dataset == dataset.name), None)
    used = {split.split for split in manifest.splits if split.dataset == dataset.name}
    conversion = route and {
        "shift": route.shift, "fitted on": route.fit, "corrections": route.corrections, "refused": route.refusal
    }  # fmt: skip
    return _of(
        f"Dataset {dataset.name}",
        {
            "Title": dataset.title,
            "Level of theory": dataset.level_of_theory,
            "Energy reference": dataset.energy_reference,
            "Conversion of energies": _plain(conversion) or "none",
            "Note": dataset.note,
            "Licence": dataset.entry.get("licence"),
            "Citation": dataset.entry.get("citation"),
            "Address": dataset.entry.get("url"),
            "Content of splits": {name: sha for name, sha in dataset.splits.items() if name in used},
            "References": dataset.references_sha256 and f"sha256 {dataset.references_sha256}",
            "Factors": dataset.factors_sha256 and f"sha256 {dataset.factors_sha256}",
        },
    )


def _of(title: str, items: Mapping[str, Any]) -> Facts:
    """Return what is known of some terms; those of which nothing is known are left out."""
    told = ((term, _plain(value)) for term, value in items.items())
    return Facts(title, tuple((term, text) for term, text in told if text))


def _plain(value: Any) -> str:
    """Return plain data as one line; empty where there is nothing."""
    if value is None or value == "":
        return ""
    if isinstance(value, dict):
        parts = ((str(key), _plain(part)) for key, part in value.items())
        return ", ".join(f"{key} {text}" for key, text in parts if text)
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_plain, value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _outcomes(run: RunRecord, manifest: Manifest, scores: ScoreReader) -> Iterator[Outcome]:
    for split in manifest.splits:
        some = split.n_predicted and (split.n_failed or split.n_not_applicable)
        names = _without(run, split, scores) if some else ()
        yield Outcome(split, names[:_MOST_NAMED], max(0, len(names) - _MOST_NAMED))


def _without(run: RunRecord, split: SplitRecord, scores: ScoreReader) -> tuple[str, ...]:
    """Return the names of the structures of a split that have no prediction; empty where there are no scores."""
    place = (split.task, split.dataset, split.split)
    record = next((one for one in run.metrics if (one.task, one.dataset, one.split) == place), None)
    table = None if record is None else scores.read(run, record)
    return () if table is None else table.names(np.flatnonzero(~table.ok))


def _number(run: RunRecord, record: MetricRecord, anchors: Anchors) -> Number:
    definition = find_metric(record.task, record.metric)
    unit = "" if record.unit == "1" else f" {record.unit}"
    interval = "" if record.ci_low is None or record.ci_high is None else f"{record.ci_low!r} to {record.ci_high!r}"
    clusters = f", {record.n_clusters} independent" if record.n_clusters else ""
    said: Iterable[str | None] = (
        record.reason,
        record.conversion and f"energies: {record.conversion}",
        record.training,
    )
    return Number(
        anchor=anchors.number(run, record),
        record=record,
        title=definition.title if definition else record.metric,
        value="" if record.value is None else f"{record.value!r}{unit}",
        interval=interval,
        counted=f"{record.n}{clusters}",
        said="; ".join(filter(None, said)),
    )
