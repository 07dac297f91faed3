from __future__ import annotations

import pytest

from mlipbench.environments import families as families_module


@pytest.fixture
def families(tmp_path, monkeypatch):
    """A folder for requirement files of the test's own, and no configuration of the user's."""
    folder = tmp_path / "families"
    folder.mkdir()
    monkeypatch.setattr(families_module, "FOLDER", folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("MLIPBENCH_CONFIG", raising=False)
    return folder
