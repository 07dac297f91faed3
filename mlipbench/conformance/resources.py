"""What calls leave behind: precision that was not asked for, memory, and settings of the process."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.conformance.agreement import NONE_TAKEN
from mlipbench.conformance.result import Measured, failed, judged, not_applicable, not_supported, passed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.conformance.result import CheckResult
    from mlipbench.conformance.subject import Subject
    from mlipbench.structures import StructureBatch
    from mlipbench.typing import FloatArray

SECONDS: Final = 100.0
"""No more calls are made after so long."""
GROWTH: Final = 8.0
"""KiB a call by which the resident memory may grow, over the second half of the calls."""
BLOCKS: Final = 0.9
"""Blocks of Python's allocator a call, likewise: less than the one that a kept object takes."""
_SAMPLES: Final = 40
_LEAST: Final = 8
_WINDOWS: Final = 4
_PAGES: Final = Path("/proc/self/statm")
_TASKS: Final = Path("/proc/self/task")


def precision(subject: Subject) -> CheckResult:
    """Forces have digits beyond the next lower precision: the model computes in the one that the card declares."""
    values = [subject.predict(one).forces for one in subject.structures]
    forces = np.concatenate([one.ravel() for one in values if one is not None] or [np.zeros(0)])
    forces = forces[np.isfinite(forces) & (forces != 0)]
    if not forces.size:
        return not_applicable("precision", "there are no forces to tell it from")
    for lower in ("float16", "float32"):
        if np.finfo(lower).eps <= subject.epsilon:
            continue
        with np.errstate(over="ignore"):
            rounded = forces.astype(lower).astype(np.float64)
        share = float(np.mean(rounded == forces))
        if share > 0.9:  # noqa: PLR2004 - by chance it is 1e-4 or less
            return failed(
                "precision", f"{share:.0%} of the forces are {lower} numbers, though {subject.dtype} is declared",
                f"compute in {subject.dtype}, or declare `dtypes: [{lower}]`",
            )  # fmt: skip
    return passed("precision", note=f"more digits than the next precision below {subject.dtype} holds")


def memory_growth(subject: Subject) -> CheckResult:
    """A thousand calls leave the memory as it is."""
    if not subject.structures:
        return not_supported("memory_growth", NONE_TAKEN)
    seen = _watch(subject, min(subject.structures, key=lambda one: _seconds(subject, one)))
    half = seen[len(seen) // 2 :]
    calls, blocks, resident = half[:, 0], half[:, 1], half[:, 2] / 1024
    growth = (_steady(calls, resident), _steady(calls, blocks))
    note = f"{int(seen[-1, 0])} calls, {growth[1]:.2g} blocks a call"
    measured = Measured(max(growth[0], 0.0), GROWTH, "KiB/call")
    if growth[1] > BLOCKS:
        measured = Measured(growth[1], BLOCKS, "blocks/call")
    return judged(
        "memory_growth", measured, "memory grows with every call",
        "keep no results, structures or graphs between calls, and detach tensors that are kept", note,
    )  # fmt: skip


def default_dtype(subject: Subject) -> CheckResult:
    """Loading and calling leave torch's default precision at float32, which other code in the process relies on."""
    torch = sys.modules.get("torch")
    _call_all(subject)
    torch = sys.modules.get("torch", torch)
    if torch is None:
        return not_applicable("default_dtype", "torch is not loaded")
    found = str(torch.get_default_dtype())
    if found != "torch.float32":
        return failed(
            "default_dtype", f"the default precision of torch is {found} after loading and calling",
            "give dtypes to tensors and modules; if a package sets the default, put it back",
        )  # fmt: skip
    return passed("default_dtype", note=found)


def threads(subject: Subject) -> CheckResult:
    """Calls start no thread that stays, and leave torch the number of threads it was given."""
    _call_all(subject)
    before = _n_threads()
    for _ in range(3):
        _call_all(subject)
    after = _n_threads()
    torch = sys.modules.get("torch")
    used = None if torch is None else torch.get_num_threads()
    if used is not None and subject.threads is not None and used != subject.threads:
        return failed(
            "threads", f"torch has {used} threads after the calls, and was given {subject.threads}",
            "leave `torch.set_num_threads` and variables such as OMP_NUM_THREADS alone",
        )  # fmt: skip
    n_calls = 3 * len(subject.structures)
    return judged(
        "threads", Measured(float(after - before), 0.0, "threads"),
        f"{n_calls} calls left {after - before} threads behind",
        "end the threads that a call starts, or start them once in `load`", f"{after} threads",
    )  # fmt: skip


def _call_all(subject: Subject) -> None:
    for one in subject.structures:
        subject.predict(one)


def _n_threads() -> int:
    return len(list(_TASKS.iterdir())) if _TASKS.is_dir() else threading.active_count()


def _seconds(subject: Subject, structure: StructureBatch) -> float:
    begun = time.perf_counter()
    subject.predict(structure)
    return time.perf_counter() - begun


def _watch(subject: Subject, structure: StructureBatch) -> FloatArray:
    """Call the model again and again on a structure that moves a little.

    Returns:
        Shape (n, 3): calls done, blocks of Python's allocator, bytes resident.
    """
    rng = np.random.default_rng(0)
    begun = time.monotonic()
    every = max(1, subject.calls // _SAMPLES)
    seen = np.zeros((_SAMPLES + 1, 3))  # made before, so that watching takes no memory
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again and again
    try:
        for row in range(len(seen)):
            subject.alive()
            gc.collect()
            seen[row] = row * every, sys.getallocatedblocks(), _resident()
            if row == _SAMPLES or (row >= _LEAST and time.monotonic() - begun > SECONDS):
                break
            for _ in range(every):
                subject.predict(structure.moved(structure.positions + rng.normal(0, 1e-3, structure.positions.shape)))
    finally:
        gc.unfreeze()
    return seen[: row + 1]


def _resident() -> int:
    if not _PAGES.exists():
        return 0
    return int(_PAGES.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _steady(calls: FloatArray, values: FloatArray) -> float:
    """Return the smallest growth a call over equal parts of a series: one jump, as of a cache, is no leak."""
    parts: Sequence[FloatArray] = np.array_split(np.arange(len(calls)), _WINDOWS)
    ends = [0, *(int(part[-1]) for part in parts)]
    return min(float((values[b] - values[a]) / (calls[b] - calls[a])) for a, b in itertools.pairwise(ends) if b > a)
