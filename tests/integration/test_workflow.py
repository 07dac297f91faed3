"""The workflow that other repositories call runs the gate with what it is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

if TYPE_CHECKING:
    from typing import Any

WORKFLOW = Path(__file__).parents[2] / ".github" / "workflows" / "gate.yml"
STUB = '#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    return content


def words(workflow: dict[Any, Any], folder: Path, **given: str) -> list[str]:
    """Return the words that the step `Gate` gives to mlipbench."""
    (step,) = [step for step in workflow["jobs"]["gate"]["steps"] if step.get("name") == "Gate"]
    stub = folder / "mlipbench"
    stub.write_text(STUB, encoding="utf-8")
    stub.chmod(0o755)
    inputs = dict.fromkeys(step["env"], "") | given
    env = {**os.environ, **inputs, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    command = ["bash", "-e", "-c", step["run"]]
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()


def test_what_is_left_out_is_no_option(workflow: dict[Any, Any], tmp_path: Path) -> None:
    expected = ["gate", "oc20", "--markdown", "gate.md", "--yes"]
    assert words(workflow, tmp_path, SUITE="oc20") == expected


def test_everything_is_passed_on_and_nothing_is_a_command(workflow: dict[Any, Any], tmp_path: Path) -> None:
    odd = "$(touch hacked) suite.yaml"
    given = {"SUITE": odd, "BASELINE": "a b.json", "AGAINST": "origin/main", "POLICY": "p.yaml"}
    told = words(workflow, tmp_path, **given, OPTIONS="--data mini --limit 5")
    by = ["--baseline", "a b.json", "--against", "origin/main", "--policy", "p.yaml"]
    assert told == ["gate", odd, *by, "--markdown", "gate.md", "--yes", "--data", "mini", "--limit", "5"]
    known = subprocess.run(
        [sys.executable, "-m", "mlipbench", "gate", "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert all(word in known for word in told if word.startswith("--"))


def test_every_input_has_a_meaning_and_is_used(workflow: dict[Any, Any]) -> None:
    inputs = workflow[True]["workflow_call"]["inputs"]  # YAML reads `on` as a truth value
    text = WORKFLOW.read_text(encoding="utf-8")
    assert all(one["description"] for one in inputs.values())
    assert all(f"inputs.{name} }}}}" in text for name in inputs)
