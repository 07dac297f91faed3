"""What a worker costs: a request against the same adapter on the same batch in this process, family by family.

The models are small, so that the cost shows; MACE's and fairchem's have random weights. Both sides have the settings of
the allocator that workers get, which would favour the worker otherwise.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from ase.build import bulk
from conftest import interleaved, median_ratio

from mlipbench.execution.client import WorkerSpec, loaded_client
from mlipbench.execution.requests import LoadModel, task_message
from mlipbench.models.interface import LoadRequest, Property
from mlipbench.models.registry import load_card
from mlipbench.structures import StructureBatch
from mlipbench.tasks import TaskRequest
from mlipbench.worker.loading import find_adapter

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # the makers of checkpoints

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]
REQUEST = TaskRequest(frozenset({Property.ENERGY, Property.FORCES}))
ROUNDS = {1: 15, 32: 7, 256: 3}
GOAL = 1.03  # for batches of 32 and more
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt


@dataclass(frozen=True)
class Family:
    """How the small model of a family is made.

    Attributes:
        adapter: ``module:Class``.
        package: Module that has to be there.
        checkpoint: Makes the checkpoint in a folder.
        kwargs: Arguments of the adapter.
        crystal: Makes a crystal of 64 atoms.
        memory: GiB that 256 of them need on both sides.
    """

    adapter: str
    package: str
    checkpoint: Callable[[Path], str | None]
    kwargs: dict[str, Any]
    crystal: Callable[[], Atoms] = lambda: bulk("Cu").repeat((4, 4, 4))
    memory: int = 20


def _mace(folder: Path) -> str:
    from mace_checkpoints import save_mace

    return str(save_mace(folder / "tiny.model"))


def _uma(folder: Path) -> str:
    from fairchem_checkpoints import save_checkpoint

    return str(save_checkpoint(folder / "uma.pt", "uma"))


def _gemnet(folder: Path) -> str:
    from mlipbench.adapters import fairchem_v1

    fairchem_v1._import_package()
    from fairchem_v1_checkpoints import save_checkpoint

    return str(save_checkpoint(folder / "gemnet.pt", "gemnet-dt"))


FAMILIES = {
    "torch": Family(
        "mlipbench.adapters.nets:NetsAdapter",
        "torch",
        lambda _: load_card("leignn").checkpoint_location("mini-slabs"),
        {},
    ),
    "chgnet": Family(
        "mlipbench.adapters.chgnet:ChgnetAdapter",
        "chgnet",
        lambda _: None,
        {},
        # copper has ten times as many angles, of which 32 crystals twice in memory are too much for 24 GiB
        lambda: bulk("Si", cubic=True).repeat((2, 2, 2)),
        memory=48,
    ),
    "mace": Family("mlipbench.adapters.mace:MaceAdapter", "mace", _mace, {}),
    "fairchem": Family(
        "mlipbench.adapters.fairchem:FairchemAdapter", "fairchem.core.units", _uma, {"task_name": "oc20"}
    ),
    "fairchem_v1": Family(
        "mlipbench.adapters.fairchem_v1:FairchemV1Adapter", "fairchem.core.trainers", _gemnet, {}, memory=48
    ),
}


@pytest.fixture(autouse=True)
def _as_in_a_worker():
    libc = ctypes.CDLL(None)
    for parameter, value in ((_MMAP_THRESHOLD, 2**31 - 1), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**28)):
        libc.mallopt(parameter, value)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def crystals(crystal: Callable[[], Atoms], n: int) -> StructureBatch:
    """Return crystals of 64 atoms, each displaced differently."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(n):
        frames.append(crystal())
        frames[-1].positions += rng.normal(0, 0.05, (64, 3))
    return StructureBatch.from_atoms(frames)


@pytest.mark.parametrize("size", ROUNDS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in FAMILIES])
def test_a_worker_costs_little_more_than_the_model_in_process(benchmark, tmp_path, name, size):
    family = FAMILIES[name]
    if size == max(ROUNDS) and psutil.virtual_memory().total < family.memory * 2**30:
        pytest.skip(f"needs {family.memory} GiB of memory")
    pytest.importorskip("torch")
    if name == "fairchem_v1":
        from mlipbench.adapters.stand_ins import provide

        provide()
    pytest.importorskip(family.package, reason=f"needs the environment of {name}", exc_type=ImportError)
    import torch

    threads = int(os.environ.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0))))
    torch.set_num_threads(threads)
    request = LoadRequest(dtype="float32", checkpoint=family.checkpoint(tmp_path), kwargs=family.kwargs)
    adapter = find_adapter(family.adapter).load(request)
    model = LoadModel(
        family.adapter, dtype="float32", checkpoint=request.checkpoint, kwargs=family.kwargs, threads=threads
    )
    spec = WorkerSpec(python=Path(sys.executable), log=tmp_path / "log.txt", threads=threads)
    batch, numbers = crystals(family.crystal, size), iter(range(1000))
    with loaded_client(spec, model) as worker:
        found = {}

        def remote() -> None:
            found["remote"] = worker.request(task_message(next(numbers), batch, REQUEST)).arrays["energy"]

        def local() -> None:
            found["local"] = adapter.predict(batch, REQUEST.properties).energy

        away, here = interleaved(ROUNDS[size], remote, local)
        benchmark.pedantic(remote, rounds=1)
    np.testing.assert_allclose(found["remote"], found["local"], rtol=1e-6)
    benchmark.extra_info["worker_over_in_process"] = median_ratio(away, here)
    benchmark.extra_info["structures_per_second"] = size / float(np.median(away))
    if size > 1:
        assert median_ratio(away, here) < GOAL
