"""The tables of the leaderboard as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlipbench.report.layout import blocks, rank_text

if TYPE_CHECKING:
    from mlipbench.report.layout import Block
    from mlipbench.report.page.anchors import Anchors
    from mlipbench.report.table import Cell, Column, Table, TableRow


@dataclass(frozen=True, slots=True)
class GridCell:
    """One cell.

    Attributes:
        text: The number, or a word.
        interval: Its interval in brackets, and the ranks it can have; empty where there are none.
        sort: What the column is sorted by, None where there is no number.
        href: Where the number stands in the section of its run; empty where there is none.
        best: Whether no model of the column was found to be better.
        unranked: Why it was not compared with others; empty where it was.
        notes: Numbers of footnotes.
    """

    text: str
    interval: str
    sort: float | None
    href: str
    best: bool
    unranked: str
    notes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GridRow:
    """One run, or one model of a publication.

    Attributes:
        model: Its name.
        about: Variant and training, and the run where several would look alike.
        href: Where its section stands.
        unranked: Why none of its numbers was compared with others; empty where one was.
        notes: Numbers of footnotes.
        cells: One for each column of the grid.
    """

    model: str
    about: str
    href: str
    unranked: str
    notes: tuple[int, ...]
    cells: tuple[GridCell, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a column.

    Attributes:
        text: What it says.
        better: ``lower``, ``higher`` or ``neither``.
        notes: Numbers of footnotes.
    """

    text: str
    better: str
    notes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Some columns of a table that are shown together.

    Attributes:
        caption: What they have in common, and where they belong.
        title: What they have in common; empty where they are the whole table.
        heads: The columns.
        rows: One for each run, or model of a publication.
    """

    caption: str
    title: str
    heads: tuple[Head, ...]
    rows: tuple[GridRow, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One table of the leaderboard.

    Attributes:
        anchor: Name of the section.
        title: Dataset and task.
        about: Sentences on the data.
        grids: The table in pieces that can be read.
        footnotes: Texts of the footnotes; number 1 is the first.
        n_rows: Rows of every grid.
        published: Whether the numbers are published ones.
    """

    anchor: str
    title: str
    about: tuple[str, ...]
    grids: tuple[Grid, ...]
    footnotes: tuple[str, ...]
    n_rows: int
    published: bool


def section(table: Table, anchors: Anchors) -> Section:
    """Return a table as the page shows it.

    Args:
        table: The table.
        anchors: Where runs and numbers stand.
    """
    title = table.heading
    grids = tuple(_grid(table, block, title, anchors) for block in blocks(table))
    anchor = anchors.take("table", title)
    published = bool(table.published)
    return Section(anchor, title, table.about, grids, table.footnotes, len(table.rows), published)


def _grid(table: Table, block: Block, title: str, anchors: Anchors) -> Grid:
    columns = [table.columns[position] for position in block.columns]
    heads = tuple(
        Head(label, column.direction.value, column.notes) for label, column in zip(block.labels, columns, strict=True)
    )
    caption = f"{title}. {block.title}" if block.title else title
    return Grid(caption, block.title, heads, tuple(_row(row, block, columns, anchors) for row in table.rows))


def _row(row: TableRow, block: Block, columns: list[Column], anchors: Anchors) -> GridRow:
    cells = (
        _cell(row, row.cells[position], column, anchors)
        for position, column in zip(block.columns, columns, strict=True)
    )
    href = "" if row.run is None else anchors.run(row.run)
    measured = row.run is not None and row.run.reference is None
    model = row.run.model if row.run is not None and measured else row.model
    own = row.run.run_id if row.run is not None and row.model != model else ""
    about = " · ".join(filter(None, [row.variant if measured else "", row.training, own]))
    return GridRow(model, about, href, row.unranked or "", row.notes, tuple(cells))


def _cell(row: TableRow, cell: Cell, column: Column, anchors: Anchors) -> GridCell:
    number, bracket, rest = cell.text.partition(" [")
    value = None if cell.record is None else cell.record.value
    href = "" if row.run is None or cell.record is None else anchors.number(row.run, cell.record)
    return GridCell(
        text=number,
        interval=f"[{rest}{rank_text(cell)}" if bracket else rank_text(cell),
        sort=None if value is None else value * column.factor,
        href=href,
        best=cell.best,
        unranked=cell.unranked or "",
        notes=cell.notes,
    )
