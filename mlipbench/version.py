"""The version of the running code, down to the byte."""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
"""The mlipbench that runs."""
_SUFFIXES = (".py", ".yaml")
_VERSION = re.compile(r'^__version__ = "([^"]+)"', re.MULTILINE)


def code_version(package: Path = PACKAGE) -> str:
    """Return the released version and a hash of the code, such as ``0.1.0+3f9c2a7d41b8``.

    The hash covers the relative paths and contents of every Python and YAML file of the package, so that two
    sides that report the same string run the same code. It is computed once per process.

    Args:
        package: Folder of an mlipbench, by default the one that runs.
    """
    return _version_of(package)


@cache
def _version_of(package: Path) -> str:
    digest = hashlib.sha256()
    for name in sorted(_sources(package)):
        content = (package / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{_released(package)}+{digest.hexdigest()[:12]}"


def _released(package: Path) -> str:
    found = _VERSION.search((package / "__init__.py").read_text(encoding="utf-8"))
    return found[1] if found else "0"


def _sources(root: Path) -> list[str]:
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        found += [prefix + name for name in files if name.endswith(_SUFFIXES)]
    return found
