"""Files that the scripts write: records of a work directory, and checksums of the packed data."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def write_atomic(path: Path, record: dict[str, Any]) -> None:
    """Write JSON to a temporary file and rename it, so that a stored file is always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(record))
    temporary.rename(path)


def load(path: Path) -> dict[str, Any]:
    """One stored record."""
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def write_checksums(out: Path, files: Iterable[Path]) -> None:
    """Write ``SHA256SUMS`` over data files below a folder."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out).as_posix()}\n" for path in files]
    (out / "SHA256SUMS").write_text("".join(lines))
