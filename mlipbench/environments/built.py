"""Environments that were built: where they lie, which one serves, and taking them away."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import sysconfig
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from mlipbench.environments.lock import LOCK_FILE
from mlipbench.errors import PrerequisiteError, from_os_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlipbench.environments.families import Compute, Family

MARKER: Final = "environment.json"
LAYOUT: Final = 1
"""Raised whenever the same requirements would be built differently."""
_PARTIAL: Final = ".partial"
_DOOMED: Final = ".removed"
_DIGITS: Final = 12


class EnvironmentBusyError(PrerequisiteError):
    """Another process builds the environment."""


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """An environment that was built completely.

    Attributes:
        folder: Its folder.
        name: Name of the family.
        family: Identity of what the family needed when it was built, see `family_identity`.
        python: Version of its Python.
        compute: What it was built for.
        packages: Number of packages.
        size: Bytes of its files when it was built.
        created: Seconds since the epoch; the newest of several counts.
        lock_sha256: Checksum of its lock.
    """

    folder: Path
    name: str
    family: str
    python: str
    compute: str
    packages: int
    size: int
    created: float
    lock_sha256: str

    @property
    def interpreter(self) -> Path:
        """Its Python."""
        return self.folder / "bin" / "python"

    @property
    def lock(self) -> Path:
        """Its lock."""
        return self.folder / LOCK_FILE

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Return the environment in a folder, or None where there is none that could serve."""
        try:
            content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
            found = cls(folder=folder, **content)
        except (OSError, ValueError, TypeError):
            return None
        return found if found.interpreter.exists() and found.lock.is_file() else None

    def write(self, folder: Path) -> None:
        """Write the marker into a folder that is still being built."""
        content = {name: value for name, value in asdict(self).items() if name != "folder"}
        (folder / MARKER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def environments_folder(cache: Path) -> Path:
    """Return the folder of all built environments."""
    return cache / "environments"


def family_identity(family: Family, compute: Compute) -> str:
    """Return the identity of what a family needs on this machine."""
    parts = [LAYOUT, family.name, sorted(family.requirements), sorted(family.overrides), platform_name(), compute.value]
    return _digest(parts if family.source is None else [*parts, family.source.identity])


def folder_name(identity: str, name: str, python: str, lock_sha256: str | None) -> str:
    """Return the name of an environment's folder: equal for equal content.

    Args:
        identity: From `family_identity`.
        name: Name of the family.
        python: Version of its Python, of which major and minor count.
        lock_sha256: Checksum of the lock it is made from, None where it is resolved.
    """
    return f"{name}-{_digest([identity, python.split('.')[:2], lock_sha256])[:_DIGITS]}"


def platform_name() -> str:
    """Return system, processor and C library, such as ``linux-x86_64-glibc``."""
    libc = platform.libc_ver()[0]
    return "-".join(part for part in (sysconfig.get_platform(), libc) if part)


def built_environments(cache: Path, name: str | None = None) -> list[BuiltEnvironment]:
    """Return what was built, the newest first.

    Args:
        cache: The cache.
        name: Only those of this family.
    """
    root = environments_folder(cache)
    folders = sorted(root.iterdir()) if root.is_dir() else []
    found = [BuiltEnvironment.read(folder) for folder in folders if not folder.name.startswith(".")]
    return sorted(
        (environment for environment in found if environment is not None and name in {None, environment.name}),
        key=lambda environment: (-environment.created, environment.folder.name),
    )


def find_built(cache: Path, name: str, identity: str) -> BuiltEnvironment | None:
    """Return the newest environment of a family that was built for just what the family needs, or None."""
    return next((found for found in built_environments(cache, name) if found.family == identity), None)


def remove_built(cache: Path, name: str) -> list[BuiltEnvironment]:
    """Remove every environment of a family, and return what was removed.

    Raises:
        EnvironmentBusyError: One is being built.
        MlipbenchError: The folder cannot be written.
    """
    for left in environments_folder(cache).glob(f".{name}-{'[0-9a-f]' * _DIGITS}{_PARTIAL}"):
        with building(cache, left.name.removeprefix(".").removesuffix(_PARTIAL), wait=False):
            shutil.rmtree(left, ignore_errors=True)
    removed = built_environments(cache, name)
    for environment in removed:
        with building(cache, environment.folder.name, wait=False):
            discard(environment.folder)
    return removed


@contextmanager
def building(cache: Path, folder: str, *, wait: bool) -> Iterator[None]:
    """Hold the lock of a folder, which the operating system releases with this process.

    Args:
        cache: The cache.
        folder: Name of the folder.
        wait: Whether to wait for another process.

    Raises:
        EnvironmentBusyError: Another process holds it, and `wait` is false.
        MlipbenchError: The folder cannot be written.
    """
    root = environments_folder(cache)
    try:
        (root / ".locks").mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / ".locks" / folder, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise from_os_error(error, root) from error
    try:
        _lock(descriptor, root / folder, wait=wait)
        yield
    finally:
        os.close(descriptor)


def partial(root: Path, folder: str) -> Path:
    """Return where an environment is built before it takes its place."""
    return root / f".{folder}{_PARTIAL}"


def sweep(cache: Path) -> None:
    """Remove what builds and removals that died have left."""
    root = environments_folder(cache)
    for left in [*root.glob(f".*{_PARTIAL}"), *root.glob(f".*{_DOOMED}")]:
        name = left.name.removeprefix(".").removesuffix(_PARTIAL).removesuffix(_DOOMED)
        try:
            with building(cache, name, wait=False):
                shutil.rmtree(left, ignore_errors=True)
        except EnvironmentBusyError:  # it is in use
            continue


def discard(folder: Path) -> None:
    """Remove a folder so that at no moment a part of it could be taken for the whole.

    Raises:
        MlipbenchError: It cannot be written.
    """
    doomed = folder.with_name(f".{folder.name}{_DOOMED}")
    try:
        if doomed.exists():
            shutil.rmtree(doomed)
        folder.rename(doomed)
        shutil.rmtree(doomed)
    except OSError as error:
        raise from_os_error(error, folder) from error


def disk_size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    total = 0
    for place, _, files in os.walk(folder):
        total += sum(os.lstat(Path(place, name)).st_size for name in files)
    return total


def _lock(descriptor: int, folder: Path, *, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise EnvironmentBusyError(
            "another process builds this environment now", file=folder, remedy="wait for it, or stop it"
        ) from None


def _digest(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
