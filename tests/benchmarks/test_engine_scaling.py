"""How much faster two workers are than one, and what a shard costs besides its structures."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from test_shards_scale import CARD, ENTRY, SUITE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

SHARDS, PER_SHARD, SECONDS = 8, 10, 0.5  # a structure in each batch: a shard lasts five seconds and its start
GOAL = 1.6


def write_files(folder: Path, adapter: str, **kwargs: float) -> None:
    rng = np.random.default_rng(0)
    n = SHARDS * PER_SHARD
    (folder / "data").mkdir(parents=True)
    arrays = {"R": rng.normal(size=(n, 3, 3)), "F": rng.normal(size=(n, 3, 3)), "E": rng.normal(size=n)}
    np.savez(folder / "data" / "large.npz", z=np.array([8, 1, 1]), **arrays)
    card = CARD | {"adapter": f"mlipbench.testing.toys:{adapter}", "kwargs": kwargs, "batch": {"structures": 1}}
    for name, content in (("large", ENTRY), ("null", card), ("suite", SUITE)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))


def seconds(folder: Path, *arguments: str) -> float:
    env = os.environ | {
        "MLIPBENCH_CACHE": str(folder / "cache"), "MLIPBENCH_DATA": str(folder / "data"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "mlipbench", "run", "suite.yaml", "--trust", "--display", "none", "--again"]
    begun = time.perf_counter()
    subprocess.run([*command, *arguments], cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


@pytest.mark.parametrize("adapter", ["SlowAdapter", "BusyAdapter"])
def test_two_workers_take_little_more_than_half_of_the_time_of_one(benchmark, tmp_path, adapter):
    """Waiting needs no processor and shows the engine alone; computing shows what the processors share, too."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    write_files(tmp_path, adapter, **({"seconds": SECONDS} if adapter == "SlowAdapter" else {"work": 20_000}))
    whole = os.sched_getaffinity(0)
    plain = seconds(tmp_path)
    two = benchmark.pedantic(seconds, (tmp_path, "--shards", str(SHARDS)), rounds=1)
    os.sched_setaffinity(0, {min(whole)})
    try:
        one = seconds(tmp_path, "--shards", str(SHARDS))
    finally:
        os.sched_setaffinity(0, whole)
    benchmark.extra_info |= {
        "uncut_seconds": plain,
        "one_worker_seconds": one,
        "two_workers_seconds": two,
        "speed_up": one / two,
        "seconds_a_shard_costs": (one - plain) / SHARDS,
    }
    assert adapter == "BusyAdapter" or one / two > GOAL
