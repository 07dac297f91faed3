"""The user's configuration file: what a site brings of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from mlipbench.environments.families import Compute, environment_names
from mlipbench.errors import ConfigError
from mlipbench.yamlfile import did_you_mean, read_yaml, validate

VARIABLE: Final = "MLIPBENCH_CONFIG"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EnvironmentChoice(_Closed):
    """What the user says of one environment.

    Attributes:
        python: An interpreter that has the family's packages; ``~`` is the home folder, and a relative path starts at
            the folder of the configuration file.
    """

    python: str = Field(min_length=1)


class UserConfiguration(_Closed):
    """The user's configuration.

    Attributes:
        compute: What environments are built for; by default for CUDA where an NVIDIA device is.
        environments: Choices by name of the environment.
    """

    compute: Compute | None = None
    environments: dict[str, EnvironmentChoice] = Field(default_factory=dict)


def configuration_path() -> Path:
    """Return ``MLIPBENCH_CONFIG``, else ``mlipbench/config.yaml`` in ``XDG_CONFIG_HOME`` or ``~/.config``."""
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "mlipbench" / "config.yaml"


def read_configuration(path: Path) -> UserConfiguration:
    """Return the user's configuration; an empty one where there is no file.

    Raises:
        ConfigError: The file is invalid or names an unknown environment.
        PrerequisiteError: ``MLIPBENCH_CONFIG`` names a file that is not there.
    """
    if not path.exists() and not os.environ.get(VARIABLE):
        return UserConfiguration()
    configuration = validate(UserConfiguration, read_yaml(path), path)
    for name in configuration.environments:
        if name not in environment_names():
            raise ConfigError(
                f"unknown environment {name!r}",
                file=path,
                where=f"environments.{name}",
                remedy=did_you_mean(name, environment_names()),
            )
    return configuration


def chosen_python(configuration: UserConfiguration, name: str, path: Path) -> Path | None:
    """Return the interpreter the user names for an environment, or None."""
    choice = configuration.environments.get(name)
    return None if choice is None else Path(os.path.abspath(path.parent / Path(choice.python).expanduser()))  # noqa: PTH100 - links are kept: a virtual environment's python is one
