"""What this machine is."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path


def processor() -> str:
    """Return the name of the processor as the system tells it, or the architecture where it tells none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def processors_of_rounds(threads: int) -> list[list[int]]:
    """Return the processors of one round after the other, which begin anew after the last.

    Args:
        threads: Threads of a worker.

    Returns:
        Nothing where threads need all processors that this process may use, or where the system does not let a
        process choose.
    """
    if sys.platform != "linux":
        return []
    usable = sorted(os.sched_getaffinity(0))
    if threads >= len(usable):
        return []
    return [[usable[(first + place) % len(usable)] for place in range(threads)] for first in range(len(usable))]
