from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlipbench.datasets import prepare

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("plan", "scoring")]
from plan_world import World, convert_here


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world whose files are converted in this process, which takes a hundredth of the time."""
    monkeypatch.setattr(prepare, "convert_files", convert_here)
    return World(tmp_path)
