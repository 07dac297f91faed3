"""Scores of one split, block by block of its stored predictions."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.errors import ResultsError
from mlipbench.metrics.density import BINS, LIMIT, LINEAR
from mlipbench.metrics.values import StructureErrors
from mlipbench.scoring.physics import score_probed
from mlipbench.scoring.relative import relative_errors
from mlipbench.scoring.relaxation import score_relaxed
from mlipbench.scoring.s2ef import score_predicted
from mlipbench.status import Task
from mlipbench.store.distributions import DistributionsRecord, ForceDensityRecord
from mlipbench.store.predictions import State, read_predictions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mlipbench.metrics.catalogue import ScoreColumns
    from mlipbench.metrics.density import ForceDensity
    from mlipbench.scoring.scored import Scored
    from mlipbench.scoring.treatment import Treatment
    from mlipbench.store.predictions import PredictionBlock
    from mlipbench.structures.columnar import Split
    from mlipbench.typing import BoolArray, IntArray, StrArray

    Scorer = Callable[[Split, PredictionBlock, int, Treatment], Scored]

_SCORERS: Final[Mapping[Task, Scorer]] = MappingProxyType(
    {Task.S2EF: score_predicted, Task.RELAXATION: score_relaxed, Task.PHYSICS: score_probed}
)


@dataclass(frozen=True, slots=True, eq=False)
class SplitScores:
    """Scores of the structures of one split.

    Attributes:
        errors: The score columns of the task.
        state: Shape (n_structures,), `State` of each structure.
        energy_applicable: Shape (n_structures,), whether the energy could be brought to the labels' reference.
        clusters: Shape (n_structures,), cluster codes.
        ids: Shape (n_structures,), names.
        declined: Reasons of structures the model declines, with the number of structures of each.
        distributions: What plots show beside the scores; None where there is nothing.
    """

    errors: ScoreColumns
    state: IntArray
    energy_applicable: BoolArray
    clusters: IntArray
    ids: StrArray
    declined: Mapping[str, int]
    distributions: DistributionsRecord | None = None


def score_split(path: Path, task: Task, split: Split, size: int, treatment: Treatment) -> SplitScores:
    """Score one split.

    Args:
        path: Parquet file of the predictions.
        task: What was predicted.
        split: The data.
        size: Structures that must have been predicted.
        treatment: What counts, and how energies are compared.

    Raises:
        ResultsError: The predictions are damaged or do not fit the split.
    """
    scores: list[ScoreColumns] = []
    applicable: list[BoolArray] = []
    states: list[IntArray] = []
    density: ForceDensity | None = None
    declined: dict[str, int] = {}
    start = 0
    for block in read_predictions(path, task):
        stop = start + len(block)
        if stop > size or not np.array_equal(np.diff(block.offsets), split.counts[start:stop]):
            raise ResultsError("the predictions do not fit the split's structures", file=path)
        scored = _SCORERS[task](split, block, start, treatment)
        scores.append(scored.errors)
        applicable.append(scored.applicable)
        states.append(block.state)
        if scored.density is not None:
            density = scored.density if density is None else density + scored.density
        for place in np.flatnonzero(block.state == State.NOT_APPLICABLE):
            reason = block.reasons.get(int(place), "no reason given")
            declined[reason] = declined.get(reason, 0) + 1
        start = stop
    if start != size:
        raise ResultsError(f"predictions of {start} structures, expected {size}", file=path)
    errors = _join(scores)
    if isinstance(errors, StructureErrors) and split.has_cluster_names:
        errors = replace(errors, relative_energy_error=relative_errors(errors.energy_error, split))
    return SplitScores(
        errors=errors,
        state=np.concatenate(states),
        energy_applicable=np.concatenate(applicable),
        clusters=np.asarray(split.clusters[:size]),
        ids=split.ids[:size],
        declined=declined,
        distributions=None if density is None else DistributionsRecord(forces=_stored(density)),
    )


def _stored(density: ForceDensity) -> ForceDensityRecord:
    cells = np.flatnonzero(density.counts)
    return ForceDensityRecord(
        limit=LIMIT,
        linear=LINEAR,
        bins=BINS,
        cells=cells.tolist(),
        counts=density.counts.ravel()[cells].tolist(),
        reference_beyond=density.reference_beyond,
        predicted_beyond=density.predicted_beyond,
    )


def _join(parts: Sequence[ScoreColumns]) -> ScoreColumns:
    columns: dict[str, Any] = {}
    for field in fields(parts[0]):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = None if values[0] is None else np.concatenate(values)
    return type(parts[0])(**columns)
