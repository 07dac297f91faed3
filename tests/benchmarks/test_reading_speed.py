"""Reading a prepared split against the dataset classes of other packages on the same file, structures per second."""

from __future__ import annotations

import importlib.metadata
import pickle
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import ATOMS, interleaved, median_ratio

from mlipbench.datasets.entry import DatasetEntry
from mlipbench.datasets.prepare import DataLocation, open_split

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.structures.columnar import Split

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600), pytest.mark.filterwarnings("ignore")]
N = 5_000
GOAL = 5  # times as fast


def prepared(tmp_path: Path, pattern: str, **fields: Any) -> Split:
    entry = DatasetEntry.model_validate(
        {
            "name": "same",
            "title": "Same",
            "licence": "MIT",
            "citation": "none",
            "level_of_theory": "none",
            "energy_reference": "total",
            "units": {"energy": "eV", "forces": "eV/A", "length": "A"},
            "cluster": "structure",
            "root": "data",
            "splits": {"all": {"files": [pattern]}},
            **fields,
        }
    )
    return open_split(entry, "all", DataLocation(tmp_path, tmp_path / "cache"))


def columns(split: Split) -> float:
    """Go once through structures and labels, and return the sum of all forces."""
    total = 0.0
    for start, stop in split.chunks():
        batch, labels = split.structures(start, stop), split.labels(start, stop)
        total += float(labels.forces.sum()) + 0.0 * float(batch.positions.sum())
    return total


def report(benchmark, split: Split, theirs: Any) -> None:
    """Time both in turn, check that they read the same, and store structures/s of both."""
    sums = {}

    def run(name: str, go: Any) -> None:
        sums[name] = go()

    ours, others = interleaved(3, partial(run, "ours", partial(columns, split)), partial(run, "theirs", theirs))
    assert sums["ours"] == pytest.approx(sums["theirs"], rel=1e-4, abs=0.1)
    benchmark.pedantic(columns, args=(split,), rounds=1)
    benchmark.extra_info["structures_per_second"] = len(split) / float(np.median(ours))
    benchmark.extra_info["structures_per_second_of_the_other"] = len(split) / float(np.median(others))
    benchmark.extra_info["times_as_fast"] = 1 / median_ratio(ours, others)
    assert 1 / median_ratio(ours, others) > GOAL


@pytest.mark.fairchem_v1
def test_lmdb_of_fairchem(benchmark, tmp_path):
    """Pickled samples of OC20's size, as fairchem-core 1 writes and reads them."""
    try:
        if not importlib.metadata.version("fairchem-core").startswith("1."):
            pytest.skip("needs fairchem-core 1")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs fairchem-core 1")
    lmdb = pytest.importorskip("lmdb")
    from mlipbench.adapters.stand_ins import provide

    provide()
    import torch
    from fairchem.core.datasets import LmdbDataset
    from torch_geometric.data import Data

    generator = torch.Generator().manual_seed(0)
    path = tmp_path / "data.lmdb"
    with (
        lmdb.open(str(path), map_size=1 << 32, subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(N):
            sample = Data(
                pos=torch.rand(ATOMS, 3, generator=generator) * 12,
                cell=torch.diag(torch.tensor([12.0, 12.0, 30.0]))[None],
                atomic_numbers=torch.full((ATOMS,), 29.0),
                natoms=ATOMS,
                tags=torch.zeros(ATOMS, dtype=torch.long),
                fixed=torch.zeros(ATOMS),
                energy=0.0,
                forces=torch.randn(ATOMS, 3, generator=generator),
                sid=number,
                fid=0,
            )
            transaction.put(str(number).encode(), pickle.dumps(sample, protocol=-1))
        transaction.put(b"length", pickle.dumps(N, protocol=-1))
    split = prepared(tmp_path, "data.lmdb", keys={"energy": "energy", "forces": "forces"}, pbc=[True, True, True])
    dataset = LmdbDataset({"src": str(path)})
    report(benchmark, split, lambda: sum(float(dataset[number].forces.sum()) for number in range(len(dataset))))


@pytest.mark.torch
def test_npz_of_pytorch_geometric(benchmark, tmp_path):
    """A molecule in MD17's file; PyTorch Geometric keeps it in memory."""
    pytest.importorskip("torch_geometric")
    from torch_geometric.datasets import MD17

    rng = np.random.default_rng(0)
    folder = tmp_path / "root" / "ethanol" / "raw"
    folder.mkdir(parents=True)
    arrays = {
        "z": np.full(9, 6),
        "R": rng.normal(size=(N, 9, 3)),
        "E": np.zeros((N, 1)),
        "F": rng.normal(size=(N, 9, 3)),
    }
    np.savez(folder / MD17.file_names["ethanol"], **arrays)
    keys = {"energy": "E", "forces": "F", "positions": "R", "numbers": "z"}
    pattern = (folder / MD17.file_names["ethanol"]).relative_to(tmp_path).as_posix()
    split = prepared(tmp_path, pattern, keys=keys, pbc=[False, False, False])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = MD17(str(tmp_path / "root"), "ethanol")
    report(benchmark, split, lambda: sum(float(sample.force.sum()) for sample in dataset))
