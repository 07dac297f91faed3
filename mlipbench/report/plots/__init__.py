"""The plots of the leaderboard, as Vega-Lite specifications made from metrics and scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlipbench.report.plots.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlipbench.report.collect import RunRecord
    from mlipbench.report.table import Table

__all__ = ["Figure", "figures", "notes"]


def figures(records: Sequence[RunRecord], tables: Sequence[Table]) -> tuple[Figure, ...]:
    """Return the plots that some runs have data for, in the order of the page.

    Every kind of plot is a module here whose function of the same name takes the same and yields its figures.

    Args:
        records: What `collect` found.
        tables: What `build_tables` made of them.

    Raises:
        ResultsError: A file of scores or distributions is damaged.
    """
    from mlipbench.report.plots import density, errors, gap, pareto, rdf, scaling, survival

    kinds = (pareto, errors, density, gap, survival, rdf, scaling)
    return tuple(figure for kind in kinds for figure in kind.figures(records, tables))


def notes(tables: Sequence[Table]) -> tuple[str, ...]:
    """Say which plots are left out because runs keep nothing for them, a sentence each.

    Args:
        tables: What `build_tables` made of the runs.

    Raises:
        ResultsError: A file of distributions is damaged.
    """
    from mlipbench.report.plots import density, rdf

    return tuple(note for kind in (density, rdf) for note in kind.notes(tables))
