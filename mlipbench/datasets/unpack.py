"""Unpacking of archives from the network: nothing in them decides where it goes or how much there is of it."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_MEMBERS: Final = 2_000_000
_PIECE: Final = 1 << 20


class _Member(NamedTuple):
    name: str
    size: int
    folder: bool
    handle: Any


def unpack(archive: Path, folder: Path, most_bytes: int) -> list[str]:
    """Unpack a tar or zip archive: its files appear in the folder together, after all of them were written.

    Args:
        archive: The archive.
        folder: Where to; what it holds under the same names is replaced.
        most_bytes: Largest size of all files together.

    Returns:
        The names at the top of the archive.

    Raises:
        DatasetError: It is damaged, holds something else than files and folders, a path that leaves the folder, or
            more than allowed.
    """
    work = folder / f".{archive.name}.unpacking"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with _opened(archive) as opened:
            members = _checked(archive, opened, most_bytes)
            for member in members:
                _write(opened, member, work)
        tops = sorted(path.name for path in work.iterdir())
        for top in tops:
            place = folder / top
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            (work / top).replace(place)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        text = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"the archive is damaged ({text})", file=archive, remedy="delete it and fetch it again"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return tops


def _opened(archive: Path) -> tarfile.TarFile | zipfile.ZipFile:
    return zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive)


def _checked(archive: Path, opened: tarfile.TarFile | zipfile.ZipFile, most_bytes: int) -> list[_Member]:
    total, found = 0, []
    for member in _members(archive, opened):
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
            raise DatasetError("holds a path that leaves the folder", file=archive, where=repr(member.name)[:100])
        total += member.size
        found.append(member)
        if total > most_bytes or len(found) > _MOST_MEMBERS:
            raise DatasetError(
                f"holds more than the {most_bytes / 1e6:.0f} MB and {_MOST_MEMBERS} files expected", file=archive,
                remedy="it is not the archive that was published",
            )  # fmt: skip
    return found


def _members(archive: Path, opened: tarfile.TarFile | zipfile.ZipFile) -> Iterator[_Member]:
    """Yield folders and plain files.

    Raises:
        DatasetError: There is something else.
    """
    if isinstance(opened, tarfile.TarFile):
        for entry in opened:
            if not (entry.isreg() or entry.isdir()):
                raise DatasetError("holds a link or a device", file=archive, where=repr(entry.name)[:100])
            yield _Member(entry.name, entry.size, entry.isdir(), entry)
        return
    for info in opened.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise DatasetError("holds a link or a device", file=archive, where=repr(info.filename)[:100])
        yield _Member(info.filename, info.file_size, info.is_dir(), info)


def _write(opened: tarfile.TarFile | zipfile.ZipFile, member: _Member, work: Path) -> None:
    place = work / PurePosixPath(member.name)
    if member.folder:
        place.mkdir(parents=True, exist_ok=True)
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    source: IO[bytes] | None
    source = opened.extractfile(member.handle) if isinstance(opened, tarfile.TarFile) else opened.open(member.handle)
    if source is None:
        raise ValueError(f"{member.name!r} cannot be read")
    with source, place.open("wb") as target:
        shutil.copyfileobj(source, target, _PIECE)
