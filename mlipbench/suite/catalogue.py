"""Where the shipped suites are; nothing heavy is imported here."""

from __future__ import annotations

import difflib
from pathlib import Path

from mlipbench.errors import ConfigError


def _shipped() -> Path:
    """Return the folder of the shipped suites: inside the wheel, or beside the package in a checkout."""
    inside = Path(__file__).parent / "shipped"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "suites"


def suite_names() -> list[str]:
    """Return the names of the shipped suites, sorted."""
    return sorted(path.stem for path in _shipped().glob("*.yaml"))


def suite_path(name_or_path: str) -> Path:
    """Return the file of a suite given by name or by path.

    Raises:
        ConfigError: There is no such file and no shipped suite of that name; close names are listed.
    """
    if name_or_path in suite_names():
        return _shipped() / f"{name_or_path}.yaml"
    path = Path(name_or_path)
    if path.is_file():
        return path
    stem = path.stem if path.suffix in {".yaml", ".yml"} else name_or_path
    close = difflib.get_close_matches(stem, suite_names(), cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"shipped suites: {', '.join(suite_names())}"
    raise ConfigError(f"no suite file or shipped suite {name_or_path!r}", remedy=hint)
