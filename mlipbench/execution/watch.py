"""Keeping an eye on a worker while waiting for it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.execution.failures import WorkerMemory

if TYPE_CHECKING:
    import psutil

TICK: Final = 0.25
_MIB: Final = 2**20
_SHARE: Final = 0.9
_CONTAINER: Final = Path("/sys/fs/cgroup/memory.max")


def machine_limit() -> int:
    """Return nine tenths of the memory of the machine, or of the container that this process runs in, in bytes."""
    import psutil

    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        total = min(total, int(_CONTAINER.read_text(encoding="ascii")))
    return int(_SHARE * total)


class MemoryWatch:
    """Compares the resident memory of a worker and its children with its limit, a few times a second at most.

    Attributes:
        limit: Bytes, None for no limit.
    """

    def __init__(self, pid: int, limit: int | None) -> None:
        """Watch process `pid`; `limit` in bytes, None for no limit."""
        self._pid = pid
        self.limit = limit
        self._next = 0.0
        self._process: psutil.Process | None = None

    def check(self) -> None:
        """Look, if it is time to.

        Raises:
            WorkerMemory: The limit is passed.
        """
        now = time.monotonic()
        if self.limit is None or now < self._next:
            return
        self._next = now + TICK
        resident = self.resident()
        if resident > self.limit:
            raise WorkerMemory(
                f"worker uses {resident // _MIB} MiB of memory, over the limit of {self.limit // _MIB} MiB"
            )

    def resident(self) -> int:
        """Return the bytes that the worker and its children hold; 0 where it is gone, which the pipe tells."""
        import psutil

        try:
            if self._process is None:
                self._process = psutil.Process(self._pid)
            resident = self._process.memory_info().rss
            children = self._process.children(recursive=True)
        except psutil.Error:
            return 0
        for child in children:
            with contextlib.suppress(psutil.Error):
                resident += child.memory_info().rss
        return int(resident)


class Deadline:
    """The time by which the worker must have answered its oldest request.

    It starts anew with each answer, since a request that waits behind another is not charged for it, and with each sign
    of life from a worker whose request takes many calls of the model.
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
