"""Scores and metrics of a whole run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.datasets.entry import GAP, DatasetEntry
from mlipbench.datasets.factors import open_factors
from mlipbench.datasets.prepare import open_split
from mlipbench.datasets.references import reference_map
from mlipbench.errors import ConfigError, ResultsError
from mlipbench.metrics.catalogue import find_metric
from mlipbench.metrics.definition import evaluate, numerator_denominator
from mlipbench.metrics.resampling import Bootstrap
from mlipbench.metrics.two_way import Crossed, two_way_interval
from mlipbench.metrics.values import StructureErrors
from mlipbench.plan.open import references_sha256
from mlipbench.scoring.adsorption import AdsorptionReferences
from mlipbench.scoring.conversion import fit_shift
from mlipbench.scoring.corrections import label_correction
from mlipbench.scoring.dynamics import Compared, score_simulations
from mlipbench.scoring.efficiency import read_costs
from mlipbench.scoring.files import write_scores
from mlipbench.scoring.gap import gap_record
from mlipbench.scoring.split import score_split
from mlipbench.scoring.treatment import Treatment
from mlipbench.status import Role, Status, Task
from mlipbench.store.files import write_atomically
from mlipbench.store.predictions import State, read_predictions
from mlipbench.store.records import MetricRecord
from mlipbench.store.rundir import MANIFEST, RunDirectory
from mlipbench.yamlfile import validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mlipbench.datasets.factors import FactorTable
    from mlipbench.datasets.prepare import DataLocation
    from mlipbench.metrics.cost_columns import Costs
    from mlipbench.metrics.definition import MetricDefinition
    from mlipbench.scoring.conversion import EnergyShift
    from mlipbench.scoring.split import SplitScores
    from mlipbench.store.records import CellRecord, Manifest, RouteRecord, SplitRecord
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray, FloatArray, IntArray

BOOTSTRAP: Final = Bootstrap(seed=2311_02869)


@dataclass(frozen=True, slots=True, eq=False)
class _Dataset:
    """One dataset of a run, opened for scoring."""

    directory: RunDirectory
    entry: DatasetEntry
    splits: Mapping[str, Split]
    records: Mapping[tuple[Task, str], SplitRecord]
    route: RouteRecord
    location: DataLocation
    factors: FactorTable | None

    @property
    def references_failed(self) -> bool:
        """Whether predictions of reference structures failed; that the model declines some is no failure."""
        references = self.entry.references
        record = self.records.get((Task.S2EF, references.split)) if references is not None else None
        return record is not None and record.n_failed > 0

    def taken(self, record: SplitRecord) -> Split:
        """Return the structures that were predicted."""
        split = self.splits[record.split]
        return split if record.places is None else split.subset(np.asarray(record.places, dtype=np.int64))

    def compared(self, record: SplitRecord) -> Compared:
        """Return what the simulations of a split are compared with."""
        reference = self.splits[record.parameters["reference"]]
        return Compared(reference, self.entry.frame_interval_fs, self.location.cache)

    def predicted_energy(self, split: str) -> tuple[FloatArray, BoolArray]:
        """Return the predicted energies of a split as it is, eV, and where there are any."""
        record = self.records[Task.S2EF, split]
        size = record.n_expected
        if record.status in {Status.NOT_APPLICABLE, Status.FAILED}:
            return np.full(size, np.nan), np.zeros(size, dtype=np.bool_)
        path = self.directory.predictions(record.task, record.dataset, split)
        blocks = read_predictions(path, record.task)
        parts = [(block.columns["energy"], block.state) for block in blocks]  # the forces are let go of
        energy = np.concatenate([np.zeros(0), *(part[0] for part in parts)])
        state = np.concatenate([np.zeros(0), *(part[1] for part in parts)])
        if len(energy) != size:
            raise ResultsError(f"predictions of {len(energy)} structures, expected {size}", file=self.directory.path)
        return energy, state == State.OK


def score_run(run: Path, location: DataLocation) -> list[MetricRecord]:
    """Rebuild scores and metrics of a run from its predictions, write them, and return the metrics.

    Args:
        run: The run directory.
        location: Where data are.

    Raises:
        ResultsError: The run is unfinished or damaged, or the data are not those it was made with.
        PrerequisiteError: Data are missing.
    """
    directory = RunDirectory(run)
    manifest = directory.manifest()
    if manifest.status is Status.RUNNING:
        raise ResultsError("this run is not finished", file=run, remedy="give the command that began it again")
    return score_manifest(directory, manifest, location)


def score_manifest(directory: RunDirectory, manifest: Manifest, location: DataLocation) -> list[MetricRecord]:
    """Score a run whose predictions are complete; see `score_run`."""
    records: list[MetricRecord] = []
    for identity in manifest.datasets:
        entry = validate(DatasetEntry, identity.entry, directory.path / MANIFEST)
        if identity.references_sha256 != references_sha256(entry, location):
            raise _other_data(f"{entry.name}'s references")
        factors = open_factors(entry, location)
        if identity.factors_sha256 != (factors.sha256 if factors else None):
            raise _other_data(f"{entry.name}'s factors")
        dataset = _Dataset(
            directory=directory,
            entry=entry,
            splits={name: _same_split(entry, name, known, location) for name, known in identity.splits.items()},
            records={(one.task, one.split): one for one in manifest.splits if one.dataset == identity.name},
            route=_route(directory, manifest, identity.name),
            location=location,
            factors=factors,
        )
        records += list(_score_dataset(dataset, manifest))
    directory.write_metrics(records)
    return records


def _route(directory: RunDirectory, manifest: Manifest, dataset: str) -> RouteRecord:
    for route in manifest.routes:
        if route.dataset == dataset:
            return route
    raise ResultsError(f"damaged: nothing is said of the energies of {dataset}", file=directory.path / MANIFEST)


def _same_split(entry: DatasetEntry, name: str, content_hash: str, location: DataLocation) -> Split:
    split = open_split(entry, name, location)
    if split.content_hash != content_hash:
        raise _other_data(f"{entry.name}/{name}")
    return split


def _other_data(what: str) -> ResultsError:
    return ResultsError(
        f"the data of {what} are not those this run was made with", remedy="point --data-root at the original files"
    )


def _score_dataset(dataset: _Dataset, manifest: Manifest) -> Iterator[MetricRecord]:
    records = list(_score_splits(dataset, manifest))
    yield from records
    for cell in manifest.cells:
        if (cell.dataset, cell.split) == (dataset.route.dataset, GAP) and dataset.entry.gap is not None:
            yield gap_record(cell, dataset.entry.gap, records)


def _score_splits(dataset: _Dataset, manifest: Manifest) -> Iterator[MetricRecord]:
    shift, no_shift = _shift(dataset)
    for (task, name), record in dataset.records.items():
        place = (task, record.dataset, name)
        cells = [cell for cell in manifest.cells if (cell.task, cell.dataset, cell.split) == place]
        if record.role is not Role.EVALUATE or not cells:
            continue
        if record.status in {Status.NOT_APPLICABLE, Status.FAILED}:
            yield from (_without_value(cell, record, cell.reason or record.reason) for cell in cells)
            continue
        if task is Task.EFFICIENCY:
            yield from _cost_records(cells, record, read_costs(dataset.directory, manifest, record))
            continue
        split = dataset.taken(record)
        treatment = Treatment(
            free_atoms_only=dataset.entry.free_atoms_only,
            shift=shift,
            references=_references(dataset, record),
            label_correction=label_correction(dataset.route.corrections, split, record.n_expected),
        )
        if task is Task.MD:
            scores = score_simulations(dataset.directory, record, split, dataset.compared(record))
        else:
            scores = score_split(dataset.directory.predictions(*place), task, split, record.n_expected, treatment)
        write_scores(dataset.directory.scores(*place), scores)
        if scores.distributions is not None:
            dataset.directory.write_distributions(*place, scores.distributions)
        levels = dataset.factors.levels(split) if dataset.factors else None
        for cell in cells:
            if no_shift and _definition(cell).needs_one_reference and cell.status is Status.OK:
                yield _without_value(cell, record, no_shift)
            else:
                found = _metric(cell, record, scores, references_failed=dataset.references_failed)
                yield found if levels is None else _with_two_way(found, _definition(cell), scores, levels)


def _shift(dataset: _Dataset) -> tuple[EnergyShift | None, str | None]:
    """Fit the shift the suite asks for and store it; or return why it cannot be had."""
    route = dataset.route
    if route.shift is None or route.fit is None or (Task.S2EF, route.fit) not in dataset.records:
        return None, None
    split = dataset.splits[route.fit]
    predictions, ok = dataset.predicted_energy(route.fit)
    if not ok.any():
        return None, f"nothing of {route.fit} was predicted, so the energy shift cannot be fitted"
    labels = split.energies(0, split.n_structures)
    correction = label_correction(route.corrections, split, split.n_structures)
    labels = labels if correction is None else labels + correction
    shift = fit_shift(split, labels, predictions, ok)
    path = dataset.directory.path / "conversions" / f"{route.dataset}.json"
    write_atomically(path, (json.dumps(shift.as_dict(route.fit), indent=1) + "\n").encode())
    return shift, None


def _references(dataset: _Dataset, record: SplitRecord) -> AdsorptionReferences | None:
    references = dataset.entry.references
    if references is None or references.split == record.split or (Task.S2EF, references.split) not in dataset.records:
        return None
    mapping = reference_map(dataset.entry, record.split, dataset.location)
    if mapping is None:
        return None
    if record.places is not None:
        mapping = mapping.subset(np.asarray(record.places, dtype=np.int64))
    predictions, ok = dataset.predicted_energy(references.split)
    labels = dataset.splits[references.split].energies(0, len(predictions))
    return AdsorptionReferences(mapping, labels, np.where(ok, predictions, np.nan))


def _metric(cell: CellRecord, record: SplitRecord, scores: SplitScores, *, references_failed: bool) -> MetricRecord:
    if cell.status is not Status.OK:
        return _without_value(cell, record, cell.reason)
    definition = _definition(cell)
    include = _included(definition, scores)
    value = evaluate(definition, scores.errors, scores.clusters, include, BOOTSTRAP)
    without = _without_references(scores) if definition.own_references else 0
    reasons = [value.reason, _declined(scores)]
    if without:
        reasons.append(f"{without} structures have no adsorption energy, because a reference has no prediction")
    if record.n_failed:
        reasons.append(f"{record.n_failed} of {record.n_expected} structures failed: {record.reason}")
    if include is not None and (outside := int(np.sum((scores.state == State.OK) & ~include))):
        reasons.append(f"the energy shift is not determined for {outside} structures, which are left out")
    lost = bool(record.n_failed or (without and references_failed))
    if value.value is None:
        status = Status.FAILED if lost else Status.NOT_APPLICABLE
    else:
        status = Status.PARTIAL if lost else Status.OK
    return MetricRecord(
        **_shared(cell),
        value=value.value,
        ci_low=value.ci_low,
        ci_high=value.ci_high,
        n=value.n,
        n_clusters=value.n_clusters,
        design_effect=value.design_effect,
        n_failed=record.n_failed,
        status=status,
        reason="; ".join(filter(None, reasons)) or None,
    )


def _cost_records(cells: list[CellRecord], record: SplitRecord, costs: Costs) -> Iterator[MetricRecord]:
    partial = record.status is Status.PARTIAL  # it predicts something else than it should
    for cell in cells:
        value = evaluate(_definition(cell), costs, np.zeros(0))
        measured = Status.PARTIAL if partial else Status.OK
        reasons = [value.reason, record.reason if partial else None]
        yield MetricRecord(
            **_shared(cell),
            value=value.value,
            ci_low=value.ci_low,
            ci_high=value.ci_high,
            n=value.n,
            n_failed=record.n_failed,
            status=Status.NOT_APPLICABLE if value.value is None else measured,
            reason="; ".join(filter(None, reasons)) or None,
        )


def _included(definition: MetricDefinition[Any], scores: SplitScores) -> BoolArray | None:
    return scores.energy_applicable if definition.needs_one_reference else None


def _with_two_way(
    record: MetricRecord, definition: MetricDefinition[Any], scores: SplitScores, levels: tuple[IntArray, IntArray]
) -> MetricRecord:
    """Return a number with its interval over both factors; as it is where it has no value."""
    if record.value is None:
        return record
    sums = numerator_denominator(definition, scores.errors, _included(definition, scores))
    size = len(sums[0])
    table = Crossed.of(*sums, *(codes[:size] for codes in levels))
    interval = two_way_interval(table, definition.scale.transform, BOOTSTRAP)
    return record.model_copy(update={"two_way_low": interval.low, "two_way_high": interval.high})


def _without_references(scores: SplitScores) -> int:
    """Count predicted structures without an adsorption energy."""
    errors = scores.errors.adsorption_energy_error if isinstance(scores.errors, StructureErrors) else None
    return 0 if errors is None else int(np.sum((scores.state == State.OK) & np.isnan(errors)))


def _declined(scores: SplitScores) -> str | None:
    if not scores.declined:
        return None
    return ", ".join(f"not applicable to {count} structures: {reason}" for reason, count in scores.declined.items())


def _without_value(cell: CellRecord, record: SplitRecord, reason: str | None) -> MetricRecord:
    failed = record.status is Status.FAILED and cell.status is Status.OK
    return MetricRecord(
        **_shared(cell),
        value=None,
        n_failed=record.n_failed,
        status=Status.FAILED if failed else Status.NOT_APPLICABLE,
        reason=reason,
    )


def _definition(cell: CellRecord) -> MetricDefinition[Any]:
    definition = find_metric(cell.task, cell.metric)
    if definition is None:
        raise ConfigError(f"unknown metric {cell.metric!r}")
    return definition


def _shared(cell: CellRecord) -> dict[str, object]:
    definition = _definition(cell)
    return {
        "task": cell.task,
        "dataset": cell.dataset,
        "split": cell.split,
        "metric": cell.metric,
        "unit": definition.unit,
        "direction": definition.direction,
        "comparability_key": cell.comparability_key,
        "conversion": cell.conversion,
        "relation": cell.relation,
        "training": cell.training,
    }
