"""One job of another package's trainer: all its learning rates, judged by the adapter that predicts later."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from mlipbench.checkpoint import RECORD_FILE, is_checkpoint, read_checkpoint
from mlipbench.errors import ConfigError, WorkerError
from mlipbench.recipe import Event, EventKind
from mlipbench.training.bridges.bridge import Material
from mlipbench.training.bridges.candidate import Candidates, judged, write_untested
from mlipbench.training.bridges.report import Report
from mlipbench.training.curve import DivergedError, summary
from mlipbench.training.events import EventLog

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.checkpoint import CheckpointRecord
    from mlipbench.recipe import TrainingJob
    from mlipbench.training.bridges.bridge import Bridge

STATES: Final = "states"
"""Folder, inside that of the job, of the states of unfinished trainings."""


def train_bridged(job: TrainingJob, folder: Path, bridge: type[Bridge]) -> CheckpointRecord:
    """Train a job and write its checkpoint; one that was finished before is only reported.

    Args:
        job: What is trained.
        folder: The folder that is worked in.
        bridge: Drives the package's trainer.

    Raises:
        ConfigError: The recipe does not fit the data or the model, or the folder holds something else.
        DatasetError: The data cannot be used.
        WorkerError: The trainer died, or the loss diverges at every learning rate.
    """
    events = EventLog(folder)
    if is_checkpoint(folder):
        record = read_checkpoint(folder)
        if record.identity != job.identity:
            raise ConfigError("the folder holds another checkpoint", file=folder, remedy="choose another folder")
    else:
        driven = bridge(job, Material.of(job))
        candidates = _train_grid(driven, folder / STATES, events)
        record = candidates.best_into(folder)
    shutil.rmtree(folder / STATES, ignore_errors=True)
    events.write(Event(kind=EventKind.DONE, learning_rate=record.learning_rate, text=summary(record)))
    events.close()
    return record


def _train_grid(bridge: Bridge, states: Path, events: EventLog) -> Candidates:
    """Train every learning rate, and return those that came to something."""
    recipe = bridge.job.recipe
    found: list[Path] = []
    lost = None
    n_train = bridge.material.train.n_structures
    per_epoch = -(-n_train // min(recipe.batch, n_train))
    for learning_rate in recipe.learning_rates:
        folder = states / repr(learning_rate)
        report = Report(folder, bridge.job, learning_rate, (bridge.steps, per_epoch), events)
        finished = folder / "checkpoint"
        if report.progress.lost is None and not (finished / RECORD_FILE).is_file():
            _train_one(bridge, folder, report)
        if report.progress.lost is None:
            found.append(finished)
        lost = report.progress.lost or lost
    if not found:
        grid = "" if len(recipe.learning_rates) == 1 else "every learning rate diverged; the last one: "
        raise WorkerError(f"{grid}{lost}")
    return Candidates(tuple(found))


def _train_one(bridge: Bridge, folder: Path, report: Report) -> None:
    """Train at one learning rate, and leave a checkpoint with its verdict in the folder."""
    try:
        made = bridge.train(folder / "package", report.learning_rate, report)
        untested = write_untested(bridge, made, report.progress, folder / "untested", report.learning_rate)
        record = judged(bridge, untested, report)
    except DivergedError as error:
        report.lose(error)
        return
    untested.rename(folder / "checkpoint")
    share = record.verdict.ratio
    report.end("" if share is None else f"forces MAE over that of zero forces {share:.3f}")
