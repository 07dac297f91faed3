"""Scoring a split of a million structures in little memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import GIB, N_STRUCTURES, peak_memory

pytestmark = pytest.mark.benchmark

SCORE = """
import sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_scoring_memory
test_scoring_memory.score(Path(sys.argv[2]))
"""


def score(folder) -> None:
    """Score predictions that are all zero."""
    from mlipbench.metrics.definition import evaluate
    from mlipbench.metrics.errors import S2EF_METRICS
    from mlipbench.scoring.files import write_scores
    from mlipbench.scoring.split import score_split
    from mlipbench.scoring.treatment import Treatment
    from mlipbench.status import Task
    from mlipbench.structures.columnar import Split

    split = Split(folder / "split", "synthetic", "all")
    treatment = Treatment(free_atoms_only=True)
    scores = score_split(folder / "predictions.parquet", Task.S2EF, split, split.n_structures, treatment)
    write_scores(folder / "scores.parquet", scores)
    for name in ("energy_mae", "forces_mae", "forces_cosine_similarity", "energy_forces_within_threshold"):
        print(evaluate(S2EF_METRICS[name], scores.errors, scores.clusters))  # noqa: T201


def predict_zeros(folder, split) -> None:
    """Write the predictions of a model that says zero, batch by batch."""
    from itertools import pairwise

    import numpy as np

    from mlipbench.plan.batches import cut_batches
    from mlipbench.status import Task
    from mlipbench.store.predictions import PredictionBlock, SplitStore

    bounds = cut_batches(split.counts, 400_000)
    store = SplitStore(folder / "predictions.parquet", split.counts, bounds, Task.S2EF)
    for batch, (start, stop) in enumerate(pairwise(bounds)):
        size, atoms = int(stop - start), int(split.counts[start:stop].sum())
        offsets = split.offsets[start : stop + 1] - split.offsets[start]
        forces = np.zeros((atoms, 3), dtype=np.float32)
        columns = {"energy": np.zeros(size), "forces": forces}
        block = PredictionBlock(offsets, columns, np.zeros(size, dtype=np.uint8), {})
        store.commit(batch, block, ())
    store.finish(split.names)


@pytest.mark.timeout(3000)
def test_a_million_structures_are_scored_in_less_than_a_gibibyte(benchmark, tmp_path):
    """The anonymous memory of the process that scores, watched from outside."""
    from conftest import synthetic_split

    split = synthetic_split(tmp_path / "split", N_STRUCTURES)
    predict_zeros(tmp_path, split)
    peaks = []

    def run() -> None:
        here = os.path.dirname(__file__)  # noqa: PTH120
        child = subprocess.Popen([sys.executable, "-c", SCORE, here, str(tmp_path)], stdout=subprocess.DEVNULL)
        peaks.append(peak_memory(child))

    benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["structures"] = N_STRUCTURES
    benchmark.extra_info["anonymous_mib"] = max(peaks) / 2**20
    assert max(peaks) < GIB
