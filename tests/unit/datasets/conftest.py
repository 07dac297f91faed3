from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlipbench.datasets import children, prepare
from mlipbench.datasets import convert as converter
from mlipbench.datasets.entry import DatasetEntry
from mlipbench.datasets.prepare import DataLocation
from mlipbench.datasets.readers import read
from mlipbench.datasets.writer import ColumnarWriter
from mlipbench.structures.columnar import Split

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlipbench.datasets.records import Reading


@pytest.fixture
def convert(tmp_path: Path) -> Callable[..., Split]:
    """Convert one file in this process."""

    def run(path: Path, how: Reading, label: str = "file") -> Split:
        folder = tmp_path / f"columns-{len(list(tmp_path.iterdir()))}"
        with ColumnarWriter(folder) as writer:
            for chunk in read(path, how, label):
                writer.append(chunk.structures, chunk.labels, chunk.clusters)
        return Split(folder)

    return run


@pytest.fixture
def make_entry() -> Callable[..., DatasetEntry]:
    def make(**changes: Any) -> DatasetEntry:
        fields: dict[str, Any] = {
            "name": "toy",
            "title": "Toy",
            "licence": "CC0",
            "citation": "none",
            "level_of_theory": "toy",
            "energy_reference": "total",
            "units": {"energy": "eV", "forces": "eV/A", "length": "A"},
            "keys": {"energy": "energy", "forces": "forces"},
            "pbc": "file",
            "cluster": "structure",
            "root": "data",
            "splits": {"all": {"files": ["*.extxyz"]}},
        }
        return DatasetEntry.model_validate(fields | changes)

    return make


@pytest.fixture
def location(tmp_path: Path) -> DataLocation:
    (tmp_path / "data").mkdir()
    return DataLocation(tmp_path / "data", tmp_path / "cache")


@pytest.fixture
def sample() -> Callable[[str], Path]:
    """Return a real file below MLIPBENCH_TEST_DATA, or skip naming what is missing."""

    def find(name: str) -> Path:
        root = os.environ.get("MLIPBENCH_TEST_DATA")
        if not root:
            pytest.skip("MLIPBENCH_TEST_DATA is not set")
        path = Path(root) / name
        if not path.exists():
            pytest.skip(f"{name} is not below MLIPBENCH_TEST_DATA")
        return path

    return find


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Convert without starting processes, and count the files converted."""
    converted = []

    def convert_files(jobs: Any, limits: Any, progress: Any = None) -> Any:
        for number, job in enumerate(jobs, start=1):
            job.output.mkdir()
            described = {"file": str(job.file), "label": job.label, "reading": json.loads(json.dumps(job.reading))}
            described["kind"] = job.kind
            problem = converter._convert(described, job.output)
            if problem is not None:
                (job.output / "error.json").write_text(json.dumps(problem))
                raise children._reported(job, limits)
            converted.append(job.label)
            if progress:
                progress(number, len(jobs))

    monkeypatch.setattr(prepare, "convert_files", convert_files)
    return converted
