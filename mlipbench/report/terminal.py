"""The leaderboard as plain text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlipbench.report.layout import blocks, rank_text, superscript
from mlipbench.report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlipbench.report.layout import Block
    from mlipbench.report.table import Cell, Table

_LEGEND: Final = (
    "[ ] 95 % interval   · ranks it can have, equal training   * none found to be better   ↓ ↑ better   ✓ ✗ threshold"
)
_GAP: Final = "  "
_NARROWEST: Final = 40


def to_text(tables: Iterable[Table], width: int = 100) -> str:
    """Return tables as text, metric by metric, models down and splits across.

    Args:
        tables: What `build_tables` made.
        width: Columns of the terminal; tables that are wider are continued below.
    """
    parts = [part for table in tables for part in _section(table, max(width, _NARROWEST))]
    return "\n\n".join([*parts, _LEGEND]) + "\n" if parts else ""


def _section(table: Table, width: int) -> list[str]:
    parts = [clean(table.heading)]
    parts.extend(part for block in blocks(table, by_metric=True) for part in _block(table, block, width))
    notes = [f"{superscript((number,))} {clean(text)}" for number, text in enumerate(table.footnotes, start=1)]
    return [*parts, "\n".join(notes)] if notes else parts


def _block(table: Table, block: Block, width: int) -> list[str]:
    names = [["Model", "Variant", "Training"]]
    names += [[clean(row.model) + _marks(row.notes), clean(row.variant), row.training] for row in table.rows]
    columns = []
    for position, label in zip(block.columns, block.labels, strict=True):
        cells = [_cell(row.cells[position]) for row in table.rows]
        columns.append([clean(label) + _marks(table.columns[position].notes), *cells])
    stub = columns_of(names)
    pieces = []
    for chunk in _chunks(columns, width - len(stub[0])):
        lines = [_GAP.join(line) for line in zip(stub, *(_padded(column) for column in chunk), strict=True)]
        pieces.append("\n".join([clean(block.title), *(line.rstrip() for line in lines)]))
    return pieces


def _chunks(columns: Sequence[list[str]], room: int) -> Iterable[list[list[str]]]:
    """Yield as many columns at a time as there is room for, at least one."""
    chunk: list[list[str]] = []
    used = 0
    for column in columns:
        needed = len(_GAP) + max(map(len, column))
        if chunk and used + needed > room:
            yield chunk
            chunk, used = [], 0
        chunk.append(column)
        used += needed
    yield chunk


def columns_of(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells, all of one length, as lines in columns.

    Args:
        rows: The cells, without control characters.
    """
    return _aligned([list(column) for column in zip(*rows, strict=True)])


def _aligned(columns: Sequence[list[str]]) -> list[str]:
    return [_GAP.join(line) for line in zip(*(_padded(column) for column in columns), strict=True)]


def _padded(column: Sequence[str]) -> list[str]:
    width = max(map(len, column))
    return [text.ljust(width) for text in column]


def _cell(cell: Cell) -> str:
    return cell.text + rank_text(cell) + ("*" if cell.best else "") + _marks(cell.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return f" {superscript(notes)}" if notes else ""
