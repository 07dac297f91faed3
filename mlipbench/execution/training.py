"""A training process: starting it, following what it says, and ending it for certain."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError, ExitCode, MlipbenchError, PrerequisiteError, WorkerError
from mlipbench.execution.process import WorkerSpec, child_environment, end_process, link_package, log_tail
from mlipbench.recipe import EVENTS_FILE, JOB_FILE, Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.progress import Display
    from mlipbench.recipe import TrainingJob

LOG_FILE: Final = "training.log"
_TICK: Final = 0.2
_GRACE: Final = (0.0, 20.0)
"""Seconds until SIGTERM, on which a training saves its state, and from there until SIGKILL."""
RELAUNCHES: Final = 3
"""How often a training of several processes that lost one is started again, from its last saved state."""


@dataclass(frozen=True, slots=True)
class TrainingProcess:
    """How a training is started.

    Attributes:
        python: Interpreter of the environment.
        processes: Processes that train together; more than one are started by ``torchrun``.
    """

    python: Path
    processes: int = 1


def train(job: TrainingJob, folder: Path, how: TrainingProcess, display: Display) -> None:
    """Train in a child process until its checkpoint is written; an interrupted training goes on where it was.

    Args:
        job: What is trained.
        folder: The folder the training works in and leaves its checkpoint in; made if it is missing.
        how: How it is started.
        display: Shows progress.

    Raises:
        ConfigError: The recipe does not fit the data or the network, or the data cannot be read.
        PrerequisiteError: Something it needs is missing.
        WorkerError: It diverged or died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOB_FILE).write_text(job.model_dump_json(indent=2) + "\n", encoding="utf-8")
    events = folder / EVENTS_FILE
    start = events.stat().st_size if events.exists() else 0
    log = folder / LOG_FILE
    spec = WorkerSpec(python=how.python, log=log, threads=job.threads)
    follower = _Follower(events, start, display, job.name)
    with tempfile.TemporaryDirectory(prefix="mlipbench-") as entry:
        path_entry = link_package(Path(entry))
        status = _follow(_launch(folder, how, spec, path_entry), follower)
        for _ in range(RELAUNCHES if how.processes > 1 else 0):
            if not status or follower.failed:
                break
            display.note(f"{job.name}: lost one of {how.processes} processes; they go on from the last saved state")
            status = _follow(_launch(folder, how, spec, path_entry), follower)
    follower.close(status, log)


def _follow(process: subprocess.Popen[bytes], follower: _Follower) -> int:
    """Show what a training says until it has ended, and return its status."""
    try:
        while process.poll() is None:
            follower.read()
            time.sleep(_TICK)
        follower.read()
    finally:
        end_process(process, _GRACE)
    return process.returncode


def _launch(folder: Path, how: TrainingProcess, spec: WorkerSpec, path_entry: Path) -> subprocess.Popen[bytes]:
    command = [str(how.python), "-m"]
    if how.processes > 1:
        command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={how.processes}", "-m"]
    command += ["mlipbench.training", str(folder / JOB_FILE), "--die-with-parent", str(os.getpid())]
    try:
        with spec.log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the environment's own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(spec, path_entry),
                start_new_session=True,
            )
    except OSError as error:
        raise PrerequisiteError(f"cannot start a training: {error.strerror}", file=error.filename) from error


class _Follower:
    """Reads the events of a training as they are written and shows them."""

    def __init__(self, path: Path, start: int, display: Display, name: str) -> None:
        self._path = path
        self._position = start
        self._display = display
        self._name = name
        self._title: str | None = None
        self._step = 0
        self._failure: Event | None = None

    @property
    def failed(self) -> bool:
        """Whether the training itself has said what is wrong."""
        return self._failure is not None

    def read(self) -> None:
        for event in self._new():
            self._show(event)

    def close(self, status: int, log: Path) -> None:
        """End the display, and raise what the training ended with."""
        failure = self._failure
        if self._title is not None:
            self._display.end(self._title, "failed")
        if failure is not None:
            raise _as_error(failure)
        if status:
            ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            remedy = f"see {log}; the same command resumes"
            raise WorkerError(f"the training of {self._name} {ended}", detail=log_tail(log), remedy=remedy)

    def _new(self) -> Iterator[Event]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):  # still being written
                    break
                self._position += len(line)
                yield Event.model_validate_json(line)

    def _show(self, event: Event) -> None:
        if event.kind is EventKind.BEGIN:
            self._title = f"training {self._name}, learning rate {event.learning_rate:g}"
            self._step = event.step
            self._display.begin(self._title, max((event.steps or 0) - event.step, 0), "steps")
        elif event.kind is EventKind.ERROR:
            self._failure = event
        elif event.kind is EventKind.DONE:
            self._display.note(event.text)
        else:
            self._display.advance(max(event.step - self._step, 0))
            self._step = max(event.step, self._step)
            if event.text and event.kind is EventKind.EVALUATION:
                self._display.note(event.text)
            if event.kind is EventKind.END and self._title is not None:
                self._display.end(self._title, "ok" if not event.exit_code else event.text)
                self._title = None


def _as_error(event: Event) -> MlipbenchError:
    """Return the error a training ended with, of the class its exit code stands for."""
    classes = {ExitCode.USAGE: ConfigError, ExitCode.MISSING: PrerequisiteError}
    if event.exit_code in classes:
        return classes[ExitCode(event.exit_code)](event.text)
    return WorkerError(event.text)
