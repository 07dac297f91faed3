from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlipbench.datasets import prepare

sys.path.append(str(Path(__file__).parents[1] / "plan"))
from plan_world import World, convert_here


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world whose files are converted in this process, which takes a hundredth of the time."""
    monkeypatch.setattr(prepare, "convert_files", convert_here)
    return World(tmp_path)
