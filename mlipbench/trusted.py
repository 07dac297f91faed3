"""Checkpoints that are pickles: which of them this machine has reason to read.

Reading a pickle can run any code. One whose checksum is recorded in the cache was made here, or somebody consented to
it before; any other needs ``--trust``, which records it. Weights that a package downloads by name are held to the
checksum that the card pins or, where nobody published one, to that of their first use here; so are data.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mlipbench.cachedir import default_cache
from mlipbench.errors import ConfigError, PrerequisiteError, from_os_error

if TYPE_CHECKING:
    from pathlib import Path

MADE_HERE: Final = "trained here"
CONSENT: Final = "--trust"
FIRST_USE: Final = "first use"


def admit(path: Path, sha256: str, *, trust: bool) -> None:
    """Let a pickled checkpoint pass if it is recorded, or record it on the user's consent.

    Args:
        path: The file.
        sha256: Its checksum.
        trust: Whether the user consents.

    Raises:
        PrerequisiteError: It is not recorded, and there is no consent.
    """
    if _place(sha256).is_file():
        return
    if not trust:
        raise PrerequisiteError(
            "the checkpoint is a pickle, which can run any code, and was not made on this machine", file=path,
            remedy="give --trust if you know where it is from",
        )  # fmt: skip
    record(path, sha256, CONSENT)


def record(path: Path, sha256: str, reason: str) -> None:
    """Remember a pickled checkpoint by its checksum.

    Args:
        path: The file.
        sha256: Its checksum.
        reason: `MADE_HERE` or `CONSENT`.

    Raises:
        ResultsError: The cache cannot be written.
    """
    _write(_place(sha256), {"path": str(path.absolute()), "reason": reason})


def check_named(kind: str, name: str, path: Path, pinned: str | None) -> str:
    """Refuse a file that was found by name if it is not what it was, and return its checksum.

    Args:
        kind: Whose name it is.
        name: The name.
        path: The file.
        pinned: The checksum that the card of a model pins, or None; then the first use records it.

    Raises:
        ConfigError: The checksum is another one.
        PrerequisiteError: The file cannot be read.
        ResultsError: The cache cannot be written.
    """
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PrerequisiteError(f"cannot be read ({error.strerror})", file=path) from None
    place = default_cache() / "recorded" / f"{kind}-{quote(name, safe='')}.json"
    recorded = _recorded(place)
    expected = pinned or recorded
    if expected not in {None, found}:
        where = "the card pins" if pinned else "at its first use here it had"
        note = "" if pinned else f", or {place} if it was published anew"
        raise ConfigError(
            f"the file of {name!r} has sha256 {found}, {where} {expected}", file=path,
            remedy=f"delete the file to have it downloaded again{note}",
        )  # fmt: skip
    if recorded != found:
        _write(place, {"sha256": found, "reason": FIRST_USE})
    return found


def _recorded(place: Path) -> str | None:
    try:
        return str(json.loads(place.read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(place: Path, facts: dict[str, str]) -> None:
    content = facts | {"time": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, place) from None


def _place(sha256: str) -> Path:
    return default_cache() / "recorded" / f"{sha256}.json"
