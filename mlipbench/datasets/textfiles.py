"""Lines of text files, plain or compressed with xz, none of them longer than memory allows."""

from __future__ import annotations

import lzma
from typing import IO, TYPE_CHECKING, Final

from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

XZ: Final = ".xz"
_LONGEST_LINE: Final = 1 << 22


def open_text(path: Path) -> IO[str]:
    """Open a file for `next_line`; its name says whether it is compressed."""
    if path.name.endswith(XZ):
        return lzma.open(path, "rt", encoding="utf-8", newline="\n")
    return path.open(encoding="utf-8", newline="\n")


def next_line(file: IO[str], where: str) -> str:
    """Return the next line with its newline, or nothing at the end.

    Args:
        file: What `open_text` returned.
        where: What the line belongs to, for messages.

    Raises:
        DatasetError: The compressed data are cut or damaged, or the line is longer than 4 MiB.
    """
    try:
        line = file.readline(_LONGEST_LINE)
    except EOFError:
        raise DatasetError(
            "the compressed file ends inside this frame", where=where, remedy="get the file again"
        ) from None
    except lzma.LZMAError as error:
        raise DatasetError(f"the compressed data are damaged ({error})", where=where, remedy="get it again") from None
    if len(line) == _LONGEST_LINE:
        raise DatasetError("a line is longer than 4 MiB", where=where)
    return line
