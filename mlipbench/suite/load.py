"""Reading a suite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlipbench.errors import ConfigError
from mlipbench.suite.catalogue import suite_names, suite_path
from mlipbench.suite.extension import EXTENDS, Extension, extended
from mlipbench.suite.schema import Suite
from mlipbench.yamlfile import did_you_mean, read_yaml, validate

if TYPE_CHECKING:
    from pathlib import Path


def read_suite(path: Path) -> Suite:
    """Read and validate one suite file; one that extends a shipped suite becomes a suite of its own.

    Raises:
        ConfigError: The file is not a valid suite; the first fault is named with its field and line.
    """
    content = read_yaml(path)
    if EXTENDS in content:
        extension = validate(Extension, content, path)
        content = extended(_base(extension.extends, path), content)
    return validate(Suite, content, path).in_folder(path.parent)


def _base(name: str, path: Path) -> dict[str, Any]:
    """Return the content of a shipped suite that another file extends."""
    if name not in suite_names():
        raise ConfigError(
            f"no shipped suite {name!r}", file=path, where=EXTENDS, remedy=did_you_mean(name, suite_names())
        )
    content = read_yaml(suite_path(name))
    if EXTENDS in content:
        raise ConfigError(
            f"the suite {name} extends another itself", file=path, where=EXTENDS, remedy=f"extend {content[EXTENDS]}"
        )
    return content
