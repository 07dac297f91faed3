"""What is installed beside an interpreter, and whether that meets a family's requirements."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

OLDEST: Final = (3, 11)
_SECONDS: Final = 60.0
_SHOWN: Final = 3
_MARK: Final = "mlipbench-probe "
# Run by the interpreter in question, so it uses nothing that is not in every Python 3.
_PROBE: Final = """
import json, os, platform, sys
try:
    from importlib.metadata import distributions
    packages = {}
    for dist in distributions():  # the first one on the path is the one that is imported
        packages.setdefault(dist.metadata["Name"] or "", dist.version)
except ImportError:
    packages = {}
version = "%d.%d.%d" % sys.version_info[:3]
print("mlipbench-probe " + json.dumps({"python": version, "packages": packages, "markers": {
    "os_name": os.name, "sys_platform": sys.platform, "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(), "implementation_name": sys.implementation.name,
    "platform_system": platform.system(), "platform_release": platform.release(),
    "python_version": "%d.%d" % sys.version_info[:2], "python_full_version": platform.python_version()}}))
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """An interpreter and the packages beside it.

    Attributes:
        python: Its version.
        packages: Versions by normalised name.
        markers: What requirement markers are evaluated with.
    """

    python: str
    packages: Mapping[str, str]
    markers: Mapping[str, str]


def running_installation(names: Iterable[str] | None = None) -> Installation:
    """Return that of the running interpreter.

    Args:
        names: The packages that are looked for; None takes all, which reads their metadata one by one.
    """
    found: dict[str, str] = {}
    if names is None:
        for dist in importlib.metadata.distributions():
            found.setdefault(dist.name or "", dist.version)
    else:
        for name in names:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return _installation(platform.python_version(), found, {})


def required_names(requirements: Iterable[str]) -> list[str]:
    """Return the packages that some requirements name."""
    from packaging.requirements import Requirement

    return [Requirement(text).name for text in requirements]


def probe(python: Path) -> Installation:
    """Ask an interpreter for its version and packages.

    It is started as workers are: without the user's site directory and without ``PYTHONPATH``.

    Raises:
        ConfigError: It is no interpreter, or too old.
    """
    if not python.exists():
        raise ConfigError("there is no such interpreter", file=python, remedy="give the path of a Python executable")
    if python.is_dir() or not os.access(python, os.X_OK):
        raise ConfigError("is not executable", file=python, remedy="give the path of a Python executable")
    answer = _answer(python)
    try:
        content = json.loads(answer.rpartition(_MARK)[2]) if _MARK in answer else None
        found = _installation(content["python"], content["packages"], content["markers"]) if content else None
    except (ValueError, KeyError, TypeError, AttributeError):
        found = None
    if found is None:
        raise ConfigError("is no Python interpreter", file=python, remedy="give the path of a Python executable")
    if tuple(int(part) for part in found.python.split(".")[:2]) < OLDEST:
        raise ConfigError(f"is Python {found.python}", file=python, remedy="Python 3.11 or later is needed")
    return found


def unmet_requirements(requirements: Sequence[str], installation: Installation) -> list[str]:
    """Return the requirements that an installation's metadata do not meet, each with the reason.

    Requirements whose marker does not hold there count as met; extras are not followed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    unmet = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate(dict(installation.markers)):
            continue
        version = installation.packages.get(canonicalize_name(requirement.name))
        if version is None:
            unmet.append(f"{text} (missing)")
        elif not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{text} (found {version})")
    return unmet


def in_short(lines: Sequence[str]) -> str:
    """Return the first few lines and how many more there are."""
    return ", ".join(lines[:_SHOWN]) + (f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else "")


def _answer(python: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter the user names
            [str(python), "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=kept,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def _installation(python: str, packages: Mapping[str, str], markers: Mapping[str, str]) -> Installation:
    from packaging.utils import canonicalize_name

    versions = {str(canonicalize_name(name)): str(version) for name, version in packages.items() if name}
    return Installation(python, MappingProxyType(versions), MappingProxyType(dict(markers)))
