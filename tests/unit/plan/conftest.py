from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plan_world import World

from mlipbench.datasets import prepare
from mlipbench.datasets.columnar import Split
from mlipbench.datasets.readers import read
from mlipbench.datasets.records import Reading
from mlipbench.datasets.writer import ColumnarWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.datasets.children import Job


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world whose files are converted in this process, which takes a hundredth of the time."""
    monkeypatch.setattr(prepare, "convert_files", convert_here)
    return World(tmp_path)


def convert_here(jobs: Sequence[Job], *_: Any) -> None:
    for job in jobs:
        with ColumnarWriter(job.output) as writer:
            for chunk in read(job.source, Reading.from_json(job.reading), job.label):
                writer.append(chunk.structures, chunk.labels, chunk.clusters)
        assert len(Split(job.output))
