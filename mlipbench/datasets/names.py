"""Names of the shipped entries, without loading any."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ENTRIES: Final = Path(__file__).parent / "entries"


def entry_names() -> list[str]:
    """Return the names of the shipped entries; lists files only."""
    return sorted(path.stem for path in ENTRIES.glob("*.yaml"))
