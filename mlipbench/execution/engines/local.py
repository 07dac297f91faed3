"""The engine that uses the processors and GPUs of this machine."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from mlipbench.errors import PrerequisiteError
from mlipbench.execution.engines.engine import TAIL, CommandEnd, last_line
from mlipbench.execution.process import end_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlipbench.execution.engines.engine import EngineCommand

_TICK: Final = 0.1  # seconds between looks
_PATIENCE: Final = 2.0  # seconds after which `wait` returns although nothing has ended
_GRACE: Final = (0.0, 5.0)
_PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class _Running:
    command: EngineCommand
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    slot: Mapping[str, str]


class LocalEngine:
    """Runs as many commands at a time as there are slots, the next one where one has ended.

    Args:
        slots: For each, variables that say what a command may use, such as ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, slots: Sequence[Mapping[str, str]]) -> None:
        """Start nothing yet."""
        self._free = deque(slots)
        self._waiting: deque[EngineCommand] = deque()
        self._running: list[_Running] = []
        self._libc = ctypes.CDLL(None)

    def submit(self, command: EngineCommand) -> None:
        """Take a command; it begins as soon as a slot is free."""
        self._waiting.append(command)

    def wait(self) -> list[CommandEnd]:
        """Wait until commands have ended, and return how; none after a while in which nothing ended."""
        limit = time.monotonic() + _PATIENCE
        while True:
            while self._free and self._waiting:
                self._start(self._waiting.popleft(), self._free.popleft())
            ended = [one for one in self._running if one.process.poll() is not None]
            if ended or not self._running or time.monotonic() > limit:
                return [self._end(one) for one in ended]
            time.sleep(_TICK)

    def close(self) -> None:
        """End whatever still runs."""
        for one in self._running:
            end_process(one.process, _GRACE)
            one.output.close()
        self._running.clear()

    def _start(self, command: EngineCommand, slot: Mapping[str, str]) -> None:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the command has ended
        try:
            process = subprocess.Popen(  # noqa: S603 - this program
                command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **command.environment, **slot},
                start_new_session=True,
                preexec_fn=self._die_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        except OSError as error:
            output.close()
            problem = f"cannot start a shard: {error.strerror}"
            raise PrerequisiteError(problem, file=error.filename or command.arguments[0]) from error
        self._running.append(_Running(command, process, output, slot))

    def _die_with_parent(self) -> None:
        self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def _end(self, one: _Running) -> CommandEnd:
        status = end_process(one.process, _GRACE)
        one.output.seek(max(0, one.output.seek(0, os.SEEK_END) - TAIL))
        told = last_line(one.output.read().decode(errors="replace"))
        one.output.close()
        self._running.remove(one)
        self._free.append(one.slot)
        return CommandEnd(one.command, status, told)


def local_slots(threads: int, *, cuda: bool) -> list[dict[str, str]]:
    """Return what commands may use side by side on this machine.

    Args:
        threads: Threads of one command.
        cuda: Whether commands use a GPU each; otherwise they share the processors at hand.
    """
    if not cuda:
        return [{} for _ in range(max(1, len(os.sched_getaffinity(0)) // threads))]
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        devices = [name.strip() for name in given.split(",") if name.strip()]
    else:
        devices = [path.name.removeprefix("nvidia") for path in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return [{"CUDA_VISIBLE_DEVICES": device} for device in devices] or [{}]
