"""LEIGNN side by side with a plain implementation of its equations, and with the networks of the paper's comparison.

Structures of 73 atoms with about 50 neighbours within 6 Å, float32, published OC20 sizes: LEIGNN and PaiNN 4 layers of
512 channels with 128 Gaussians (PaiNN's published 6 layers and 12 Å would be no comparison), SchNet and DimeNet++ as
in the OC20 repository. No cap, so that all see the same edges. Rounds are interleaved in one process that has the
allocator's settings of workers; a ratio is the median over rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import median_ratio

from mlipbench.execution.process import _ALLOCATOR

pytest.importorskip("torch")

pytestmark = [pytest.mark.benchmark, pytest.mark.torch, pytest.mark.timeout(7200)]

PROGRAM = Path(__file__).with_name("nets_speed.py")
OTHERS = ("painn", "painn-direct", "schnet", "dimenet++")


def measured(mode, n_structures, rounds, *names, allocator=_ALLOCATOR):
    """Return the seconds of each round by name."""
    threads = os.environ.get("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    arguments = [sys.executable, str(PROGRAM), mode, str(n_structures), str(rounds), *names]
    environment = {**os.environ, **allocator, "OMP_NUM_THREADS": threads}
    answer = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(answer.stdout)["seconds"]


@pytest.mark.parametrize(("mode", "most"), [("inference", 0.7), ("training", 0.9)])
def test_leignn_is_faster_than_its_plain_form(benchmark, mode, most):
    """Eight structures; `most` leaves room for other work on the machine."""
    seconds = benchmark.pedantic(measured, (mode, 8, 5, "leignn", "plain"), rounds=1)
    ratio = median_ratio(seconds["leignn"], seconds["plain"])
    benchmark.extra_info["leignn_over_plain"] = ratio
    assert ratio < most


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_leignn_beside_the_networks_of_the_paper(benchmark, mode):
    """Two structures. The paper has LEIGNN about five times as fast as DimeNet++ and PaiNN with gradient forces."""
    seconds = benchmark.pedantic(measured, (mode, 2, 5, "leignn", *OTHERS), rounds=1)
    for name in OTHERS:
        benchmark.extra_info[f"{name}_over_leignn"] = median_ratio(seconds[name], seconds["leignn"])
    assert benchmark.extra_info["dimenet++_over_leignn"] > 1
