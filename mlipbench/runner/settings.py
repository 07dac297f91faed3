"""How a plan is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mlipbench.version import PACKAGE

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class WorkerCode:
    """Which code workers run besides what their environment holds.

    Attributes:
        package: Folder of the mlipbench.
        overlay: Folder of packages that go before those of the environment, or None.
    """

    package: Path = PACKAGE
    overlay: Path | None = None


RUNNING: Final = WorkerCode()
"""The code that runs, and the packages of the environment."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a plan is carried out.

    Attributes:
        results: Folder of results; runs go to ``runs/<suite>/<model>/<run id>`` below it.
        again: Start new runs even of plans that are finished.
        arguments: The command line, for the record.
        memory_limit: Largest resident memory of a worker in bytes, or None.
        request_timeout: Seconds a worker has to answer one batch.
        code: Which code workers run.
        shards: Into how many shards the splits of a new run are cut, and those of an unfinished one have to be; None
            leaves the latter as it is, and does not cut the former.
    """

    results: Path
    again: bool = False
    arguments: tuple[str, ...] = ()
    memory_limit: int | None = None
    request_timeout: float = 600.0
    code: WorkerCode = RUNNING
    shards: int | None = None
