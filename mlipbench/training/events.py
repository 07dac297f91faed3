"""What a training process says while it goes on: one JSON line an event."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlipbench.recipe import EVENTS_FILE, Event

if TYPE_CHECKING:
    from pathlib import Path


class EventLog:
    """Appends events to `EVENTS_FILE` of a folder; each is one write, so that a reader sees whole lines.

    Args:
        folder: The folder of the job.
        silent: Whether nothing is written, as in processes that only help.
    """

    def __init__(self, folder: Path, *, silent: bool = False) -> None:
        """Open the file, and end the line that a killed process may have left torn."""
        self._fd: int | None = None
        if silent:
            return
        path = folder / EVENTS_FILE
        torn = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if torn:
            os.write(self._fd, b"\n")

    def write(self, event: Event) -> None:
        """Append an event."""
        if self._fd is not None:
            os.write(self._fd, event.model_dump_json(exclude_defaults=True).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
