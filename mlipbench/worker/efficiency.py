"""Timing calls of a model, beside it."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlipbench.cost import TIMED
from mlipbench.protocol import Message, MessageKind, ProtocolError, batch_from_arrays
from mlipbench.worker.s2ef import asked_properties, run

if TYPE_CHECKING:
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import AnyArray
    from mlipbench.worker.session import Session

_COMPILING: Final = ("_compile.compile_inner", "backward._backward_impl")
"""What torch calls compiling a function, and compiling its derivative at the first backward pass."""


def measure(session: Session, message: Message) -> Message:
    """Answer a ``measure`` request: call the model on parts of its batch, one after the other, and time the calls.

    The request says how many structures each call takes, how many calls come before the first that counts, and perhaps
    which processors the worker is to stay on. The reply holds what `mlipbench.cost.TIMED`
    names, shape (n_calls,) each, and the most memory held during the calls that count, bytes.

    Raises:
        ProtocolError: The request is incomplete, or the calls do not divide the batch.
        WorkerError: The adapter returned something other than the predictions asked for.
    """
    properties = asked_properties(message)
    parts, untimed = _parts(message)
    _stay_on(message)
    for part in parts[:untimed]:
        run(session, part, properties)
    session.device.reset_peaks()
    rows = []
    for part in parts[untimed:]:
        before, compiled = resource.getrusage(resource.RUSAGE_SELF), compile_seconds()
        _, timing = run(session, part, properties)
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        faults = float(after.ru_minflt - before.ru_minflt)
        rows.append((timing.prepare, timing.forward, cpu, faults, compile_seconds() - compiled))
    peaks = session.device.peaks()
    if message.header.get("release"):
        session.device.release()
    columns = np.asarray(rows, dtype=np.float64).reshape(-1, len(TIMED)).T
    arrays: dict[str, AnyArray] = {
        name: np.ascontiguousarray(column) for name, column in zip(TIMED, columns, strict=True)
    }
    return Message(MessageKind.MEASURED, {"peak_allocator": peaks.allocator, "peak_memory": peaks.whole}, arrays)


def compile_seconds() -> float:
    """Return the seconds that torch's compiler has taken so far in this process, by its own count."""
    utils = sys.modules.get("torch._dynamo.utils")
    if utils is None:
        return 0.0
    return float(sum(sum(utils.compilation_time_metrics.get(name, ())) for name in _COMPILING))


def _stay_on(message: Message) -> None:
    """Bind every thread of this process to the processors that the request names, where it names any."""
    processors = message.header.get("processors")
    if processors:
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(int(thread.name), processors)


def _parts(message: Message) -> tuple[list[StructureBatch], int]:
    header: Any = message.header
    try:
        sizes, untimed = [int(size) for size in header["sizes"]], int(header["untimed"])
        batch = batch_from_arrays(message.arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("a request for measurements is incomplete") from error
    ends = np.cumsum(sizes)
    if not len(ends) or min(sizes) < 1 or ends[-1] != batch.n_structures or not 0 <= untimed <= len(ends):
        raise ProtocolError("a request for measurements does not divide its batch into calls")
    return [batch.slice(int(end) - size, int(end)) for end, size in zip(ends, sizes, strict=True)], untimed
