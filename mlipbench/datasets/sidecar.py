"""Text files beside extended XYZ files, one line a frame, such as OC20's ``K.txt.xz`` beside ``K.extxyz.xz``."""

from __future__ import annotations

import math
from collections import ChainMap
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mlipbench.datasets.textfiles import XZ, next_line, open_text
from mlipbench.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mlipbench.datasets.records import Frame, Reading

_XYZ: Final = (".extxyz", ".xyz")
_NUMERIC: Final = ("energy", "reference_energy", "charge", "spin")


def sidecar_of(path: Path, sidecar: Mapping[str, Any] | None) -> Path | None:
    """Return the file beside an extended XYZ file that holds more about its frames.

    Args:
        path: The data file.
        sidecar: What an entry declares, see `mlipbench.datasets.entry.Sidecar`; None where it declares nothing.

    Returns:
        The plain or else the compressed one; None where nothing is declared or the format has no such files.

    Raises:
        DatasetError: There is neither.
    """
    stem = next((path.name.removesuffix(XZ).removesuffix(end) for end in _XYZ if _ends(path, end)), None)
    if sidecar is None or stem is None:
        return None
    plain = path.with_name(stem + sidecar["ending"])
    for candidate in (plain, plain.with_name(plain.name + XZ)):
        if candidate.is_file():
            return candidate
    raise DatasetError(
        f"there is neither this file nor {plain.name}{XZ}, which the entry says belongs to {path.name}",
        file=plain,
        remedy="put it there, or remove `sidecar` from the entry",
    )


def _ends(path: Path, ending: str) -> bool:
    return path.name.removesuffix(XZ).endswith(ending)


def with_sidecar(frames: Iterable[Frame], path: Path, reading: Reading) -> Iterator[Frame]:
    """Add the values of a sidecar, line by line, to the frames of its file.

    Args:
        frames: The frames, in the order of the file.
        path: The sidecar.
        reading: What to read.

    Raises:
        DatasetError: The numbers of lines and frames differ, or a line does not hold the declared columns.
    """
    assert reading.sidecar is not None  # noqa: S101 (for the type checker)
    keys, prefixes = reading.keys, reading.sidecar["prefixes"]
    numeric = {keys.get(name) for name in _NUMERIC}
    with open_text(path) as file:
        lines = _lines(file, path, reading.sidecar["columns"])
        n_frames = 0
        for n_frames, frame in enumerate(frames, start=1):
            where, row = next(lines, (None, None))
            if where is None or row is None:
                problem = f"has {n_frames - 1} lines, but the data file holds more frames"
                raise DatasetError(problem, file=path, remedy="get both files again")
            values = {name: _value(row[name], name, prefixes, (name in numeric, where, path)) for name in row}
            twice = sorted(set(values) & set(frame.values))
            if twice:
                raise DatasetError(f"{twice[0]!r} stands in the data file as well", file=path, where=where)
            yield replace(frame, values=ChainMap(values, dict(frame.values)))
        if next(lines, None) is not None:
            problem = f"has more lines than the {n_frames} frames of the data file"
            raise DatasetError(problem, file=path, remedy="get both files again")


def _lines(file: Any, path: Path, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    number = 0
    while True:
        number += 1
        where = f"line {number}"
        try:
            line = next_line(file, where)
        except DatasetError as error:
            error.file = path
            raise
        except UnicodeDecodeError:
            raise DatasetError("is not UTF-8 text", file=path, where=where) from None
        if not line:
            return
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(columns):
            problem = f"has {len(cells)} columns instead of {len(columns)} ({', '.join(columns)})"
            raise DatasetError(problem, file=path, where=where)
        yield where, dict(zip(columns, cells, strict=True))


def _value(cell: str, name: str, prefixes: Mapping[str, str], how: tuple[bool, str, Path]) -> str | float:
    numeric, where, path = how
    prefix = prefixes.get(name, "")
    if not cell.startswith(prefix):
        raise DatasetError(f"{name} {cell[:40]!r} does not begin with {prefix!r}", file=path, where=where)
    text = cell.removeprefix(prefix)
    if not numeric:
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DatasetError(f"{name} {text[:40]!r} is not a finite number", file=path, where=where)
    return number
