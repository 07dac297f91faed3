"""Which Python installation serves a family of models."""

from __future__ import annotations

import importlib.metadata
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER: Final = Path(__file__).parent / "requirements"
_SHARED: Final = "worker"  # included by the others, no environment of its own
_SHOWN: Final = 3


class Provision(StrEnum):
    """How an environment comes to be."""

    RUNNING = "running interpreter"


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python installation that models of one family run in.

    Attributes:
        name: Name of the family, as cards give it.
        python: The interpreter.
        requirements: The requirements it meets, one a line, includes resolved.
        how: How it comes to be.
    """

    name: str
    python: Path
    requirements: tuple[str, ...]
    how: Provision


def environment_names() -> tuple[str, ...]:
    """Return the names of all environments in alphabetical order."""
    stems = (path.stem for path in _FOLDER.glob("*.txt"))
    return tuple(sorted(stem for stem in stems if stem != _SHARED and not stem.endswith("overrides")))


@cache
def find_environment(name: str) -> Environment:
    """Return the environment of a family.

    The running interpreter serves when its installed metadata meet every line of the family's requirement file. The
    answer is kept for the life of the process.

    Raises:
        ConfigError: There is no environment of this name.
        PrerequisiteError: No environment meets the requirements.
    """
    if name not in environment_names():
        from mlipbench.yamlfile import did_you_mean

        raise ConfigError(f"unknown environment {name!r}", remedy=did_you_mean(name, environment_names()))
    requirements = tuple(read_requirements(_FOLDER / f"{name}.txt"))
    unmet = unmet_requirements(requirements)
    if unmet:
        shown = ", ".join(unmet[:_SHOWN]) + (f" and {len(unmet) - _SHOWN} more" if len(unmet) > _SHOWN else "")
        target = "mlipbench" if name == "base" else f"mlipbench[{name}]"
        raise PrerequisiteError(
            f"the environment {name!r} is not installed: {shown}", remedy=f'run: pip install "{target}"'
        )
    return Environment(name, Path(sys.executable), requirements, Provision.RUNNING)


def read_requirements(path: Path) -> Iterator[str]:
    """Yield the requirements of a file and of the files it includes with ``-r``."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            yield from read_requirements(path.parent / text.removeprefix("-r ").strip())
        elif text:
            yield text


def unmet_requirements(requirements: tuple[str, ...]) -> list[str]:
    """Return the requirements that the running interpreter's installed metadata do not meet, each with the reason.

    Requirements whose marker does not hold here count as met; extras are not followed.
    """
    from packaging.requirements import Requirement

    unmet = []
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            unmet.append(f"{text} (missing)")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(f"{text} (found {version})")
    return unmet
