"""Writing the leaderboard's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlipbench.report.markdown import to_markdown
from mlipbench.report.rows import leaderboard_rows, to_csv
from mlipbench.report.table import build_tables
from mlipbench.store.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlipbench.report.collect import RunRecord
    from mlipbench.report.table import Table


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """What was written.

    Attributes:
        csv: The tidy table.
        markdown: The page.
        tables: The tables of the page.
    """

    csv: Path
    markdown: Path
    tables: tuple[Table, ...]


def write(records: Sequence[RunRecord], directory: Path) -> Leaderboard:
    """Write ``leaderboard.csv`` and ``leaderboard.md``, each whole or not at all.

    Args:
        records: What `collect` found.
        directory: Where to write; made if it does not exist.

    Raises:
        MlipbenchError: The files cannot be written.
        ResultsError: A file of scores is damaged.
    """
    tables = build_tables(records)
    board = Leaderboard(directory / "leaderboard.csv", directory / "leaderboard.md", tables)
    write_atomically(board.csv, to_csv(leaderboard_rows(records, tables)).encode())
    write_atomically(board.markdown, to_markdown(records, tables).encode())
    return board
