"""Checkpoints that recipes make: trained where they are missing, and what is known of them."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING, Any

from mlipbench.checkpoint import CheckpointRecord, checkpoint_sha256, is_checkpoint, read_checkpoint
from mlipbench.errors import ConfigError, ResultsError, from_os_error
from mlipbench.execution.training import TrainingProcess, train
from mlipbench.recipe import Trainer
from mlipbench.trusted import admit

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.plan.training import PlannedTraining
    from mlipbench.progress import Display


def ensure_trained(
    training: PlannedTraining, display: Display, processes: int = 1, *, trust: bool = False
) -> CheckpointRecord:
    """Return the record of a checkpoint, trained first unless it is there.

    Args:
        training: What is trained, and where.
        display: Shows progress.
        processes: Processes that train together.
        trust: Consent to a checkpoint that is there, is a pickle and was not made here.

    Raises:
        ConfigError: A package's trainer works in one process.
        MlipbenchError: As of `mlipbench.execution.training.train`.
        PrerequisiteError: The environment is missing, or a checkpoint that is there needs `trust`.
        ResultsError: Another process trains it now.
    """
    if is_checkpoint(training.folder):
        found = read_checkpoint(training.folder)
        if found.pickled:
            admit(training.folder / found.weights_file, found.weights_sha256, trust=trust)
        return found
    if processes > 1 and training.job.trainer is not Trainer.NETS:
        raise ConfigError(
            f"the trainer of {training.job.net} works in one process here", where="--processes", remedy="leave it out"
        )
    python = training.environment.interpreter()
    try:
        training.folder.mkdir(parents=True, exist_ok=True)
        with (training.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResultsError(
                    "another process trains this checkpoint now", file=training.folder, remedy="wait for it to end"
                ) from None
            train(training.job, training.folder, TrainingProcess(python, processes), display)
    except OSError as error:
        raise from_os_error(error, training.folder) from None
    return read_checkpoint(training.folder)


def checkpoint_facts(folder: Path) -> dict[str, Any]:
    """Return what a manifest keeps of a checkpoint of ours.

    Args:
        folder: Its folder.

    Raises:
        ConfigError: It is damaged.
        PrerequisiteError: A file is missing.
    """
    record = read_checkpoint(folder)
    return {
        "name": record.name,
        "sha256": checkpoint_sha256(folder),
        "identity": record.identity,
        "net": record.net,
        "trainer": record.trainer.value,
        "parameters": record.parameters,
        "preset": record.recipe.preset,
        "recipe": f"{record.recipe.recipe} version {record.recipe.version}",
        "dataset": record.data.dataset,
        "n_train": record.data.n_train,
        "seed": record.recipe.seed,
        "learning_rate": record.learning_rate,
        "steps": next(c.steps for c in record.candidates if c.learning_rate == record.learning_rate),
        "training_seconds": sum(candidate.seconds for candidate in record.candidates),
        "step_times": None if record.step_times is None else record.step_times.model_dump(mode="json"),
        "verdict": record.verdict.model_dump(mode="json"),
        "code": record.code,
    }
