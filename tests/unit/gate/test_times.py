"""Times of two versions: slower only where it is certain, large and confirmed; with how they are chosen to differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mlipbench.cost import Call, Stage
from mlipbench.gate.findings import State
from mlipbench.gate.times import judge_times, suspects
from mlipbench.metrics.contrast import Estimate
from mlipbench.metrics.paired_costs import TimeRatio, time_ratio
from mlipbench.runner.sides import SideBySide


def side(ratio: TimeRatio | None, **more: object) -> SideBySide:
    return SideBySide("net", "default", 0, "toys", "test", ratio, **more)  # type: ignore[arg-type]


def measured(slow_down: float, scatter: float, seed: int, rounds: int = 10) -> SideBySide:
    """Return times of ten rounds around 50 ms; what disturbs a round falls on both, and each call has its own."""
    rng = np.random.default_rng(seed)
    common = 0.05 * np.exp(rng.normal(0.0, 0.2, rounds))
    own = common * np.exp(rng.normal(0.0, scatter, (2, rounds)))
    own[1] *= 1.0 + slow_down
    calls = [[call(number, float(seconds)) for number, seconds in enumerate(one)] for one in own]
    return side(time_ratio(*calls))


def call(number: int, seconds: float) -> Call:
    return Call(Stage.LATENCY, number, 0, 0, 0, 1, 8, 0.0, seconds, seconds, 0, 0.0, None, None, None, 1000)


def states(slow_down: float, scatter: float, times: int) -> list[State]:
    found = []
    for seed in range(times):
        first = measured(slow_down, scatter, 2 * seed)
        again = [measured(slow_down, scatter, 2 * seed + 1) for _ in suspects([first])]
        (finding,) = judge_times([first], again)
        found.append(finding.state)
    return found


def test_a_tenth_more_time_is_found() -> None:
    """Calls scatter by 1 %, ratios by 1.4 %: log 1.1 is 21 standard errors of ten rounds."""
    assert states(0.10, 0.01, 200).count(State.REGRESSION) >= 198


@pytest.mark.parametrize("scatter", [0.01, 0.05, 0.2])
def test_the_same_time_is_never_found_slower(scatter: float) -> None:
    """It would have to be 5 % and five standard errors away from 1, twice: less than one in a million."""
    assert State.REGRESSION not in states(0.0, scatter, 200)


def test_a_hundredth_more_time_is_tolerated() -> None:
    assert State.REGRESSION not in states(0.01, 0.005, 100)


def test_less_time_is_an_improvement() -> None:
    (finding,) = judge_times([measured(-0.1, 0.01, 1)], [])
    assert finding.state is State.IMPROVED
    assert finding.measured


def test_what_is_not_confirmed_is_none() -> None:
    first, again = measured(0.1, 0.01, 1), measured(0.0, 0.01, 2)
    (finding,) = judge_times([first], [again])
    assert finding.state is State.UNCHANGED
    assert finding.said.endswith("not confirmed")


def test_what_scatters_too_much_is_not_judged() -> None:
    noisy = TimeRatio(50.0, 75.0, Estimate(1.5, 1.1, 2.0), 0.2, 10)
    assert noisy.least == pytest.approx(math.e - 1)
    assert not suspects([side(noisy)])
    (finding,) = judge_times([side(noisy)], [])
    assert finding.state is State.NOT_JUDGED
    assert "a slow-down by 171.8 % would have been seen" in finding.said


def test_a_version_that_does_not_answer() -> None:
    (broken,) = judge_times([side(None, reason="the version that is installed: it died", broken=True)], [])
    assert broken.state is State.REGRESSION
    (older,) = judge_times([side(None, reason="the older version: no such adapter")], [])
    assert older.state is State.NOT_COMPARABLE
    assert not older.measured
