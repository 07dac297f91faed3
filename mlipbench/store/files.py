"""Writing files so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import glob
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mlipbench.errors import from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by a file with `content`, synced to disk.

    Raises:
        MlipbenchError: The disk is full or the folder cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it is synced and renamed to `path`.

    Raises:
        MlipbenchError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_orphans(path)
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise from_os_error(error, path) from error
    finally:
        with suppress(OSError):  # where the folder could not be made; the first error is what counts
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Flush a file or a folder to disk.

    Raises:
        OSError: The operating system refuses.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_orphans(path: Path) -> None:
    """Remove the temporary files that processes left beside `path` when they were killed."""
    import psutil

    for orphan in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        writer = orphan.name.split(".")[-2]
        if not (writer.isdigit() and psutil.pid_exists(int(writer))):
            orphan.unlink(missing_ok=True)
