"""What a model runs on: when its work is done, how long that took, and how much memory it held at most.

Everything that differs between a processor and a GPU stands here.
"""

from __future__ import annotations

import ctypes
import resource
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

RSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")
_PEAK_ONLY: Final = "5"  # resets the peak of the resident set (proc(5))


@dataclass(frozen=True, slots=True)
class Peaks:
    """The most memory held since the peaks were reset, bytes.

    Attributes:
        allocator: What the allocator of the device handed out; None where it keeps no count.
        whole: Of a GPU all that is taken, whoever took it; of a processor the resident set of the process.
    """

    allocator: int | None
    whole: int


class Device(ABC):
    """A device, as the clock and the memory meter see it."""

    @abstractmethod
    def mark(self) -> Any:
        """Wait until all work handed to the device is done, and return this point in time for `seconds`."""

    @abstractmethod
    def seconds(self, start: Any, end: Any) -> float:
        """Return the seconds between two marks."""

    @abstractmethod
    def reset_peaks(self) -> None:
        """Begin to look for the peaks anew."""

    @abstractmethod
    def peaks(self) -> Peaks:
        """Return the peaks since they were reset."""

    @abstractmethod
    def release(self) -> None:
        """Give memory that nothing uses back to the system."""


class Processor(Device):
    """A processor, whose work is done when a call returns."""

    def mark(self) -> float:
        """Return the clock."""
        return time.perf_counter()

    def seconds(self, start: float, end: float) -> float:
        """Return the difference."""
        return end - start

    def reset_peaks(self) -> None:
        """Let the system forget the peak; where it cannot, `peaks` gives that of the whole life of the process."""
        try:
            _CLEAR.write_text(_PEAK_ONLY, encoding="ascii")
        except OSError:
            return

    def peaks(self) -> Peaks:
        """Return the largest resident set; torch keeps no count of what it allocates on processors."""
        try:
            lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return Peaks(None, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT)
        peak = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return Peaks(None, int(peak) * 1024)

    def release(self) -> None:
        """Ask the C library, where it is glibc, for what it keeps of freed memory."""
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class CudaDevice(Device):
    """A CUDA device, whose work goes on after a call has returned.

    Args:
        cuda: ``torch.cuda``, or what stands in for it.
        device: Such as ``cuda:0``.
    """

    def __init__(self, cuda: Any, device: str) -> None:
        """Keep the arguments."""
        self._cuda = cuda
        self._device = device

    def mark(self) -> Any:
        """Wait for the device, then record an event."""
        self._cuda.synchronize(self._device)
        event = self._cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """Return the time between two events, which the device's own clock has in milliseconds."""
        return float(start.elapsed_time(end)) / 1e3

    def reset_peaks(self) -> None:
        """Begin to look for the allocator's peak anew."""
        self._cuda.reset_peak_memory_stats(self._device)

    def peaks(self) -> Peaks:
        """Return the allocator's peak, and what is taken of the device: torch keeps the most it ever held."""
        free, total = self._cuda.mem_get_info(self._device)
        return Peaks(int(self._cuda.max_memory_allocated(self._device)), int(total - free))

    def release(self) -> None:
        """Let torch give back its cache."""
        self._cuda.empty_cache()


def find_device(name: str) -> Device:
    """Return a device by its torch-style name; one that torch, where it is imported, does not drive is the processor.

    Args:
        name: Such as ``cpu`` or ``cuda:0``.
    """
    torch = sys.modules.get("torch")
    if name.startswith("cuda") and torch is not None:
        return CudaDevice(torch.cuda, name)
    return Processor()
