"""Packages that are built on this machine from their source distributions, because their wheels do not fit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from mlipbench.yamlfile import read_yaml, validate

if TYPE_CHECKING:
    from pathlib import Path

_COMPILERS: Final = ("c++", "g++", "clang++")
_DIGITS: Final = 12


class SourceBuild(BaseModel):
    """A package of a family that is compiled here, and how.

    Attributes:
        package: Its name, normalised.
        requires: What the build needs, one requirement a line; it is part of the lock and stays in the environment,
            so that nothing is downloaded whose checksum is not compared.
        variables: Environment variables of the build.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    package: str
    requires: tuple[str, ...]
    variables: dict[str, str] = Field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Equal for equal builds."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()

    def options(self) -> list[str]:
        """Return uv's options for a build of the package in the environment that it is for.

        uv keeps the wheel in its cache, by the source distribution and the settings of the build. One of these names
        the variables, which uv does not see; it means nothing to the build.
        """
        setting = f"cmake.define.MLIPBENCH_BUILD={self.identity[:_DIGITS]}"
        return [
            *("--no-binary", self.package),
            *("--no-build-isolation-package", self.package),
            *("--config-settings-package", f"{self.package}:{setting}"),
        ]

    def lacks_compiler(self) -> bool:
        """Return whether there is no C++ compiler, by ``CXX`` or one of the usual names."""
        own = os.environ.get("CXX")
        return not any(shutil.which(name) for name in ([own.split()[0]] if own else _COMPILERS))


def read_source_build(path: Path) -> SourceBuild | None:
    """Read how a family's package is built; None where the file is not there."""
    return validate(SourceBuild, read_yaml(path), path) if path.is_file() else None
