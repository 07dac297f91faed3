"""Parameters of our own networks, counted where torch is."""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlipbench.errors import WorkerError
from mlipbench.execution.process import WorkerSpec, child_environment, link_package
from mlipbench.version import code_version

if TYPE_CHECKING:
    from mlipbench.environments import Environment


@cache
def network_parameters(folder: Path, environment: Environment) -> dict[str, dict[str, int]]:
    """Return the number of parameters of every network of `mlipbench.nets`, by name and preset.

    They are counted from the built modules in a process of the networks' environment, once for each version of the
    code.

    Args:
        folder: The cache.
        environment: The networks' environment.

    Raises:
        PrerequisiteError: The environment is missing.
        WorkerError: The process failed.
    """
    kept = folder / "parameters" / f"{code_version()}.json"
    if not kept.exists():
        python = environment.interpreter()
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            entry, written = Path(scratch), Path(scratch, "counts.json")
            variables = child_environment(WorkerSpec(python=python, log=Path()), link_package(entry))
            command = [str(python), "-m", "mlipbench.nets", str(written)]
            done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                raise WorkerError("the networks cannot be built", detail=done.stderr)
            written.replace(kept)
    counts: dict[str, dict[str, int]] = json.loads(kept.read_text(encoding="utf-8"))
    return counts
