"""Getting the files of a dataset: from the folder where they lie already, or from where they are published."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from mlipbench.datasets.download import ResumingDownloader
from mlipbench.datasets.unpack import unpack
from mlipbench.errors import DatasetError, PrerequisiteError, from_os_error
from mlipbench.trusted import check_named

if TYPE_CHECKING:
    from pathlib import Path

    from mlipbench.datasets.sources import Archive
    from mlipbench.progress import Display

_PIECE: Final = 1 << 20
_GROWTH: Final = 100  # of an archive whose unpacked size nobody published
_ROUNDING: Final = 1.5  # published sizes are rounded


class Presence(StrEnum):
    """What is there of a published file."""

    ABSENT = "absent"
    PLACED = "placed"  # somebody put it there; its checksum was not looked at
    VERIFIED = "verified"


@dataclass(frozen=True, slots=True)
class Fetched:
    """A published file that is there.

    Attributes:
        archive: What it is.
        folder: Where it is, or was unpacked.
        sha256: Its checksum.
        downloaded: Whether it was downloaded now.
    """

    archive: Archive
    folder: Path
    sha256: str
    downloaded: bool


def presence(archive: Archive, root: Path) -> Presence:
    """Return what is there of a file, without reading it.

    Args:
        archive: The file.
        root: The data root.
    """
    if _record(archive, root) is not None:
        return Presence.VERIFIED
    return Presence.PLACED if _place(archive, root).is_file() else Presence.ABSENT


def fetch(archive: Archive, root: Path, display: Display) -> Fetched:
    """Make sure that a published file is there, verified and, where it is an archive, unpacked.

    A file of that name that somebody placed there is taken; what an earlier command left of a download goes on. An
    archive that was downloaded is deleted once it is unpacked.

    Args:
        archive: The file.
        root: The data root.
        display: Shows progress.

    Raises:
        DatasetError: Its checksum is another one, or the archive is damaged or dangerous.
        PrerequisiteError: It cannot be downloaded, or space is missing.
    """
    known = _record(archive, root)
    folder = root / archive.folder
    if known is not None:
        return Fetched(archive, folder, known["sha256"], downloaded=False)
    path = _place(archive, root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        downloaded = not path.is_file()
        if downloaded:
            _download(archive, path, display)
        sha256 = _verified(archive, path)
        content = {"sha256": sha256, **_stamp(path)}
        if archive.unpack:
            content = {"sha256": sha256, "unpacked": unpack(path, folder, _most_bytes(archive, path))}
            if downloaded:  # it has served, and can be had again
                path.unlink()
        _record_path(archive, root).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, path) from None
    return Fetched(archive, folder, sha256, downloaded)


def _download(archive: Archive, path: Path, display: Display) -> None:
    """Download from the first address that has the file.

    Raises:
        PrerequisiteError: None has it, or what came has another checksum.
    """
    try:
        import pooch
    except ModuleNotFoundError:
        raise PrerequisiteError(
            "downloading needs the package pooch", remedy='run: pip install "mlipbench[data]"'
        ) from None
    pooch.get_logger().setLevel("ERROR")
    part = path.with_name(f"{path.name}.part")
    causes = []
    for url in archive.urls:
        downloader = ResumingDownloader(part, display)
        try:
            pooch.retrieve(url, archive.checksum, fname=path.name, path=path.parent, downloader=downloader)
        except PrerequisiteError as error:
            if error.file is not None:  # no room
                raise
            causes.append(f"{url}: {error.problem}")
        except ValueError:
            downloader.discard()
            causes.append(f"{url}: what came has not the published {archive.checksum}")
        else:
            return
    raise PrerequisiteError(
        f"{archive.file} cannot be downloaded ({'; '.join(causes)})",
        remedy=f"get it elsewhere and store it as {path}, then give the command again",
    )


def _verified(archive: Archive, path: Path) -> str:
    """Return the SHA-256 of a file whose checksums are as published, or as at its first use where none are.

    Raises:
        DatasetError: They are not.
    """
    if archive.checksum is None:
        return check_named("data", archive.urls[0], path, None)
    sums = {name: hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha256")}
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            for digest in sums.values():
                digest.update(piece)
    for name, digest in sums.items():
        published = getattr(archive, name)
        if published is not None and digest.hexdigest() != published:
            raise DatasetError(
                f"has {name} {digest.hexdigest()}, published is {published}", file=path,
                remedy="delete it and fetch it again",
            )  # fmt: skip
    return sums["sha256"].hexdigest()


def _most_bytes(archive: Archive, path: Path) -> int:
    if archive.unpacked is not None:
        return int(_ROUNDING * archive.unpacked)
    return _GROWTH * path.stat().st_size


def _place(archive: Archive, root: Path) -> Path:
    return root / archive.folder / archive.file


def _record_path(archive: Archive, root: Path) -> Path:
    return root / archive.folder / f".{archive.file}.json"


def _stamp(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _record(archive: Archive, root: Path) -> dict[str, Any] | None:
    """Return what was noted when the file was verified, None where it was not or is not as it was."""
    try:
        known: dict[str, Any] = json.loads(_record_path(archive, root).read_bytes())
        if archive.unpack:
            there = all((root / archive.folder / top).exists() for top in known["unpacked"])
        else:
            there = _stamp(_place(archive, root)).items() <= known.items()
        published = archive.sha256 in {None, known["sha256"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return known if there and published else None
