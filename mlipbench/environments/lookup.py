"""Which Python installation serves a family of models."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mlipbench.environments.build import BuildRequest
from mlipbench.environments.built import environments_folder, family_identity, find_built, folder_name
from mlipbench.environments.compute import decide_compute
from mlipbench.environments.configuration import chosen_python, configuration_path, read_configuration
from mlipbench.environments.families import load_family
from mlipbench.environments.installed import (
    in_short,
    probe,
    required_names,
    running_installation,
    unmet_requirements,
)
from mlipbench.environments.lock import Lock
from mlipbench.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlipbench.environments.configuration import UserConfiguration
    from mlipbench.environments.families import Compute, Family


class Provision(StrEnum):
    """How an environment comes to be."""

    RUNNING = "running interpreter"
    USER = "user's python"
    BUILT = "built"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Environment:
    """A Python installation that models of one family run in.

    Attributes:
        name: Name of the family, as cards give it.
        how: How it comes to be; ``missing`` where it has yet to be built.
        python: The interpreter, or where it will be.
        requirements: The requirements it meets, one a line, includes resolved.
        identity: Identity of what was asked to be installed there; None for the running interpreter.
        lock: The lock it was built from, where it was built.
        problem: Why it cannot be used, with the remedy; None where it can.
    """

    name: str
    how: Provision
    python: Path
    requirements: tuple[str, ...]
    identity: str | None = None
    lock: Path | None = None
    problem: str | None = None

    @property
    def folder(self) -> Path:
        """The folder of the virtual environment that the interpreter is in."""
        return self.python.parents[1]

    def interpreter(self) -> Path:
        """Return the interpreter.

        Raises:
            PrerequisiteError: The environment cannot be used.
        """
        if self.problem is not None:
            raise PrerequisiteError(self.problem)
        return self.python

    def describe(self) -> str:
        """Return how it comes to be and where it is, in one line."""
        if self.how is Provision.MISSING:
            return f"to be built from {len(self.requirements)} requirements, in {self.folder}"
        return f"{self.how.value}, {self.python}"


@dataclass(frozen=True, slots=True)
class EnvironmentFacts:
    """What is known of an environment that is there, for the record of a run.

    Attributes:
        python: Version of its Python.
        packages: Versions of all its packages by name.
        lock_sha256: Checksum of its lock, where it was built.
    """

    python: str
    packages: Mapping[str, str]
    lock_sha256: str | None = None


class Environments:
    """Finds the environments of one command, each once.

    An interpreter that the user names comes first, then the running one, then what was built.

    Args:
        cache: The cache.
        isolated: Whether the running interpreter is out of the question.
        failed: Why an environment could not be built, by name.
    """

    def __init__(
        self, cache: Path, *, isolated: bool = False, failed: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Keep the arguments; nothing is read yet."""
        self._cache = cache
        self._isolated = isolated
        self._failed = failed
        self._found: dict[str, Environment] = {}

    @cached_property
    def configuration(self) -> UserConfiguration:
        """The user's configuration.

        Raises:
            ConfigError: It is invalid.
        """
        return read_configuration(configuration_path())

    @cached_property
    def compute(self) -> Compute:
        """What environments are built for."""
        return decide_compute(self.configuration, running_installation(["torch"]))

    def find(self, name: str) -> Environment:
        """Return the environment of a family, which may have yet to be built.

        Raises:
            ConfigError: There is no environment of this name, or the user's configuration is invalid.
        """
        if name not in self._found:
            self._found[name] = self._decide(load_family(name, self.compute))
        return self._found[name]

    def request(self, name: str, python: Path | None = None, lock: Path | None = None) -> BuildRequest:
        """Return what it takes to build an environment.

        Args:
            name: Name of the family.
            python: Interpreter whose version it gets; None takes the running one.
            lock: A lock to repeat.
        """
        return BuildRequest(name, self._cache, self.compute, configuration_path(), python, lock)

    def _decide(self, family: Family) -> Environment:
        chosen = chosen_python(self.configuration, family.name, configuration_path())
        if chosen is not None:
            return self._of_user(family, chosen)
        wanted = family.effective()
        lacking = ""
        if not self._isolated:
            unmet = unmet_requirements(wanted, running_installation(required_names(wanted)))
            if not unmet:
                return Environment(family.name, Provision.RUNNING, Path(sys.executable), wanted)
            lacking = f", and the running interpreter lacks {in_short(unmet)}"
        identity = family_identity(family, self.compute)
        built = find_built(self._cache, family.name, identity)
        if built is not None:
            return Environment(family.name, Provision.BUILT, built.interpreter, wanted, identity, built.lock)
        version = ".".join(str(part) for part in sys.version_info[:2])
        folder = environments_folder(self._cache) / folder_name(identity, family.name, version, None)
        problem = self._failed.get(
            family.name,
            f"the environment {family.name!r} is not built{lacking}; run: mlipbench env create {family.name}",
        )
        python = folder / "bin" / "python"
        return Environment(family.name, Provision.MISSING, python, wanted, identity, problem=problem)

    def _of_user(self, family: Family, python: Path) -> Environment:
        place = configuration_path(), f"environments.{family.name}.python"
        try:
            installed = probe(python)
        except ConfigError as error:
            raise ConfigError(
                f"{python}: {error.problem}", file=place[0], where=place[1], remedy=error.remedy
            ) from None
        wanted = family.effective()
        unmet = unmet_requirements(wanted, installed)
        problem = (
            f"{place[0]}: {place[1]}: {python} lacks {in_short(unmet)}; install them there, or name another"
            if unmet
            else None
        )
        content = json.dumps([installed.python, sorted(installed.packages.items())])
        identity = hashlib.sha256(content.encode()).hexdigest()
        return Environment(family.name, Provision.USER, python, wanted, identity, problem=problem)


def environment_facts(environment: Environment) -> EnvironmentFacts:
    """Return what is installed in an environment.

    Raises:
        ConfigError: The interpreter no longer starts, or its lock is damaged.
        PrerequisiteError: The environment cannot be used.
    """
    python = environment.interpreter()
    if environment.lock is not None:
        lock = Lock.read(environment.lock)
        return EnvironmentFacts(probe(python).python, lock.packages, lock.sha256)
    installed = running_installation() if environment.how is Provision.RUNNING else probe(python)
    return EnvironmentFacts(installed.python, installed.packages)
