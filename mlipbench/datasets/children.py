"""Running the converter over several files at once, each in a process with a memory and a time limit."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import ConfigError, DatasetError, MlipbenchError, PrerequisiteError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_POLL: Final = 0.01  # s
_GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """What a conversion may use.

    Attributes:
        memory: Bytes of address space of one child process, on top of a file that is mapped.
        seconds: Wall-clock time of one child process.
        parallel: Child processes at a time.
    """

    memory: int = 4 * _GIB
    seconds: float = 3600.0
    parallel: int = min(4, os.cpu_count() or 1)


class JobKind(StrEnum):
    """What a file holds."""

    STRUCTURES = "structures"
    FACTORS = "factors"


@dataclass(frozen=True, slots=True)
class Job:
    """The conversion of one file.

    Attributes:
        file: The foreign file.
        label: Its name below the root, without suffix.
        output: Folder for the columns; must not exist.
        reading: `mlipbench.datasets.records.Reading`, or `mlipbench.datasets.entry.Factors`, as plain data.
        kind: What the file holds.
    """

    file: Path
    label: str
    output: Path
    reading: dict[str, Any]
    kind: JobKind = JobKind.STRUCTURES


def convert_files(jobs: Sequence[Job], limits: Limits, progress: Callable[[int, int], None] | None = None) -> None:
    """Convert files in child processes; all are stopped at the first problem.

    Args:
        jobs: What to convert.
        limits: What the children may use.
        progress: Called with the number of files done and the number of all.

    Raises:
        DatasetError: A file is invalid, or its child died or ran past a limit.
        PrerequisiteError: A package is missing or the disk is full.
    """
    waiting = deque(jobs)
    running: dict[subprocess.Popen[bytes], tuple[Job, float]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limits.parallel:
                job = waiting.popleft()
                running[_start(job, limits)] = (job, time.monotonic() + limits.seconds)
            done = [child for child, (_, end) in running.items() if child.poll() is not None or time.monotonic() > end]
            for child in done:
                _check(child, running[child][0], limits)
                del running[child]
                if progress is not None:
                    progress(len(jobs) - len(waiting) - len(running), len(jobs))
            if not done:
                time.sleep(_POLL)
    finally:
        for child in running:
            child.kill()
            child.wait()


def _start(job: Job, limits: Limits) -> subprocess.Popen[bytes]:
    described = {"file": str(job.file), "label": job.label, "output": str(job.output), "reading": job.reading}
    described["kind"] = job.kind.value
    job_file = job.output.with_suffix(".job")
    job_file.write_text(json.dumps(described | {"memory": limits.memory}), encoding="utf-8")
    package_parent = str(Path(__file__).resolve().parents[2])
    paths = [package_parent, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    command = [sys.executable, "-P", "-m", "mlipbench.datasets.convert", str(job_file)]
    with job.output.with_suffix(".stderr").open("wb") as stderr:
        return subprocess.Popen(  # noqa: S603 (our own module, no shell)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
        )


def _check(child: subprocess.Popen[bytes], job: Job, limits: Limits) -> None:
    status = child.poll()
    if status is None:
        child.kill()
        child.wait()
        raise DatasetError(
            f"reading took longer than {limits.seconds:g} s and was stopped",
            file=job.file,
            remedy="the file is damaged, or must be cut into smaller ones",
        )
    if status == 0:
        return
    raise _reported(job, limits) or _died(job, status)


def _reported(job: Job, limits: Limits) -> MlipbenchError | None:
    """Return the problem the child wrote down."""
    try:
        report = json.loads((job.output / "error.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    kind, problem = report["kind"], report.get("problem", "")
    if kind == "memory":
        return DatasetError(
            f"reading needs more than the {limits.memory / _GIB:.2g} GiB a converter may use",
            file=job.file,
            remedy="the file is damaged, or must be cut into smaller ones",
        )
    if kind == "package":
        remedy = "install it, or mlipbench again with its dependencies"
        return PrerequisiteError(f"cannot be read here ({problem})", file=job.file, remedy=remedy)
    if kind == "os":
        full = report["errno"] in {errno.ENOSPC, errno.EDQUOT}
        return from_os_error(OSError(report["errno"], problem), job.output if full else job.file)
    kinds = {"ConfigError": ConfigError, "PrerequisiteError": PrerequisiteError}
    file = report["file"]  # the data file, or one beside it
    return kinds.get(kind, DatasetError)(problem, file=file, where=report["where"], remedy=report["remedy"])


def _died(job: Job, status: int) -> DatasetError:
    cause = f"exit status {status}"
    if status < 0:
        cause = f"signal {-status}"
        with suppress(ValueError):
            cause = signal.Signals(-status).name
    with suppress(OSError):
        lines = job.output.with_suffix(".stderr").read_text(errors="replace").strip().splitlines()
        cause = f"{cause}: {lines[-1][:200]}" if lines else cause
    remedy = "the file is damaged, or needs more memory than there is"
    return DatasetError(f"the process that read it died ({cause})", file=job.file, remedy=remedy)
