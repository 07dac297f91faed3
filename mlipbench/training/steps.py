"""How long optimiser steps take, whoever does them."""

from __future__ import annotations

import math
import time
from array import array
from typing import TYPE_CHECKING, Final

import numpy as np

from mlipbench.checkpoint import StepTimes
from mlipbench.machine import processor

if TYPE_CHECKING:
    from mlipbench.recipe import TrainingJob

WARM_UP_SHARE: Final = 0.1
"""Share of a process's steps that do not count, the first ones; at least two and at most twenty."""
_LEAST, _MOST = 2, 20


class StepClock:
    """Measures the wall time of the optimiser steps of one process, and puts it into a few numbers.

    What a step is, whoever drives the clock says: where it starts and stops it. It does not wait for a GPU.

    Args:
        job: What is trained.
        before: What an earlier process of the same training measured.
        processes: Number of processes that train together.
    """

    def __init__(self, job: TrainingJob, before: StepTimes | None = None, processes: int = 1) -> None:
        """Start with no steps."""
        self._job = job
        self._before = before
        self._processes = processes
        self._seconds = array("d")
        self._began = time.perf_counter()

    def start(self) -> None:
        """Say that a step begins now."""
        self._began = time.perf_counter()

    def stop(self, steps: int = 1) -> None:
        """Say that steps have ended; of several, each gets their mean.

        Args:
            steps: Their number since `start`, at least one.
        """
        self._seconds.extend([(time.perf_counter() - self._began) / steps] * steps)

    def add(self, seconds: float) -> None:
        """Take a step that somebody else has measured, in seconds."""
        self._seconds.append(seconds)

    def times(self) -> StepTimes | None:
        """Return what was measured, here or in the earlier process, whichever has more steps that count.

        Returns:
            None where no step counts.
        """
        skipped = warm_up(len(self._seconds))
        counted = np.array(self._seconds[skipped:])
        if self._before is not None and self._before.n >= len(counted):
            return self._before
        if not len(counted):
            return None
        job = self._job
        p25, median, p75 = np.percentile(counted, [25, 50, 75]).tolist()
        return StepTimes(
            n=len(counted),
            skipped=skipped,
            median=median,
            p25=p25,
            p75=p75,
            batch=min(job.recipe.batch, job.data.n_train),
            device=job.device,
            processes=self._processes,
            threads=job.threads,
            processor=processor(),
        )


def warm_up(n: int) -> int:
    """Return how many of the first of `n` steps do not count."""
    return min(max(math.ceil(WARM_UP_SHARE * n), _LEAST), _MOST)
