"""Files that a reader sees whole: the old one or the new one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside `path`, bring it to the disk, and put it in its place.

    Args:
        path: The file.
        write: Writes the new content to the path it is given.
    """
    fresh = path.with_name(f"{path.name}.new")
    write(fresh)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
