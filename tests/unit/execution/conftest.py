import sys
from pathlib import Path

import numpy as np
import pytest

from mlipbench.execution.client import WorkerSpec
from mlipbench.structures import StructureBatch

ODD = 92  # the element that makes a toy misbehave


def make_batch(n_structures, odd=(), *, seed=0):
    """Structures of 2 to 5 hydrogen atoms; those whose index is in `odd` have one atom of the odd element."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 6, n_structures)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    numbers = np.ones(offsets[-1], dtype=np.int64)
    numbers[offsets[list(odd)]] = ODD
    return StructureBatch(
        numbers=numbers,
        positions=rng.normal(size=(offsets[-1], 3)),
        cell=np.tile(10 * np.eye(3), (n_structures, 1, 1)),
        pbc=np.zeros((n_structures, 3)),
        offsets=offsets,
    )


@pytest.fixture
def batch_of():
    return make_batch


@pytest.fixture
def odd():
    return ODD


@pytest.fixture
def spec(tmp_path):
    return WorkerSpec(Path(sys.executable), tmp_path / "worker.log", start_timeout=60, request_timeout=30)
