"""Which installation serves a family of models."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mlipbench.environments import environment_names, find_environment, lookup
from mlipbench.environments.lookup import Provision, read_requirements, unmet_requirements
from mlipbench.errors import ConfigError, ExitCode, PrerequisiteError


@pytest.fixture
def families(tmp_path, monkeypatch):
    """Requirement files of the test's own, and no remembered answers."""
    monkeypatch.setattr(lookup, "_FOLDER", tmp_path)
    find_environment.cache_clear()
    yield tmp_path
    find_environment.cache_clear()


def test_the_shared_file_is_no_environment():
    assert environment_names() == ("base", "chgnet", "fairchem", "fairchem-v1", "mace", "torch")


def test_the_running_interpreter_serves_what_its_metadata_meet():
    found = find_environment("base")
    assert found.python == Path(sys.executable)
    assert found.how is Provision.RUNNING
    assert any(line.startswith("vesin") for line in found.requirements)
    assert find_environment("base") is found


def test_includes_and_comments_are_resolved(families):
    (families / "worker.txt").write_text("# shared\nnumpy>=1  # comment\n\n")
    (families / "acme.txt").write_text("-r worker.txt\nscipy>=1\n")
    assert list(read_requirements(families / "acme.txt")) == ["numpy>=1", "scipy>=1"]
    assert find_environment("acme").requirements == ("numpy>=1", "scipy>=1")


def test_unmet_lines_and_the_remedy_are_named(families):
    (families / "acme.txt").write_text("numpy==0.1\nno-such-package>=2\n")
    with pytest.raises(PrerequisiteError) as caught:
        find_environment("acme")
    message = str(caught.value)
    assert f"numpy==0.1 (found {np.__version__})" in message
    assert "no-such-package>=2 (missing)" in message
    assert 'pip install "mlipbench[acme]"' in message
    assert caught.value.exit_code == ExitCode.MISSING


def test_only_the_first_unmet_lines_are_shown(families):
    (families / "base.txt").write_text("".join(f"no-such-package-{i}\n" for i in range(5)))
    with pytest.raises(PrerequisiteError, match=r'and 2 more; run: pip install "mlipbench"$'):
        find_environment("base")


def test_markers_and_local_versions_count(monkeypatch):
    monkeypatch.setattr(lookup.importlib.metadata, "version", lambda name: {"torch": "2.13.0+cpu"}[name])
    assert unmet_requirements(("torch~=2.13.0", "nothing>=1; python_version < '3'")) == []
    assert unmet_requirements(("torch~=2.12.0",)) == ["torch~=2.12.0 (found 2.13.0+cpu)"]


def test_an_unknown_environment_lists_close_names():
    with pytest.raises(ConfigError, match="did you mean chgnet"):
        find_environment("chgnt")
