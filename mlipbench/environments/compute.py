"""Whether environments are built for the processor or for CUDA, and what must not be in them then."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.environments.families import Compute
from mlipbench.environments.installed import in_short
from mlipbench.errors import PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.environments.configuration import UserConfiguration
    from mlipbench.environments.installed import Installation

_NODES: Final = ("/dev/nvidiactl", "/dev/dxg")
_CUDA_PACKAGE: Final = re.compile(r"(nvidia|cuda|cupy|pytorch-triton)(-.*)?|triton|pycuda|tensorrt(-.*)?")
_HARMLESS: Final = frozenset({"nvidia-ml-py", "nvidia-ml-py3"})  # small, pure Python, ask the driver where there is one
_CUDA_BUILD: Final = re.compile(r"\+(cu|rocm)\d")


def has_cuda_device() -> bool:
    """Return whether the operating system shows an NVIDIA device."""
    return any(Path(node).exists() for node in _NODES)


def decide_compute(configuration: UserConfiguration, running: Installation) -> Compute:
    """Return what environments are built for.

    What the configuration says; else the processor where the running interpreter has PyTorch's CPU build, or where no
    NVIDIA device is.
    """
    if configuration.compute is not None:
        return configuration.compute
    if running.packages.get("torch", "").endswith("+cpu") or not has_cuda_device():
        return Compute.CPU
    return Compute.CUDA


def cuda_packages(packages: Mapping[str, str]) -> list[str]:
    """Return those of some packages (versions by name) that serve CUDA only, as ``name==version``."""
    return [
        f"{name}=={version}"
        for name, version in packages.items()
        if name not in _HARMLESS and (_CUDA_PACKAGE.fullmatch(name) or _CUDA_BUILD.search(version))
    ]


def refuse_cuda(name: str, packages: Mapping[str, str], configuration: Path) -> None:
    """Refuse CUDA packages.

    Args:
        name: Name of the environment.
        packages: Versions of what would be installed, by name.
        configuration: Path of the user's configuration file, for the remedy.

    Raises:
        PrerequisiteError: There are some.
    """
    found = cuda_packages(packages)
    if found:
        raise PrerequisiteError(
            f"the environment {name!r} would bring CUDA packages to a machine that asked for the CPU build: "
            f"{in_short(found)}; nothing was downloaded",
            remedy="offer PyTorch's CPU build by pip's configuration, such as `pip config set global.extra-index-url "
            f"https://download.pytorch.org/whl/cpu`, or write `compute: cuda` in {configuration}",
        )
