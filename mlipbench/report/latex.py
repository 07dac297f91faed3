"""The leaderboard as tables for papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mlipbench.report.layout import blocks
from mlipbench.report.text import escape_latex, slug

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlipbench.report.layout import Block
    from mlipbench.report.table import Cell, Table, TableRow

_HEAD: Final = r"""% Made by mlipbench. Needs \usepackage{booktabs}.
% Intervals in brackets are 95 %. Bold: no model of the column with equal training was found to be better.
"""


def to_latex(tables: Iterable[Table]) -> str:
    """Return one ``table`` of LaTeX for every block of the leaderboard's tables, its notes behind it.

    A page ends after each, so that a document of all of them compiles.

    Args:
        tables: What `build_tables` made.
    """
    parts = [_float(table, block, number) for table in tables for number, block in enumerate(blocks(table), start=1)]
    return "\n".join([_HEAD, *parts])


def _float(table: Table, block: Block, number: int) -> str:
    caption = escape_latex(f"{table.heading}. {block.title}" if block.title else table.heading)
    label = slug(table.heading, str(number))
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        _tabular(table, block),
        r"\end{table}",
    ]
    notes = [rf"$^{{{mark}}}$~{escape_latex(table.footnotes[mark - 1])}" for mark in sorted(_marks_of(table, block))]
    if notes:  # outside the float, which no page break divides
        lines.append("{\\footnotesize\\noindent\\raggedright\n" + "\\par\n".join(notes) + "\n\\par}")
    return "\n".join([*lines, r"\clearpage", ""])


def _tabular(table: Table, block: Block) -> str:
    """Return the rows, through pandas."""
    import pandas as pd

    heads = ["Model", "Variant", "Training"]
    heads += [
        escape_latex(label) + _marks(table.columns[position].notes)
        for position, label in zip(block.columns, block.labels, strict=True)
    ]
    frame = pd.DataFrame([list(_line(row, block)) for row in table.rows], columns=heads)
    text: str = frame.to_latex(index=False, escape=False, column_format="lll" + "r" * len(block.columns))
    return text.rstrip()


def _line(row: TableRow, block: Block) -> Iterator[str]:
    yield escape_latex(row.model) + _marks(row.notes)
    yield escape_latex(row.variant)
    yield escape_latex(row.training)
    for position in block.columns:
        yield _cell(row.cells[position])


def _cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    return (rf"\textbf{{{text}}}" if cell.best else text) + _marks(cell.notes)


def _marks(notes: Sequence[int]) -> str:
    return f"$^{{{','.join(map(str, notes))}}}$" if notes else ""


def _marks_of(table: Table, block: Block) -> set[int]:
    """Return the numbers of the footnotes that a block refers to."""
    found = {mark for position in block.columns for mark in table.columns[position].notes}
    for row in table.rows:
        found.update(row.notes, *(row.cells[position].notes for position in block.columns))
    return found
