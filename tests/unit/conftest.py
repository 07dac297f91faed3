from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic_runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a run and returns its directory."""

    def make(model: str, **settings: object) -> Path:
        return Run(model, **settings).write(tmp_path / "results")  # type: ignore[arg-type]

    return make


@pytest.fixture
def scored(make_run: Callable[..., Path]) -> Path:
    """Return a directory with scores of s2ef on the split ``test`` of ``toys``, each structure its own cluster."""
    return make_run("scored")
