from __future__ import annotations

import numpy as np
import pytest

from mlipbench.cost import Call, ParityFacts, Stage
from mlipbench.metrics.cost_columns import Costs, nothing
from mlipbench.metrics.definition import evaluate
from mlipbench.metrics.parity import PARITY_METRICS
from mlipbench.metrics.timings import ONE_WORKER

FACTS = ParityFacts("the variant fp64", 1e-5, 2e-4, 32, 3e-3, 4, 0.01, "fp64")


def costs(facts, seconds=(), beside=()):
    calls = [
        Call(Stage.LATENCY, number, 0, 0, 0, 1, 5, 0.0, own, own, 0, 0.0, None, other, None, 0)
        for number, (own, other) in enumerate(zip(seconds, beside, strict=True))
    ]
    return Costs("not counted", calls, nothing(None), nothing(None), None, None, parity=facts)


def value(metric, known):
    return evaluate(PARITY_METRICS[metric], known, np.zeros(0))


def test_differences_are_told_with_what_they_are_from():
    found = value("parity_energy", costs(FACTS))
    assert (found.value, found.n, found.reason) == (1e-5, 32, "largest difference from the variant fp64")
    assert value("parity_forces", costs(FACTS)).value == 2e-4
    kept = value("conservation_error", costs(FACTS))
    assert (kept.value, kept.n, kept.reason) == (3e-3, 4, "4 structures, central differences of 0.01 Å")


def test_the_speed_up_is_that_of_paired_rounds():
    own = np.asarray([1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 1.3])
    found = value("speed_up", costs(FACTS, own, 2.5 * own))
    assert found.value == pytest.approx(2.5)
    assert (found.ci_low, found.ci_high) == (pytest.approx(2.5), pytest.approx(2.5))
    assert found.reason == f"over the variant fp64; {ONE_WORKER}"


@pytest.mark.parametrize(
    ("facts", "metric", "reason"),
    [
        (None, "speed_up", "nothing was compared"),
        (None, "parity_energy", "nothing was compared"),
        (None, "conservation_error", "nothing was compared"),
        (FACTS, "speed_up", "the variant fp64 was not measured in the same rounds"),
        (ParityFacts("x"), "speed_up", "lists no variant of the model without settings"),
        (ParityFacts("x", reason="it predicts nothing"), "parity_forces", "it predicts nothing"),
        (ParityFacts("x"), "conservation_error", "predicts no structure"),
    ],
)
def test_without_a_number_there_is_a_reason(facts, metric, reason):
    found = value(metric, costs(facts, [1.0], [None]))
    assert found.value is None
    assert reason in found.reason
