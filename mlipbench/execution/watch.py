"""Keeping an eye on a worker while waiting for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from mlipbench.execution.failures import WorkerMemory

if TYPE_CHECKING:
    import psutil

TICK: Final = 0.25
_MIB: Final = 2**20


class MemoryWatch:
    """Compares the resident memory of a worker with its limit, a few times a second at most."""

    def __init__(self, pid: int, limit: int | None) -> None:
        """Watch process `pid`; `limit` in bytes, None for no limit."""
        self._pid = pid
        self._limit = limit
        self._next = 0.0
        self._process: psutil.Process | None = None

    def check(self) -> None:
        """Look, if it is time to.

        Raises:
            WorkerMemory: The limit is passed.
        """
        now = time.monotonic()
        if self._limit is None or now < self._next:
            return
        self._next = now + TICK
        import psutil

        try:
            if self._process is None:
                self._process = psutil.Process(self._pid)
            resident = self._process.memory_info().rss
        except psutil.Error:
            return  # gone: the pipe tells
        if resident > self._limit:
            raise WorkerMemory(
                f"worker uses {resident // _MIB} MiB of memory, over the limit of {self._limit // _MIB} MiB"
            )


class Deadline:
    """The time by which the worker must have answered its oldest request.

    It starts anew with each answer: a request that waits behind another is not charged for it.
    """

    def __init__(self) -> None:
        """Start now."""
        self._start = time.monotonic()

    def restart(self) -> None:
        """Start anew."""
        self._start = time.monotonic()

    def remaining(self, seconds: float) -> float:
        """Return the seconds left of `seconds`; negative when the time is over."""
        return self._start + seconds - time.monotonic()
