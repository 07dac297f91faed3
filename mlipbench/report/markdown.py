"""The leaderboard as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlipbench.report.layout import blocks, rank_text, superscript
from mlipbench.report.notes import origin
from mlipbench.report.table import build_tables
from mlipbench.report.text import escape_markdown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.report.layout import Block
    from mlipbench.report.table import Cell, Table

_LEGEND: Final = (
    "Intervals in brackets are 95 %. Behind the dot: the ranks that a model can have in its column among models of "
    "equal training, at 5 % over all their pairs (paired cluster bootstrap on common structures, max-T). Bold: none of "
    "them was found to be better. Contaminated models, which were trained on the very structures, are not compared. "
    "Arrows point to better values. ✓ keeps to the threshold at the head of its column, ✗ does not."
)


def to_markdown(records: Sequence[RunRecord], tables: Iterable[Table] | None = None) -> str:
    """Return the leaderboard of some runs as one Markdown page.

    Args:
        records: What `collect` found.
        tables: What `build_tables` made of them, where the caller has that already.
    """
    tables = build_tables(records) if tables is None else tables
    parts = ["# Leaderboard", _LEGEND]
    for table in tables:
        parts.extend(_section(table))
    parts.extend(["## Origin", _list(origin(records))] if origin(records) else [])
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> list[str]:
    parts = [f"## {escape_markdown(table.heading)}", _list(table.about)]
    for block in blocks(table):
        if block.title:
            parts.append(f"### {escape_markdown(block.title)}")
        parts.append(_grid(table, block))
    notes = [
        f"{superscript((number,))} {escape_markdown(text)}" for number, text in enumerate(table.footnotes, start=1)
    ]
    parts.append("  \n".join(notes))
    return [part for part in parts if part]


def _grid(table: Table, block: Block) -> str:
    heads = ["Model", "Variant", "Training"]
    heads += [
        escape_markdown(label) + _marks(table.columns[position].notes)
        for label, position in zip(block.labels, block.columns, strict=True)
    ]
    lines = [_line(heads), _line(["---", "---", "---", *("---:" for _ in block.columns)])]
    for row in table.rows:
        names = [escape_markdown(row.model) + _marks(row.notes), escape_markdown(row.variant)]
        names.append(escape_markdown(row.training))
        lines.append(_line([*names, *(_cell(row.cells[position]) for position in block.columns)]))
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return text + rank_text(cell) + _marks(cell.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return f" {superscript(notes)}" if notes else ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)
