"""Families of models and what each needs, from the requirement files that ship."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlipbench.environments.source import SourceBuild, read_source_build
from mlipbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).parent / "requirements"
_SHARED: Final = "worker"  # included by the others, no environment of its own


class Compute(StrEnum):
    """What an environment computes on."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of one family need.

    Attributes:
        name: Name of the family and of its environment, as cards give it.
        requirements: One a line, includes resolved.
        overrides: Requirements that take the place of what packages ask for themselves.
        source: The package that is built from its source distribution, if one is.
    """

    name: str
    requirements: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    source: SourceBuild | None = None

    @property
    def resolved(self) -> tuple[str, ...]:
        """What an environment is built from: the requirements, and what a build from source needs."""
        return self.requirements if self.source is None else (*self.requirements, *self.source.requires)

    def effective(self) -> tuple[str, ...]:
        """Return the requirements with those replaced that an override names."""
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name

        replaced = {canonicalize_name(Requirement(text).name): text for text in self.overrides}
        names = [canonicalize_name(Requirement(text).name) for text in self.requirements]
        return tuple(replaced.get(name, text) for name, text in zip(names, self.requirements, strict=True))


def environment_names() -> tuple[str, ...]:
    """Return the names of all environments in alphabetical order."""
    stems = (path.stem for path in FOLDER.glob("*.txt"))
    return tuple(sorted(stem for stem in stems if stem != _SHARED and "." not in stem))


def load_family(name: str, compute: Compute) -> Family:
    """Return what a family needs.

    Beside ``NAME.txt`` may stand ``NAME.overrides.txt`` and ``NAME.cpu-overrides.txt``, the latter for machines
    without a GPU only, and ``NAME.source.yaml``, which names a package to build from source.

    Raises:
        ConfigError: There is no environment of this name.
    """
    if name not in environment_names():
        from mlipbench.yamlfile import did_you_mean

        raise ConfigError(f"unknown environment {name!r}", remedy=did_you_mean(name, environment_names()))
    kinds = ("overrides", "cpu-overrides") if compute is Compute.CPU else ("overrides",)
    files = [FOLDER / f"{name}.{kind}.txt" for kind in kinds]
    overrides = [line for path in files if path.is_file() for line in read_requirements(path)]
    source = read_source_build(FOLDER / f"{name}.source.yaml")
    return Family(name, tuple(read_requirements(FOLDER / f"{name}.txt")), tuple(overrides), source)


def family_package(name: str) -> str | None:
    """Return name and version of the package that an environment is there for: the first that is pinned exactly.

    Args:
        name: Name of the environment.

    Returns:
        Such as ``mace-torch 0.3.16``; None where no package is pinned or no environment has the name.
    """
    path = FOLDER / f"{name}.txt"
    pinned = (text for text in read_requirements(path) if "==" in text) if name in environment_names() else iter(())
    return next((text.replace("==", " ") for text in pinned), None)


def read_requirements(path: Path) -> Iterator[str]:
    """Yield the requirements of a file and of the files it includes with ``-r``."""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            yield from read_requirements(path.parent / text.removeprefix("-r ").strip())
        elif text:
            yield text
