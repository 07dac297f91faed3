"""How wide tables are cut into pieces that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.metrics.values import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlipbench.report.table import Cell, Column, Table

_MOST_COLUMNS: Final = 6
_MOST_COSTS: Final = 9
_MOST_SPLITS: Final = 2
_ARROWS: Final = MappingProxyType({Direction.LOWER: " ↓", Direction.HIGHER: " ↑", Direction.NEITHER: ""})
_DIGITS: Final = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Block:
    """Some columns of a table that are shown together.

    Attributes:
        title: What they have in common; empty where they are the whole table.
        columns: Positions of the columns.
        labels: Heads of the columns.
    """

    title: str
    columns: tuple[int, ...]
    labels: tuple[str, ...]


def blocks(table: Table, *, by_metric: bool = False) -> tuple[Block, ...]:
    """Return the blocks a table is shown in: all at once where that is narrow, else metric by metric and unit by unit.

    Args:
        table: The table.
        by_metric: Whether to show it metric by metric even where it is narrow.
    """
    columns = table.columns
    if any(column.about for column in columns) and len({column.head for column in columns}) <= _MOST_SPLITS:
        return tuple(_families(columns, whole=len(columns) <= _MOST_COSTS))
    if len(columns) <= _MOST_COLUMNS and not by_metric:
        labels = tuple(f"{column.head}: {_quantity(column)}" for column in columns)
        return (Block("", tuple(range(len(columns))), labels),)
    found = []
    for quantity in dict.fromkeys((column.metric, column.unit) for column in columns):
        positions = tuple(
            position for position, column in enumerate(columns) if (column.metric, column.unit) == quantity
        )
        labels = tuple(columns[position].head for position in positions)
        first = columns[positions[0]]
        title = f"{_quantity(first)}, {first.conditions}" if first.conditions else _quantity(first)
        found.append(Block(title, positions, labels))
    return tuple(found)


def _families(columns: Sequence[Column], *, whole: bool) -> Iterator[Block]:
    """Yield what costs are about, the metrics of one thing beside each other; a few are not divided."""
    several = len({column.head for column in columns}) > 1
    devices = list(dict.fromkeys(column.conditions for column in columns if column.conditions))
    together = whole and len(devices) <= 1
    families: dict[str, list[int]] = {}
    for position, column in enumerate(columns):
        title = ", ".join(filter(None, [column.about or "Accuracy", column.conditions]))
        families.setdefault(f"Times on {devices[0]}" if together and devices else title, []).append(position)
    for title, positions in families.items():
        heads = [f"{columns[position].head}: " if several else "" for position in positions]
        labels = (head + _quantity(columns[position]) for head, position in zip(heads, positions, strict=True))
        yield Block(title, tuple(positions), tuple(labels))


def rank_text(cell: Cell) -> str:
    """Return what stands behind a number that has a rank, such as `` · 2-4``; empty where it has none."""
    if cell.rank is None:
        return ""
    low, high = cell.rank
    return f" · {low}" if low == high else f" · {low}-{high}"


def superscript(notes: Iterable[int]) -> str:
    """Return the marks of some footnotes, such as ``¹,³``."""
    return ",".join(str(note).translate(_DIGITS) for note in notes)


def _quantity(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.title}{unit}{_ARROWS[column.direction]}{column.limit}"
