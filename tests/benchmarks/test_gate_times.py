"""The gate on times: how often it finds a model of 50 ms that takes a tenth longer, and one that takes as long."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from conftest import busy_predictor, small_clusters

from mlipbench.metrics.paired_costs import TimeRatio, time_ratio
from mlipbench.progress import SilentDisplay
from mlipbench.runner.sides import Pair
from mlipbench.suite.tasks import EfficiencyTask

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

REPETITIONS = 20
LEAST_FOUND = 19
WORK = 3000  # some 60 ms


def measured(log: Path, works: tuple[int, int], seed: int) -> TimeRatio:
    """Return the ratio of two models of so much work, measured in new workers as the gate measures it."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(busy_predictor(log, work)) for work in works)
        pair = Pair(("base", "head"), (first, second), small_clusters(seed))
        assert pair.measure(EfficiencyTask(seed=seed), 1, SilentDisplay()) == (None, False)
    return time_ratio(*pair.calls)


def slower(log: Path, works: tuple[int, int], seed: int) -> bool:
    """Return whether the second model is found slower, and found again."""
    return all(measured(log, works, seed + again).slower for again in (0, 1000))


def test_a_tenth_longer_is_found_and_the_same_is_not(benchmark, tmp_path):
    log = tmp_path / "log.txt"
    found = sum(slower(log, (WORK, WORK + WORK // 10), seed) for seed in range(REPETITIONS))
    alarms = sum(slower(log, (WORK, WORK), seed) for seed in range(REPETITIONS))
    last = benchmark.pedantic(lambda: measured(log, (WORK, WORK), 0), rounds=1)
    benchmark.extra_info |= {"found": found, "false_alarms": alarms, "milliseconds": last.a, "noise": last.noise}
    assert last.a >= 50.0
    assert alarms == 0
    assert found >= LEAST_FOUND
