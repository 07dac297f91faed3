"""Learning curves: how they are written, compared and told, whoever trains."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

from mlipbench.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.checkpoint import CheckpointRecord, Evaluation

_COLUMNS: Final = ("step", "epoch", "seconds", "learning_rate", "loss", "energy_mae", "forces_mae")


class DivergedError(WorkerError):
    """The loss or its gradient is no longer a finite number."""


def write_log(path: Path, curve: Sequence[Evaluation], steps_per_epoch: int) -> None:
    """Write a learning curve as CSV, a row an evaluation.

    Args:
        path: The file.
        curve: The evaluations.
        steps_per_epoch: Optimiser steps of an epoch.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_COLUMNS)
        rows.writerows(_row(point, steps_per_epoch) for point in curve)


def append_log(path: Path, point: Evaluation, steps_per_epoch: int) -> None:
    """Append an evaluation to what `write_log` wrote."""
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(_row(point, steps_per_epoch))


def _row(point: Evaluation, steps_per_epoch: int) -> list[object]:
    values = {**dict(point), "epoch": point.step / steps_per_epoch, "seconds": f"{point.seconds:.3f}"}
    return [values[name] for name in _COLUMNS]


def criterion(point: Evaluation) -> float:
    """Return what validations are compared by: the force MAE, or the energy MAE where there are no forces."""
    return point.energy_mae if point.forces_mae is None else point.forces_mae


def errors_text(point: Evaluation) -> str:
    """Return the errors of a validation for people to read."""
    energy = f"energy {1000 * point.energy_mae:.4g} meV"
    return energy if point.forces_mae is None else f"forces {1000 * point.forces_mae:.4g} meV/Å, {energy}"


def summary(record: CheckpointRecord) -> str:
    """Return what a training came to in one line."""
    verdict = record.verdict
    state = "trained" if verdict.trained else "untrained"
    if verdict.ratio is None:
        return f"{record.name}: {state}, there are no forces to judge it by"
    ends = "no interval" if verdict.low is None else f"95 % interval {verdict.low:.3f} to {verdict.high:.3f}"
    return f"{record.name}: forces MAE over that of zero forces {verdict.ratio:.3f} ({ends}): {state}"
