"""Writing to the terminal."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlipbench.errors import MlipbenchError

_GAP = "  "


def emit(text: str) -> None:
    """Write a result to stdout; a reader that has gone away is no error."""
    try:
        sys.stdout.write(f"{text.rstrip()}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        mute(sys.stdout)


def emit_json(content: Any) -> None:
    """Write a machine-readable result to stdout, control characters escaped."""
    emit(json.dumps(content, indent=2, allow_nan=False))


def say(text: str) -> None:
    """Write a message to stderr as one line, control characters removed."""
    from mlipbench.report.text import clean

    try:
        sys.stderr.write(f"{clean(text)}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        mute(sys.stderr)


def complain(problems: Iterable[MlipbenchError]) -> None:
    """Write to stderr what is wrong with single files, one line each however often it was met."""
    for problem in dict.fromkeys(map(str, problems)):
        say(f"mlipbench: {problem}")


def mute(stream: TextIO) -> None:
    """Send a stream nowhere, so that flushing it at exit does not fail."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, stream.fileno())
    os.close(sink)


def aligned(rows: Sequence[Mapping[str, object]], columns: Iterable[str]) -> str:
    """Return rows as text in columns with a head.

    Args:
        rows: Cells by the name of their column; what a row lacks stays empty.
        columns: Names of the columns shown.
    """
    from mlipbench.report.text import clean

    names = list(columns)
    lines = [[name.replace("_", " ").upper() for name in names]]
    lines += [[clean(_text(row.get(name))) for name in names] for row in rows]
    widths = [max(len(line[position]) for line in lines) for position in range(len(names))]
    padded = (_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip() for line in padded)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return str(value)
