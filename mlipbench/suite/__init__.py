"""Suites: versioned YAML lists of tasks and models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.suite.catalogue import suite_names, suite_path

if TYPE_CHECKING:
    from mlipbench.suite.schema import Suite

__all__ = ["load_suite", "suite_names", "suite_path"]


def load_suite(name_or_path: str) -> Suite:
    """Read and validate a suite given by name or by path.

    Raises:
        ConfigError: There is no such suite, or the file is not a valid suite.
    """
    from mlipbench.suite.load import read_suite

    return read_suite(suite_path(name_or_path))
