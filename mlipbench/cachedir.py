"""Where this machine keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """Return ``MLIPBENCH_CACHE``, else ``mlipbench`` in the user's cache folder (``XDG_CACHE_HOME``, ``~/.cache``)."""
    own = os.environ.get("MLIPBENCH_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlipbench"
