"""The version of the running code, down to the byte."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

from mlipbench import __version__

_SUFFIXES = (".py", ".yaml")


@cache
def code_version() -> str:
    """Return the released version and a hash of the code, such as ``0.1.0+3f9c2a7d41b8``.

    The hash covers the relative paths and contents of every Python and YAML file of the package, so that two
    sides that report the same string run the same code. It is computed once per process.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for name in sorted(_sources(root)):
        content = (root / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return f"{__version__}+{digest.hexdigest()[:12]}"


def _sources(root: Path) -> list[str]:
    found = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name != "__pycache__"]
        inside = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if inside == "." else f"{inside}/"
        found += [prefix + name for name in files if name.endswith(_SUFFIXES)]
    return found
