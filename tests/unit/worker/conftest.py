import numpy as np
import pytest

from mlipbench.structures import StructureBatch


@pytest.fixture
def batch():
    """Three structures of 2, 1 and 3 atoms."""
    rng = np.random.default_rng(1)
    return StructureBatch(
        numbers=np.ones(6),
        positions=rng.normal(size=(6, 3)),
        cell=np.tile(5 * np.eye(3), (3, 1, 1)),
        pbc=np.zeros((3, 3)),
        offsets=[0, 2, 3, 6],
    )
