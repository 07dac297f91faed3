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

    from mlipbench.comparison.collect import RunRecord
    from mlipbench.errors import MlipbenchError
    from mlipbench.report.table import Table


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """What was written.

    Attributes:
        csv: The tidy table.
        markdown: The tables for readers.
        tables: The tables as data.
    """

    csv: Path
    markdown: Path
    tables: tuple[Table, ...]


def write(records: Sequence[RunRecord], directory: Path, problems: list[MlipbenchError] | None = None) -> Leaderboard:
    """Write ``leaderboard.csv`` and ``leaderboard.md``, each whole or not at all.

    Args:
        records: What `collect` found.
        directory: Where to write; made if it does not exist.
        problems: Takes what is wrong with files of scores; without it damaged ones are raised.

    Raises:
        MlipbenchError: The files cannot be written.
        ResultsError: A file of scores is damaged.
    """
    tables = build_tables(records, problems)
    board = Leaderboard(directory / "leaderboard.csv", directory / "leaderboard.md", tables)
    write_atomically(board.csv, to_csv(leaderboard_rows(records, tables)).encode())
    write_atomically(board.markdown, to_markdown(records, tables).encode())
    return board


@dataclass(frozen=True, slots=True)
class Publication:
    """What was written beside that.

    Attributes:
        html: The page.
        latex: The tables for papers.
        figures: The plots.
    """

    html: Path
    latex: Path
    figures: tuple[Path, ...]


def publish(
    records: Sequence[RunRecord],
    board: Leaderboard,
    directory: Path,
    figures_in: Path | None = None,
    problems: list[MlipbenchError] | None = None,
) -> Publication:
    """Write ``leaderboard.html`` and ``leaderboard.tex``, and the plots where that is wanted.

    Args:
        records: What `collect` found.
        board: What `write` made of them.
        directory: Where to write; made if it does not exist.
        figures_in: Where to write the plots, None where they stand on the page alone.
        problems: Takes what is wrong with files of scores; without it damaged ones are raised.

    Raises:
        MlipbenchError: The files cannot be written.
        ResultsError: A file of scores is damaged.
    """
    from mlipbench.report.exports import write_figures
    from mlipbench.report.latex import to_latex
    from mlipbench.report.page.page import to_html
    from mlipbench.report.plots import figures

    found = figures(board.tables, problems)
    html, latex = directory / "leaderboard.html", directory / "leaderboard.tex"
    write_atomically(html, to_html(records, board.tables, found, problems).encode())
    write_atomically(latex, to_latex(board.tables).encode())
    return Publication(html, latex, () if figures_in is None else write_figures(found, figures_in))
