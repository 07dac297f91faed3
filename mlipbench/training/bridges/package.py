"""Running a package's own command and following the file it writes its progress to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlipbench.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

_TICK: Final = 0.1
_PATIENCE: Final = 10.0


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a package.

    Attributes:
        module: What is run as ``python -m``.
        arguments: Its arguments.
        folder: Working directory.
        log: File that its output is appended to.
    """

    module: str
    arguments: Sequence[str]
    folder: Path
    log: Path


def follow(command: Command, progress: Path) -> Generator[dict[str, Any]]:
    """Run a command to its end and yield the JSON lines it appends to a file; closing the generator ends it.

    Args:
        command: The command.
        progress: The file; lines that are there already are skipped.

    Raises:
        WorkerError: The command failed; it says what its log ends with.
    """
    position = progress.stat().st_size if progress.is_file() else 0
    with command.log.open("ab") as log:
        start = log.tell()
        line = [sys.executable, "-m", "mlipbench.training.bridges.child", str(os.getpid()), command.module]
        process = subprocess.Popen(  # noqa: S603 - this interpreter
            [*line, *command.arguments], cwd=command.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        running = True
        while running:
            running = process.poll() is None
            lines, position = _lines(progress, position)
            yield from map(json.loads, lines)
            if running:
                time.sleep(_TICK)
    finally:
        _end(process)
    if process.returncode:
        raise WorkerError(f"{command.module} {_how(process.returncode)}: {_last_line(command.log, start)}")


def _lines(path: Path, position: int) -> tuple[list[bytes], int]:
    """Return the whole lines of a file from a position on, and the position behind them."""
    if not path.is_file():
        return [], position
    with path.open("rb") as file:
        file.seek(position)
        whole, newline, _ = file.read().rpartition(b"\n")  # the rest is still being written
    return whole.splitlines(), position + len(whole) + len(newline)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _how(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _last_line(log: Path, start: int) -> str:
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").splitlines()
    return next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "it said nothing")
