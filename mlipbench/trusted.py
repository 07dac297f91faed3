"""Checkpoints that are pickles: which of them this machine has reason to read.

Reading a pickle can run any code. One whose checksum is recorded in the cache was made here, or somebody consented to
it before; any other needs ``--trust``, which records it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mlipbench.cachedir import default_cache
from mlipbench.errors import PrerequisiteError, from_os_error

if TYPE_CHECKING:
    from pathlib import Path

MADE_HERE: Final = "trained here"
CONSENT: Final = "--trust"


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
    place = _place(sha256)
    facts = {"path": str(path.absolute()), "reason": reason, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise from_os_error(error, place) from None


def _place(sha256: str) -> Path:
    return default_cache() / "recorded" / f"{sha256}.json"
