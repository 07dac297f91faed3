"""How wide tables are cut into pieces that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mlipbench.metrics.values import Direction

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlipbench.report.table import Column, Table

_MOST_COLUMNS: Final = 6
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
        return tuple(_families(columns))
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


def _families(columns: Sequence[Column]) -> Iterator[Block]:
    """Yield what costs are about, the metrics of one thing beside each other."""
    several = len({column.head for column in columns}) > 1
    for about, conditions in dict.fromkeys((column.about, column.conditions) for column in columns):
        positions = tuple(
            position
            for position, column in enumerate(columns)
            if (column.about, column.conditions) == (about, conditions)
        )
        labels = tuple(
            f"{columns[position].head}: {_quantity(columns[position])}" if several else _quantity(columns[position])
            for position in positions
        )
        title = f"{about or 'Accuracy'}, {conditions}" if conditions else about or "Accuracy"
        yield Block(title, positions, labels)


def superscript(notes: Iterable[int]) -> str:
    """Return the marks of some footnotes, such as ``¹,³``."""
    return ",".join(str(note).translate(_DIGITS) for note in notes)


def _quantity(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    return f"{column.title}{unit}{_ARROWS[column.direction]}"
