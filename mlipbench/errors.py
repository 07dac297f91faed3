"""Errors that reach a user, each with the exit code it ends the command with.

Every error is one line that names the file, the record or field, and the remedy.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of every verb."""

    DONE = 0
    NEGATIVE_VERDICT = 1
    USAGE = 2
    TASKS_FAILED = 3
    MISSING = 4
    NOTHING = 5
    LATER = 75
    INTERRUPTED = 130


class MlipbenchError(Exception):
    """Base of all errors a user may see.

    Args:
        problem: What is wrong, without a full stop.
        file: The file concerned.
        where: The record or field inside the file, such as ``frame 3`` or ``models[0]``.
        remedy: What to do about it.
    """

    exit_code = ExitCode.USAGE

    def __init__(
        self, problem: str, *, file: str | Path | None = None, where: str | None = None, remedy: str | None = None
    ) -> None:
        """Store the parts; `str` joins them into one line."""
        super().__init__(problem)
        self.problem = problem
        self.file = file
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the message as one line."""
        parts = [str(part) for part in (self.file, self.where, self.problem) if part]
        line = ": ".join(parts)
        if self.remedy:
            line = f"{line}; {self.remedy}"
        return " ".join(line.split())


class LaterError(MlipbenchError):
    """Nothing is wrong, and the same command can do what is asked for at another time or in another job."""

    exit_code = ExitCode.LATER


class ConfigError(MlipbenchError):
    """A suite, card, dataset entry or argument is invalid."""


class DatasetError(MlipbenchError):
    """A data file is invalid or does not hold what its entry declares."""


class ResultsError(MlipbenchError):
    """A results directory is damaged or belongs to something else."""


class PrerequisiteError(MlipbenchError):
    """Something needed is missing: an environment, data, a device, consent, disk space."""

    exit_code = ExitCode.MISSING


class StorageError(PrerequisiteError):
    """The disk is full; nothing a model could be blamed for."""


class DiskFilledError(StorageError):
    """The disk filled during a simulation; what was simulated is kept, and the same command goes on."""

    exit_code = ExitCode.TASKS_FAILED


class NothingSelectedError(MlipbenchError):
    """Nothing was selected or nothing could be measured."""

    exit_code = ExitCode.NOTHING


class WorkerError(MlipbenchError):
    """A model or its worker process failed; recorded per structure or per task.

    Attributes:
        detail: The worker's traceback or the tail of its log, for the run's log file.
    """

    exit_code = ExitCode.TASKS_FAILED

    def __init__(self, problem: str, *, detail: str = "", remedy: str | None = None) -> None:
        """Store the detail beside the one-line problem."""
        super().__init__(problem, remedy=remedy)
        self.detail = detail


def from_os_error(error: OSError, path: str | Path) -> MlipbenchError:
    """Turn a failed write into the error a user sees.

    Args:
        error: The error of the operating system.
        path: What was being written.
    """
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        full = error.errno != errno.EFBIG
        return StorageError(
            "no space left on the device" if full else str(error.strerror),
            file=path,
            remedy="free some space and give the same command again",
        )
    return MlipbenchError(error.strerror or str(error), file=path)
