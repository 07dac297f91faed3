"""CHGNet through the harness, side by side with its own bare forward and its own calculator."""

from __future__ import annotations

import os
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import interleaved, median_ratio, whole_shard

from mlipbench.cachedir import default_cache
from mlipbench.datasets.entry import load_entry
from mlipbench.datasets.prepare import DataLocation, open_split
from mlipbench.execution.client import WorkerSpec, loaded_client
from mlipbench.execution.evaluate import Predictor
from mlipbench.execution.requests import LoadModel, task_message
from mlipbench.models.interface import Property
from mlipbench.models.registry import load_card
from mlipbench.plan import PlannedSplit
from mlipbench.plan.batches import cut_batches
from mlipbench.progress import SilentDisplay
from mlipbench.runner.splits import ShardJob, _inconsistency, predict_shard
from mlipbench.store.records import Role
from mlipbench.store.rundir import RunDirectory
from mlipbench.tasks import TaskRequest

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.chgnet,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # what the package says of itself
    pytest.mark.timeout(1800),
]

REQUEST = TaskRequest(frozenset(Property))


def threads() -> int:
    """Return the threads of every candidate alike."""
    return int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))


@pytest.fixture
def crystals():
    """Random crystals of MPtrj."""
    root = os.environ.get("MLIPBENCH_TEST_DATA")
    if not root:
        pytest.skip("MLIPBENCH_TEST_DATA does not name the folder of data samples")
    return open_split(load_entry("mptrj-sample"), "test", DataLocation(Path(root), default_cache()))


def client(tmp_path: Path):
    """Return a worker with CHGNet loaded."""
    spec = WorkerSpec(python=Path(sys.executable), log=tmp_path / "log.txt", threads=threads())
    model = LoadModel("mlipbench.adapters.chgnet:ChgnetAdapter", dtype="float32", threads=threads())
    return loaded_client(spec, model)


def test_evaluation_costs_little_more_than_the_bare_batched_forward(benchmark, tmp_path, crystals):
    """The goal is 0.97 of the structures/s of the adapter's own calls, timed inside the same worker."""
    bounds = cut_batches(crystals.counts, load_card("chgnet").batch.atoms)
    plan = PlannedSplit(
        REQUEST, "mptrj-sample", "test", Role.EVALUATE, crystals.n_structures, crystals.n_atoms, bounds,
        "all", crystals.content_hash,
    )  # fmt: skip
    shares = []
    with Predictor(lambda: client(tmp_path)) as predictor:

        def evaluate() -> None:
            import pyarrow.parquet as pq

            directory = RunDirectory(tmp_path / f"run{len(shares)}")
            job = ShardJob(directory, plan, whole_shard(plan), crystals, "chgnet")
            start = time.perf_counter()
            _inconsistency(predictor, job)  # done once a split of any size: no part of the cost per structure
            middle = time.perf_counter()
            predict_shard(predictor, job, SilentDisplay())
            wall = time.perf_counter() - middle - (middle - start)
            timings = pq.read_table(
                directory.path / "timings" / "s2ef.mptrj-sample.test.000000000-whole.parquet"
            ).to_pydict()
            shares.append((sum(timings["prepare_seconds"]) + sum(timings["forward_seconds"])) / wall)

        benchmark.pedantic(evaluate, rounds=3)
    benchmark.extra_info["share_of_the_model"] = float(np.median(shares))
    assert np.median(shares) > 0.97


def test_batches_are_twice_as_fast_as_the_calculator_loop(benchmark, tmp_path, crystals):
    """CHGNet's own calculator, one structure at a time, against the harness on the same crystals."""
    import torch
    from chgnet.model.dynamics import CHGNetCalculator
    from chgnet.model.model import CHGNet

    torch.set_num_threads(threads())
    size = min(100, crystals.n_structures)
    frames = crystals.structures(0, size).to_atoms()
    calculator = CHGNetCalculator(CHGNet.load(verbose=False), use_device="cpu")
    cuts = cut_batches(crystals.counts[:size], load_card("chgnet").batch.atoms)

    with client(tmp_path) as worker:

        def harness() -> None:
            for number, (start, stop) in enumerate(pairwise(cuts)):
                worker.request(task_message(number, crystals.structures(int(start), int(stop)), REQUEST))

        def loop() -> None:
            for atoms in frames:
                calculator.calculate(atoms, task="efs")

        ours, theirs = interleaved(3, harness, loop)
        benchmark.pedantic(harness, rounds=1)
    benchmark.extra_info["times_as_fast"] = 1 / median_ratio(ours, theirs)
    assert median_ratio(ours, theirs) <= 0.5
