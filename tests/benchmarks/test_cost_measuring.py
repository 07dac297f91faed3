"""The measuring of costs measured: a model against itself, and against itself with a tenth more work."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import busy_predictor, small_clusters

from mlipbench.cost import Stage
from mlipbench.execution.efficiency import Contest
from mlipbench.execution.turns import Contender
from mlipbench.metrics.timings import paired_ratio
from mlipbench.progress import SilentDisplay
from mlipbench.suite.tasks import EfficiencyTask

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.execution.evaluate import Predictor
    from mlipbench.metrics.definition import Estimate

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(7200)]

REPETITIONS = 100
MOST_MISSES = 10
WORK = 500  # some 10 ms


def ratio(log: Path, work: int, seed: int) -> Estimate:
    """Return the ratio of a model to one that does `WORK`, as the task measures it: in two workers, from the start."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(busy_predictor(log, size)) for size in (work, WORK))
        return ratio_of(first, second, seed)


def ratio_of(first: Predictor, second: Predictor, seed: int) -> Estimate:
    task = EfficiencyTask(batch=1, seed=seed)
    one, other = Contender("one", first), Contender("other", second)
    Contest([one, other], small_clusters(seed), task, other, 1, SilentDisplay()).run()
    calls = [call for call in one.calls if call.stage is Stage.LATENCY]
    beside = np.asarray([call.reference_seconds for call in calls], dtype=np.float64)
    return paired_ratio(
        np.asarray([call.seconds for call in calls]), beside, np.asarray([call.round for call in calls])
    )


def test_a_model_against_itself_and_a_tenth_more_work(benchmark, tmp_path):
    log = tmp_path / "log.txt"
    itself = [ratio(log, WORK, seed) for seed in range(REPETITIONS)]
    delayed = [ratio(log, WORK + WORK // 10, seed) for seed in range(REPETITIONS)]
    benchmark.pedantic(lambda: ratio(log, WORK, 0), rounds=1)
    contains = sum(found.low <= 1.0 <= found.high for found in itself)
    finds = sum(found.low > 1.0 for found in delayed)
    benchmark.extra_info |= {
        "intervals_of_itself_that_contain_1": contains,
        "intervals_of_a_tenth_more_above_1": finds,
        "spread_of_the_ratio_to_itself": float(np.std([found.value for found in itself], ddof=1)),
        "median_half_width": float(np.median([(found.high - found.low) / 2 for found in itself])),
        "median_ratio_of_a_tenth_more": float(np.median([found.value for found in delayed])),
    }
    assert contains >= REPETITIONS - MOST_MISSES
    assert finds >= REPETITIONS - MOST_MISSES
