"""What a worker says of its environment, for the record of the run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any, Final

from mlipbench.machine import processor

_PACKAGES: Final = (
    "ase",
    "chgnet",
    "deepmd-kit",
    "e3nn",
    "fairchem-core",
    "mace-torch",
    "matgl",
    "mattersim",
    "nequip",
    "numpy",
    "orb-models",
    "pymatgen",
    "safetensors",
    "scipy",
    "sevenn",
    "torch",
    "torch-geometric",
    "vesin",
)


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that decide a prediction, as far as they are installed."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def host_facts() -> dict[str, Any]:
    """Return the processor, the number of cores this process may use and the C library."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "machine": platform.machine(),
        "cores": cores,
        "system": platform.platform(),
    }


def torch_facts() -> dict[str, Any]:
    """Return what torch says of its device and threads; nothing where no one imported torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    facts: dict[str, Any] = {"threads": torch.get_num_threads(), "cuda": torch.version.cuda}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts
