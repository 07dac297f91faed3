"""Locks: every package of an environment with its version and the checksums of its files, and nothing else."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from mlipbench.errors import ConfigError, PrerequisiteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LOCK_FILE: Final = "requirements.lock"
_LARGEST: Final = 16 << 20
_PIN: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;@]+)((?: --hash=sha\d{3}:[0-9a-f]+)+)")
_HEADER: Final = re.compile(r"# (environment|python|platform|compute|torch-backend): (\S+)")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock.

    Attributes:
        packages: Versions by normalised name.
        facts: What it was resolved for: ``environment``, ``python``, ``platform``, ``compute``; and ``torch-backend``
            where PyTorch's own index was asked.
        text: The file.
    """

    packages: Mapping[str, str]
    facts: Mapping[str, str]
    text: str

    @property
    def sha256(self) -> str:
        """Checksum of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def lines(self) -> dict[str, str]:
        """Return the pin of each package with its checksums, by normalised name, one line each."""
        from packaging.utils import canonicalize_name

        return {str(canonicalize_name(line.partition("==")[0])): line for _, line in _logical_lines(self.text)}

    @classmethod
    def made(cls, facts: Mapping[str, str], resolved: str) -> Self:
        """Return a lock of what uv resolved.

        Args:
            facts: What it was resolved for.
            resolved: uv's list with hashes.

        Raises:
            ConfigError: It holds something else than pinned packages with hashes.
        """
        head = "".join(f"# {name}: {value}\n" for name, value in facts.items())
        return cls.parse(head + resolved)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a lock.

        Raises:
            ConfigError: The file is no lock.
            PrerequisiteError: It is missing or cannot be read.
        """
        try:
            with path.open("rb") as file:
                raw = file.read(_LARGEST + 1)
        except OSError as error:
            remedy = "give the path of a requirements.lock"
            raise PrerequisiteError(f"cannot be read ({error.strerror})", file=path, remedy=remedy) from None
        if len(raw) > _LARGEST:
            raise ConfigError("is larger than 16 MiB", file=path, remedy="this is no lock")
        try:
            return cls.parse(raw.decode(), path)
        except UnicodeDecodeError:
            raise ConfigError("is not UTF-8", file=path, remedy="this is no lock") from None

    @classmethod
    def parse(cls, text: str, path: Path | None = None) -> Self:
        """Return the lock that a text holds; see `read`."""
        from packaging.utils import canonicalize_name

        packages: dict[str, str] = {}
        for number, line in _logical_lines(text):
            found = _PIN.fullmatch(line)
            if found is None:
                raise ConfigError(
                    f"is no pinned package with hashes: {line[:60]!r}",
                    file=path or LOCK_FILE,
                    where=f"line {number}",
                    remedy="a lock holds lines such as `numpy==2.4.6 --hash=sha256:...` only",
                )
            packages[str(canonicalize_name(found[1]))] = found[2]
        if not packages:
            raise ConfigError("holds no package", file=path or LOCK_FILE, remedy="give a requirements.lock")
        facts = {found[1]: found[2] for found in _HEADER.finditer(text)}
        return cls(MappingProxyType(packages), MappingProxyType(facts), text)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines without comments, continued ones joined, each with the number of its first line."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        first = first if parts else number
        parts.append(stripped.removesuffix("\\").strip())
        if not stripped.endswith("\\"):
            yield first, " ".join(parts)
            parts = []
    if parts:
        yield first, " ".join(parts)
