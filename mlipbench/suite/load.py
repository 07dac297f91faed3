"""Reading a suite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.suite.schema import Suite
from mlipbench.yamlfile import read_yaml, validate

if TYPE_CHECKING:
    from pathlib import Path


def read_suite(path: Path) -> Suite:
    """Read and validate one suite file.

    Raises:
        ConfigError: The file is not a valid suite; the first fault is named with its field and line.
    """
    return validate(Suite, read_yaml(path), path).in_folder(path.parent)
