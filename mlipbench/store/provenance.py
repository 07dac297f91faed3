"""On what and by what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from mlipbench.machine import processor

_PACKAGES: Final = ("ase", "numpy", "pyarrow", "pydantic", "scipy", "vesin")


def package_versions() -> dict[str, str]:
    """Return the versions of the packages the parent's side computes with."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """Return processor, cores at hand, memory and operating system of this machine."""
    import psutil

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanliness of the checkout this package runs from; None outside a checkout."""
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None
    commit = _git("rev-parse", "HEAD", folder=package)
    status = _git("status", "--porcelain", "--", str(package), folder=package)
    if commit is None or status is None:
        return None
    return {"commit": commit, "dirty": bool(status)}


def _git(*arguments: str, folder: Path) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  # fixed arguments
            ["git", *arguments],  # noqa: S607  # whichever git the user has
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
